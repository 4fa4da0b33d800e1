"""Edits of a table: which chains to make, which rules to put where, which chains to remove.

Both variants of iptables edit a table the same way and treat others' rules alike, so that is decided here, over rules
in whatever form the variant compares them in: bytes of the legacy kernel interface, or lines of iptables-nft-save.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

import msgspec

from kproxy.backends.iptables.rules.diff import ChainChange, Hunk, edit_script
from kproxy.backends.iptables.rules.ruleset import Chain

T = TypeVar("T", bound=Hashable)
T_co = TypeVar("T_co", covariant=True)


class TableEdit(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What to do to one table, in this order, all in one commit."""

    fill: Mapping[str, tuple[T, ...]] = {}
    """Chains to make, with their rules, which may jump to each other."""
    hunks: Mapping[str, tuple[Hunk[T], ...]] = {}
    """What to change in chains that are there, each numbered as before any of its changes."""
    remove: tuple[str, ...] = ()
    """Chains to remove, which the hunks have emptied; one that others' rules jump to stays, empty."""

    @property
    def chains(self) -> frozenset[str]:
        """All chains this touches."""
        return frozenset((*self.fill, *self.hunks, *self.remove))

    def coming(self, where: Callable[[str], object] = bool) -> Iterator[tuple[str, T]]:
        """Yield the rules that come, with their chains, of those chains that are asked for."""
        for chain in filter(where, self.fill):
            yield from ((chain, rule) for rule in self.fill[chain])
        for chain in filter(where, self.hunks):
            yield from ((chain, rule) for hunk in self.hunks[chain] for rule in hunk.new)

    def going(self, where: Callable[[str], object] = bool) -> Iterator[tuple[str, T]]:
        """Yield the rules that go, with their chains, of those chains that are asked for."""
        for chain in filter(where, self.hunks):
            yield from ((chain, rule) for hunk in self.hunks[chain] for rule in hunk.old)

    def split(
        self, early: Collection[T] = frozenset(), late: Collection[T] = frozenset()
    ) -> tuple["TableEdit[T]", "TableEdit[T]"]:
        """Return two edits that one after the other do the same: the first only adds, the second only removes.

        All but for rules that go ``early``, by the first, and those that come ``late``, by the second. In between, what
        comes stands before what it replaces: whoever is meant by a new rule finds it, even where an old one leads
        elsewhere for good.
        """
        fill = self.fill
        first: dict[str, tuple[Hunk[T], ...]] = {}
        last: dict[str, tuple[Hunk[T], ...]] = {}
        if late:
            fill = {chain: tuple(rule for rule in rules if rule not in late) for chain, rules in self.fill.items()}
            last = {chain: tuple(_additions(0, rules, late)) for chain, rules in self.fill.items()}
        for chain, hunks in self.hunks.items():
            first[chain] = last[chain] = ()
            shift = 0
            for at, old, new in hunks:
                come = tuple(rule for rule in new if rule not in late)
                stay = tuple(rule for rule in old if rule not in early)
                gone = (Hunk(at + number, (rule,), ()) for number, rule in enumerate(old) if rule in early)
                first[chain] += (Hunk(at, (), come), *gone) if come else (*gone,)
                last[chain] += tuple(_additions(at + shift, new, late))
                shift += len(come)
                last[chain] += (Hunk(at + shift, stay, ()),) if stay else ()
                shift += len(stay) - len(old)
        return (
            TableEdit(fill=fill, hunks={chain: hunks for chain, hunks in first.items() if hunks}),
            TableEdit(hunks={chain: hunks for chain, hunks in last.items() if hunks}, remove=self.remove),
        )


def _additions(at: int, rules: Iterable[T], late: Collection[T]) -> Iterator[Hunk[T]]:
    """Yield what puts the late ones of some rules into their places among the others, which begin at ``at``."""
    for rule in rules:
        if rule in late:
            yield Hunk(at, (), (rule,))
        else:
            at += 1


def heirs(hunk: Hunk[T], destination: Callable[[T], bytes | str]) -> dict[int, int]:
    """Return which new rules of a place shall take over the counters of which old ones, by their numbers in it.

    A rule that sends to the same destination as before is the same one to whoever counts connections, even if it had to
    be rewritten: in a draw, each change of the number of endpoints changes the chances of those that stay.
    ``destination`` tells where a rule sends connections to; nothing, if to nowhere.
    """
    before = {destination(rule): number for number, rule in enumerate(hunk.old)}
    places = ((number, destination(rule)) for number, rule in enumerate(hunk.new))
    return {number: before[found] for number, found in places if found and found in before}


def edit_for_change(changes: Mapping[str, ChainChange], form: Callable[[str, Chain], Sequence[T]]) -> TableEdit[T]:
    """Return the edit that makes a change; ``form`` puts rules of a named chain into the variant's form."""
    fill: dict[str, tuple[T, ...]] = {}
    hunks: dict[str, tuple[Hunk[T], ...]] = {}
    for chain, (old, new) in changes.items():
        if old is None:
            fill[chain] = tuple(form(chain, new or ()))
            continue
        script = edit_script(old, new or ())
        if script:
            hunks[chain] = tuple(
                Hunk(hunk.at, tuple(form(chain, hunk.old)), tuple(form(chain, hunk.new))) for hunk in script
            )
    return TableEdit(fill=fill, hunks=hunks, remove=tuple(name for name, (_, new) in changes.items() if new is None))


class Lazily(Mapping[str, T_co]):
    """A mapping whose values are made when asked for, and not kept: a table's worth of them would be tens of MiB."""

    def __init__(self, keys: Collection[str], make: Callable[[str], T_co]) -> None:
        self._keys = keys
        self._make = make

    def __getitem__(self, key: str) -> T_co:
        if key not in self._keys:
            raise KeyError(key)
        return self._make(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: object) -> bool:
        return key in self._keys


class TableContent(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A whole table as it was found, and how to read it."""

    chains: Mapping[str, Sequence[T]]
    builtins: Collection[str]
    target: Callable[[T], str]
    """Names the chain that a rule leads to."""


def edit_for_repair(
    found: TableContent[T],
    wanted: Mapping[str, Sequence[T]],
    hooks: Mapping[str, Sequence[T]],
    is_ours: Callable[[str], bool],
) -> TableEdit[T]:
    """Return the edit that makes our part of a table as wanted and leaves all the rest alone.

    ``hooks`` are by built-in chain, in the order in which they shall stand at its top. A wanted chain that is not ours
    is shared: it only gets what it lacks.
    """
    kernel = found.chains
    hunks = {builtin: _see_to_hooks(found, builtin, hooks.get(builtin, ()), is_ours) for builtin in found.builtins}
    # At a first start that is the whole table, which libiptc is about to copy: no need to have it in memory twice.
    fill = Lazily(dict.fromkeys(chain for chain in wanted if chain not in kernel), lambda chain: tuple(wanted[chain]))
    for chain in wanted:
        if chain not in fill:
            present, rules = kernel[chain], wanted[chain]
            hunks[chain] = edit_script(present, rules) if is_ours(chain) else _missing(present, rules)
    gone = [chain for chain in kernel if is_ours(chain) and chain not in wanted]
    for chain in gone:
        hunks[chain] = edit_script(kernel[chain], ())
    others = [chain for chain in kernel if not is_ours(chain) and chain not in found.builtins]
    held = {found.target(rule) for chain in others for rule in kernel[chain]}
    return TableEdit(
        fill=fill,
        hunks={chain: script for chain, script in hunks.items() if script},
        remove=tuple(chain for chain in gone if chain not in held),
    )


def _see_to_hooks(
    found: TableContent[T], builtin: str, hooks: Sequence[T], is_ours: Callable[[str], bool]
) -> tuple[Hunk[T], ...]:
    """Keep the first of each hook, remove its doubles and other jumps to our chains, put missing ones at the top."""
    rules = found.chains[builtin]
    present: set[T] = set()
    kept: list[T] = []
    for rule in rules:
        if rule in hooks:
            if rule in present:
                continue
            present.add(rule)
        elif is_ours(found.target(rule)):
            continue  # left by an older kube-proxy, or by an older kproxy
        kept.append(rule)
    return edit_script(rules, [rule for rule in hooks if rule not in present] + kept)


def _missing(present: Sequence[T], wanted: Sequence[T]) -> tuple[Hunk[T], ...]:
    missing = tuple(rule for rule in wanted if rule not in present)
    return (Hunk(len(present), (), missing),) if missing else ()
