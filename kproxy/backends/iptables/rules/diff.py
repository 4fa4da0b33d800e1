"""What must change to get from one ruleset to another, chain by chain and rule by rule.

A rule that stays is never touched, so it keeps its counters and the change stays as small as it is: lists of frontends
hold thousands of rules, of which one changes.
"""

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Hashable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import msgspec

from kproxy.backends.iptables.rules.ruleset import Chain, RuleSet, TableName

T = TypeVar("T", bound=Hashable)


class Hunk(NamedTuple, Generic[T]):
    """One place of a chain: from number ``at`` on, ``old`` gives way to ``new``."""

    at: int
    old: tuple[T, ...]
    new: tuple[T, ...]


def edit_script(old: Sequence[T], new: Sequence[T]) -> tuple[Hunk[T], ...]:
    """Return what to do to ``old``, in order and numbered as in ``old``, to get ``new``.

    As many rules stay as can without changing their order, where no rule occurs twice; never many fewer.
    """
    start, stop = 0, min(len(old), len(new))
    while start < stop and (old[start] is new[start] or old[start] == new[start]):
        start += 1
    tail = 0
    while tail < stop - start and (old[-1 - tail] is new[-1 - tail] or old[-1 - tail] == new[-1 - tail]):
        tail += 1
    old_middle, new_middle = old[start : len(old) - tail], new[start : len(new) - tail]
    hunks: list[Hunk[T]] = []
    old_done = new_done = 0
    for old_index, new_index in [*_kept(old_middle, new_middle), (len(old_middle), len(new_middle))]:
        if old_index > old_done or new_index > new_done:
            gone, come = tuple(old_middle[old_done:old_index]), tuple(new_middle[new_done:new_index])
            hunks.append(Hunk(start + old_done, gone, come))
        old_done, new_done = old_index + 1, new_index + 1
    return tuple(hunks)


def _kept(old: Sequence[T], new: Sequence[T]) -> list[tuple[int, int]]:
    """Return (old, new) numbers of rules to keep: a longest increasing run of equal rules paired in order."""
    places: defaultdict[T, deque[int]] = defaultdict(deque)
    for index, rule in enumerate(old):
        places[rule].append(index)
    pairs = [(places[rule].popleft(), index) for index, rule in enumerate(new) if places.get(rule)]
    # Patience sorting: smallest_ends[n] is the smallest old number that ends an increasing run of n + 1 pairs.
    smallest_ends: list[int] = []
    run_ends: list[int] = []  # the pair that each of them belongs to
    before: list[int] = []  # for each pair, the one before it in its run
    for number, (old_index, _) in enumerate(pairs):
        length = bisect_left(smallest_ends, old_index)
        before.append(run_ends[length - 1] if length else -1)
        if length == len(run_ends):
            smallest_ends.append(old_index)
            run_ends.append(number)
        else:
            smallest_ends[length], run_ends[length] = old_index, number
    kept = []
    number = run_ends[-1] if run_ends else -1
    while number >= 0:
        kept.append(pairs[number])
        number = before[number]
    return kept[::-1]


class ChainChange(NamedTuple):
    """One chain before and after; None where it is not there."""

    old: Chain | None
    new: Chain | None


class RuleSetChange(msgspec.Struct, frozen=True):
    """A step from one ruleset to the next."""

    after: RuleSet
    """The whole of the wanted ruleset, for the case that the kernel is found to hold something else than expected."""
    filter: Mapping[str, ChainChange]
    nat: Mapping[str, ChainChange]
    hooks_changed: bool = False

    def table(self, name: TableName) -> Mapping[str, ChainChange]:
        """Return the changed chains of the table of that name."""
        return self.filter if name is TableName.FILTER else self.nat


def diff(old: RuleSet, new: RuleSet) -> RuleSetChange:
    """Return the step from ``old`` to ``new``."""
    return RuleSetChange(
        after=new,
        filter=_changed_chains(old.filter.chains, new.filter.chains),
        nat=_changed_chains(old.nat.chains, new.nat.chains),
        hooks_changed=old.filter.hooks != new.filter.hooks or old.nat.hooks != new.nat.hooks,
    )


def _changed_chains(old: Mapping[str, Chain], new: Mapping[str, Chain]) -> dict[str, ChainChange]:
    changed = {name: ChainChange(before, new.get(name)) for name, before in old.items() if before != new.get(name)}
    return changed | {name: ChainChange(None, after) for name, after in new.items() if name not in old}
