"""The order of the commits of one step: what a packet meets in between is what was, or what will be.

A table is replaced at once, but nat and filter one after the other. A packet is asked about by nat first; one that nat
sends on has another destination by then, and filter's lists, which speak of frontends, mean all others. So a frontend
is safe if filter's rules about it change

* before nat's commit, where nat will send on nobody whom it did not send on before: what filter says from now on is
  for those alone who are left to it afterwards, too;
* after it, where nat sends on all whom it did before: what filter says till then is for those who were left to it.

One of the two is always so, whatever becomes of a frontend. By how many nat sends on there are four kinds of it: none
(it is refused, dropped, or nobody's), those in its source ranges (filter drops the others), those on this node (for
whom policy Local is no concern; filter drops the others), all (filter says nothing). Each takes in those of the kind
before, but where filter drops the others of both, and then it makes no difference.

So rules that drop or refuse come before nat's commit and go after it, as long as the frontend is in nat's lists before
and after, or neither. Where it enters them, rules that drop whom it is not for come after, not to meet those whom it is
for; where it leaves them, these rules go before. (A guard that is late lets nobody in: nat sends no stranger on.)

All else, such as what forwards packets of services or keeps the network from 127.0.0.0/8, comes before and goes after:
a moment too much of it is harmless, and one too little not. So does everything where there was nothing before, at a
node's first start: that a guard then drops for a moment those whom it lets in is cheaper than a third commit.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from functools import cached_property
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from kproxy.backends.iptables.kernel.edit import TableEdit
from kproxy.backends.iptables.rules.names import SERVICES, is_below_list, list_of
from kproxy.backends.iptables.rules.ruleset import TableName
from kproxy.plan.claims import Claim

T = TypeVar("T", bound=Hashable)

Steps: TypeAlias = Sequence[tuple[TableName, TableEdit[T]]]
"""Commits, one after the other."""

_DROP = "DROP"


class Reading(NamedTuple, Generic[T]):
    """What can be read off a rule, in whatever form it is."""

    target: Callable[[T], str]
    """The chain, verdict or extension that it leads to."""
    claim: Callable[[T], Claim | None]
    """The frontend that it speaks of, if it is about a single one."""


def commit_order(edits: Mapping[TableName, TableEdit[T]], reading: Reading[T]) -> Steps[T]:
    """Return the commits that make these edits: two, or three where some of filter's must come first and some last."""
    in_filter, in_nat = edits[TableName.FILTER], edits[TableName.NAT]
    steps = [(TableName.FILTER, in_filter), (TableName.NAT, in_nat)]
    if in_filter.chains and in_nat.chains and not (SERVICES in in_nat.fill and not any(in_filter.going())):
        frontends = _Frontends(in_nat, reading)
        comes, goes = _differences(in_filter, reading)
        early, late = set(filter(frontends.leave, goes)), set(filter(frontends.enter, comes))
        first, last = early | (comes - late), late | (goes - early)
        if first and last:  # but what matters to nobody in between may be on either side
            first, last = ({found for found in side if frontends.matter(found)} for side in (first, last))
        if first and last:
            growth, shrinkage = in_filter.split({one.rule for one in early}, {one.rule for one in late})
            steps = [(TableName.FILTER, growth), (TableName.NAT, in_nat), (TableName.FILTER, shrinkage)]
        elif last:
            steps.reverse()
    return [(name, edit) for name, edit in steps if edit.chains]


class _Placed(NamedTuple, Generic[T]):
    """A rule of filter's."""

    place: str
    """Its list, or its chain if that is in none."""
    rule: T


def _differences(edit: TableEdit[T], reading: Reading[T]) -> tuple[set[_Placed[T]], set[_Placed[T]]]:
    """Return the rules that come and those that go, without what only gets another place within its list."""
    come, go = (
        {_Placed(list_of(chain) or chain, rule) for chain, rule in rules if not is_below_list(reading.target(rule))}
        for rules in (edit.coming(), edit.going())
    )
    return come - go, go - come


class _Frontends(Generic[T]):
    """What a step does to the frontends of nat's lists."""

    def __init__(self, in_nat: TableEdit[T], reading: Reading[T]) -> None:
        self._nat = in_nat
        self._reading = reading

    @cached_property
    def _come_and_go(self) -> tuple[Set[Claim | None], Set[Claim | None]]:
        """Those that get a rule there, and those that lose one. That some are None makes no difference."""
        edit, claim = self._nat, self._reading.claim
        come, go = ({claim(rule) for _, rule in rules} for rules in (edit.coming(list_of), edit.going(list_of)))
        return come, go

    def enter(self, found: _Placed[T]) -> bool:
        """Tell whether a rule drops those who may not use a frontend that was not there before."""
        come, go = self._asked(found)
        return come and not go

    def leave(self, found: _Placed[T]) -> bool:
        """Tell whether a rule drops those who might not use a frontend that is there no more."""
        come, go = self._asked(found)
        return go and not come

    def _asked(self, found: _Placed[T]) -> tuple[bool, bool]:
        claim = self._reading.claim(found.rule) if self._reading.target(found.rule) == _DROP else None
        if claim is None:
            return False, False
        come, go = self._come_and_go
        return claim in come, claim in go

    def matter(self, found: _Placed[T]) -> bool:
        """Tell whether anybody may notice on which side of nat's commit a rule changes.

        Nobody does where nat's lists have no part in it, before or after: if the rule refuses all who come by a
        frontend, drops them as within the cluster a policy Local does, or lets health checks pass.
        """
        claim = self._reading.claim(found.rule)
        if claim is None or (self._reading.target(found.rule) == _DROP and found.place != SERVICES):
            return True
        come, go = self._come_and_go
        return claim in come or claim in go
