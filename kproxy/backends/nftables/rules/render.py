"""Spells rulesets and changes as nft reads them.

The text of a whole ruleset is meant for people, too, and sorted; that of a change is the script of one transaction, in
an order in which everything is there before it is referred to, and referred to no more when it goes.
"""

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from kproxy.backends.nftables.rules import names
from kproxy.backends.nftables.rules.change import Change
from kproxy.backends.nftables.rules.ruleset import (
    Accept,
    CameBy,
    Chain,
    Chance,
    Column,
    Count,
    CountFor,
    Data,
    Deliver,
    DeliverTo,
    Elements,
    FlipMark,
    FromPrefix,
    GoTo,
    GoToFound,
    InStates,
    Jump,
    Key,
    Marked,
    Member,
    Numbers,
    Own,
    PortIs,
    Redirect,
    Remember,
    Returning,
    Rule,
    RuleSet,
    SetMark,
    SetSpec,
    SourceNat,
    Speaks,
    State,
    Term,
    ToPrefixes,
    Translated,
    Turn,
    Unjudged,
    Verdict,
)
from kproxy.state.model import IPFamily, Protocol

FAMILIES = {IPFamily.IPV4: "ip", IPFamily.IPV6: "ip6"}
"""What nft calls the families of addresses, as the family of a table and in front of ``saddr``."""

_NUMBER = "numgen random mod 2"
"""An expression that has the type of random numbers; nft has no name for it."""

_MOST_REMEMBERED = 1 << 18
"""Clients a set can remember. The kernel makes room for them at once: 4 MiB."""


class Renderer:
    """Renders for one address family. ``place`` says at which of so many places a turn begins."""

    def __init__(self, family: IPFamily, place: Callable[[int], int] = lambda _: 0) -> None:
        self._ip = FAMILIES[family]
        self.table = f"{self._ip} {names.TABLE}"
        """The table, as commands name it."""
        self._writers: dict[type[Any], Callable[[Any], str]] = _WRITERS | {
            Member: self._member,
            GoToFound: self._go_to_found,
            FromPrefix: self._from_prefix,
            ToPrefixes: self._to_prefixes,
            Returning: self._returning,
            Remember: self._remember,
            Deliver: self._deliver,
            Turn: lambda term: f"numgen inc mod {term.of} {place(term.of)}",
        }

    # --- a whole ruleset -------------------------------------------------------------------------------------------

    def ruleset(self, ruleset: RuleSet) -> str:
        """Return a ruleset as ``nft -f`` reads it."""
        return "\n".join((f"table {self.table} {{", *self._blocks(ruleset), "}", ""))

    def _blocks(self, ruleset: RuleSet) -> Iterator[str]:
        for counter in sorted(ruleset.counters):
            yield f"\tcounter {counter} {{ }}"
        for name, spec in sorted(ruleset.sets.items()):
            yield f"\t{_kind(spec)} {name} {{"
            yield from (f"\t\t{line}" for line in self._declaration(spec))
            elements = ruleset.elements.get(name)
            if elements:
                lines = ",\n".join(f"\t\t\t{_element(key, elements[key])}" for key in sorted(elements, key=_by_value))
                yield f"\t\telements = {{\n{lines}\n\t\t}}"
            yield "\t}"
        for name, chain in sorted(ruleset.chains.items()):
            yield f"\tchain {name} {{"
            if chain.hook is not None:
                yield f"\t\t{_hook(chain)}"
            yield from (f"\t\t{self.rule(rule)}" for rule in chain.rules)
            yield "\t}"

    def _declaration(self, spec: SetSpec) -> Iterator[str]:
        # By typeof, never by type: older versions of nft crash on what newer ones note down of types, see kernel/notes.
        leads_to = " : verdict" if spec.verdicts else f" : {self._expressions(spec.data, spec)}" if spec.data else ""
        yield f"typeof {self._expressions(spec.columns, spec)}{leads_to}"
        if spec.ranges:
            yield "flags interval"
        if spec.remembers:
            yield f"size {_MOST_REMEMBERED}"
            yield "flags dynamic,timeout"
        if spec.counted:
            yield "counter"

    def _expressions(self, columns: tuple[Column, ...], spec: SetSpec) -> str:
        return " . ".join(_NUMBER if column is Column.NUMBER else self._of(column, spec.protocol) for column in columns)

    def _of(self, column: Column, protocol: Protocol | None) -> str:
        """Return the expression for what a packet has in a column."""
        match column:
            case Column.PROTOCOL:
                return "meta l4proto"
            case Column.PORT:
                return f"{protocol or 'th'} dport"
        return f"{self._ip} {column.value}"

    def _packet(self, columns: tuple[Column, ...], protocol: Protocol | None) -> str:
        return " . ".join(self._of(column, protocol) for column in columns)

    # --- rules -----------------------------------------------------------------------------------------------------

    def rule(self, rule: Rule) -> str:
        """Return a rule without its chain."""
        return " ".join(self._term(term) for term in rule)

    def _term(self, term: Term) -> str:
        return self._writers[type(term)](term)

    def _member(self, term: Member) -> str:
        return f"{self._packet(term.columns, term.protocol)} @{term.set}"

    def _go_to_found(self, term: GoToFound) -> str:
        return f"{self._packet(term.columns, term.protocol)} vmap @{term.map}"

    def _from_prefix(self, term: FromPrefix) -> str:
        return f"{self._ip} saddr {'!= ' if term.inverted else ''}{term.cidr}"

    def _to_prefixes(self, term: ToPrefixes) -> str:
        several = f"{{ {', '.join(term.cidrs)} }}" if len(term.cidrs) > 1 else term.cidrs[0]
        return f"{self._ip} daddr {'!= ' if term.inverted else ''}{several}"

    def _returning(self, term: Returning) -> str:
        return f"{self._ip} saddr . {_constants(term.of)} @{term.set}"

    def _remember(self, term: Remember) -> str:
        return f"update @{term.set} {{ {self._ip} saddr . {_constants(term.of)} timeout {term.seconds}s }}"

    def _deliver(self, term: Deliver) -> str:
        key = f"{self._packet(term.columns, term.protocol)} . numgen random mod {term.draw}"
        return f"dnat {self._ip} addr . port to {key} map @{term.map}"

    # --- changes ---------------------------------------------------------------------------------------------------

    def change(self, change: Change) -> str:
        """Return the script of a change, all of it one transaction.

        Chains that go are emptied only: see `applier` on when they can be removed.
        """
        return "\n".join((*self.frame(change), *self._changed_elements(change), *self._leaving(change), ""))

    def frame(self, change: Change) -> Iterator[str]:
        """Yield the commands that bring sets and chains, but no elements."""
        table = self.table
        yield from (f"add counter {table} {counter}" for counter in sorted(change.counters_come))
        for name, spec in sorted(change.sets_come.items()):
            yield self.add_set(name, spec)
        yield from self.rewrite_chains(change.chains_come, change.chains_gone)

    def rewrite_chains(self, come: Mapping[str, Chain], gone: Iterable[str] = ()) -> Iterator[str]:
        """Yield the commands after which chains have these rules, whatever they had before, or none."""
        for name, chain in sorted(come.items()):
            yield f"add chain {self.table} {name}" + (f" {{ {_hook(chain)} }}" if chain.hook else "")
        yield from (f"flush chain {self.table} {name}" for name in sorted((*come, *gone)))
        for name, chain in sorted(come.items()):
            yield from (f"add rule {self.table} {name} {self.rule(rule)}" for rule in chain.rules)

    def add_set(self, name: str, spec: SetSpec) -> str:
        """Return the command that makes a set."""
        return f"add {_kind(spec)} {self.table} {name} {{ {'; '.join(self._declaration(spec))}; }}"

    def _changed_elements(self, change: Change) -> Iterator[str]:
        for name, elements in sorted(change.elements_gone.items()):
            yield self.delete_elements(name, elements)
        for name, elements in sorted(change.elements_come.items()):
            yield self.add_elements(name, elements.items())

    def _leaving(self, change: Change) -> Iterator[str]:
        yield from (f"delete {_kind(spec)} {self.table} {name}" for name, spec in sorted(change.sets_gone.items()))
        yield from (f"delete counter {self.table} {counter}" for counter in sorted(change.counters_gone))

    def add_elements(self, name: str, elements: Iterable[tuple[Key, Data]]) -> str:
        """Return the command that adds elements to a set."""
        return f"add element {self.table} {name} {{ {', '.join(_element(key, data) for key, data in elements)} }}"

    def delete_elements(self, name: str, keys: Iterable[Key]) -> str:
        """Return the command that removes elements from a set."""
        return f"delete element {self.table} {name} {{ {', '.join(_join(key) for key in keys)} }}"

    def element_batches(self, elements: Mapping[str, Elements], most: int) -> Iterator[str]:
        """Yield commands that add elements, ``most`` at a time."""
        for name, here in sorted(elements.items()):
            items = iter(here.items())
            while batch := list(islice(items, most)):
                yield self.add_elements(name, batch)


def _constants(numbers: Numbers) -> str:
    """Spell numbers where nft takes no constants: as random ones of which there is but one."""
    return " . ".join(f"numgen random mod 1 offset {number}" for number in numbers)


def _kind(spec: SetSpec) -> str:
    return "map" if spec.data or spec.verdicts else "set"


def _hook(chain: Chain) -> str:
    if chain.hook is None:
        return ""
    kind, hook, priority = chain.hook
    return f"type {kind} hook {hook} priority {priority}; policy accept;"


def _join(values: tuple[str | int, ...]) -> str:
    return " . ".join(map(str, values))


def _element(key: Key, data: Data) -> str:
    if data is None:
        return _join(key)
    return f"{_join(key)} : {_join(data) if len(data) > 1 else f'goto {data[0]}'}"


def _by_value(key: Key) -> tuple[Any, ...]:
    """Sort addresses by their bytes and numbers as numbers."""
    return tuple(_value(part) for part in key)


def _value(part: str | int) -> tuple[int, int, str]:
    if isinstance(part, int):
        return 0, part, ""
    try:
        network = ipaddress.ip_network(part)
    except ValueError:
        return 1, 0, part
    return network.prefixlen, int(network.network_address), ""


def _ports(both: tuple[int, int]) -> str:
    first, last = both
    return str(first) if first == last else f"{first}-{last}"


_VERDICTS = {Verdict.MASQUERADE: "masquerade fully-random"}
_WRITERS: dict[type[Any], Callable[[Any], str]] = {
    CameBy: lambda term: f'iifname {"!= " if term.inverted else ""}"{term.interface}"',
    Own: lambda term: f"fib {term.side.value} type local",
    Speaks: lambda term: f"meta l4proto {term.protocol}",
    State: lambda term: f"ct state {term.value}",
    Translated: lambda _: "ct status dnat",
    Marked: lambda term: f"meta mark & {term.bit:#x} != 0",
    Chance: lambda term: f"numgen random mod {term.of} 0",
    SetMark: lambda term: f"meta mark set meta mark | {term.bit:#x}",
    FlipMark: lambda term: f"meta mark set meta mark ^ {term.bit:#x}",
    CountFor: lambda term: f"{_constants(term.of)} @{term.set}",
    Count: lambda term: f'counter name "{term.counter}"',
    DeliverTo: lambda term: f"dnat to {f'[{term.ip}]' if ':' in term.ip else term.ip}:{term.port}",
    PortIs: lambda term: f"th dport {'!= ' if term.inverted else ''}{{ {', '.join(map(_ports, term.ranges))} }}",
    Unjudged: lambda term: f"({term.text})",
    InStates: lambda term: f"ct state {'!= ' if term.inverted else ''}{','.join(sorted(term.states))}",
    SourceNat: lambda _: "snat",
    Redirect: lambda term: f"redirect to :{term.port}" if term.port else "redirect",
    Accept: lambda _: "accept",
    Jump: lambda term: f"jump {term.chain}",
    GoTo: lambda term: f"goto {term.chain}",
    Verdict: lambda term: _VERDICTS.get(term, term.value),
}
