"""Whose connections the kernel's rule counters have counted.

Only a connection's first packet comes through the nat table, so the counter of the rule that sends to an endpoint is
the number of connections the endpoint was given. Nothing is added to the rules for it.

There may be 250,000 such rules, of which a handful has counted anything since the last reading. So the `Places` of the
rules are listed once for as long as the rules are the same, whoever reads returns bare numbers, in the same order, and
only service ports whose numbers are not what they were are looked at one by one.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from kproxy.backends.base import Counter, Counts, LocalhostCounts, Of
from kproxy.backends.iptables.compile.node import LOCALHOST_ASKED, LOCALHOST_LEFT
from kproxy.backends.iptables.compile.service import ServiceRules
from kproxy.backends.iptables.rules import names
from kproxy.backends.iptables.rules.counted import ABSENT, Place
from kproxy.backends.iptables.rules.ruleset import (
    Chain,
    Comment,
    ConnectionState,
    DestinationNat,
    Drop,
    Reject,
    Rule,
    State,
    TableName,
)
from kproxy.state.model import ServicePortName, endpoint_text

MOST_NEW = 10_000
"""Endpoints of new services that are told of though they have never counted anything."""


class _Span(NamedTuple):
    """Where the numbers of a service port are, and the rules they go with."""

    rules: ServiceRules
    start: int
    end: int
    endpoints: int
    """How many different ones the rules send to."""


class Places:
    """Where the rules are that count, of one ruleset."""

    def __init__(
        self,
        services: Mapping[ServicePortName, ServiceRules],
        filter_chains: Mapping[str, Chain],
        nat: Iterable[Place],
        before: "Places | None" = None,
    ) -> None:
        """``services`` and ``filter_chains`` are not changed any more; ``nat`` are places of no service's.

        With the places of the rules ``before``, only services that have changed are looked into.
        """
        self.services = services
        self.spans: dict[ServicePortName, _Span] = {}
        self._single = {TableName.NAT: tuple(nat), TableName.FILTER: tuple(_invalid(filter_chains))}
        known = before.spans if before is not None else {}
        start = 0
        for name, rules in services.items():
            old = known.get(name)
            if old is None or old.rules is not rules:
                destinations = _destinations(rules)
                old = _Span(rules, 0, len(destinations), len(set(destinations)))
            end = start + old.end - old.start
            self.spans[name] = _Span(rules, start, end, old.endpoints)
            start = end
        self.number_of_endpoints = sum(span.endpoints for span in self.spans.values())
        self._sending = start
        self.owners: list[tuple[ServicePortName, Of]] = []
        """Whose are the numbers of table filter, and what they count."""
        self._refusing = tuple(self._find_refusing(filter_chains))

    def of(self, table: TableName) -> Iterator[Place]:
        """Yield the places in a table, in the order in which numbers are wanted: for each position, one."""
        if table is TableName.FILTER:
            yield from self._refusing
        else:
            for rules in self.services.values():
                yield from _sending(rules)
        yield from self._single[table]

    def _find_refusing(self, chains: Mapping[str, Chain]) -> Iterator[Place]:
        owners = {
            entry.rule: name
            for name, rules in self.services.items()
            for entry in rules.entries
            if isinstance(entry.rule.target, Reject | Drop)
        }
        for chain, rules in chains.items() if owners else ():
            found = [(position, owner) for position, rule in enumerate(rules) if (owner := owners.get(rule))]
            if found:
                self.owners += [
                    (owner, Of.REJECTED if isinstance(rules[position].target, Reject) else Of.DROPPED)
                    for position, owner in found
                ]
                yield Place(chain, len(rules), tuple(position for position, _ in found))

    def counts(self, numbers: "Numbers", before: "tuple[Places, Numbers] | None") -> Counts:
        """Return what the numbers say, as far as it may be other than what those of ``before`` said."""
        filtered = numbers[TableName.FILTER]
        invalid = filtered[len(self.owners)] if len(filtered) > len(self.owners) else ABSENT
        return Counts(
            services=self.services.keys(),
            counters=self._refusals(filtered, before),
            endpoints=dict(self._moved(numbers[TableName.NAT], before)),
            there=dict(self._there(before[0].services if before is not None else {})),
            number_of_endpoints=self.number_of_endpoints,
            invalid_dropped=None if invalid == ABSENT else invalid,
            localhost=self._localhost(numbers[TableName.NAT]),
        )

    def _refusals(
        self, numbers: Sequence[int], before: "tuple[Places, Numbers] | None"
    ) -> Mapping[ServicePortName, Sequence[Counter]]:
        if before is not None and before[0] is self and before[1][TableName.FILTER] == numbers:
            return {}
        refusals: dict[ServicePortName, dict[Of, int]] = {}
        for (name, of), packets in zip(self.owners, numbers, strict=False):  # behind them is the single one
            if packets != ABSENT:
                its = refusals.setdefault(name, {})
                its[of] = its.get(of, 0) + packets
        found = {name: [Counter(of.name, of, packets) for of, packets in its.items()] for name, its in refusals.items()}
        told_before = self.services.keys() if before is None else [name for name, _ in before[0].owners]
        silent: Mapping[ServicePortName, Sequence[Counter]] = dict.fromkeys(told_before, ())
        return {**silent, **found}

    def _moved(
        self, numbers: "array[int]", before: "tuple[Places, Numbers] | None"
    ) -> Iterator[tuple[ServicePortName, Sequence[Counter]]]:
        now, width = memoryview(numbers).cast("B"), numbers.itemsize
        then = memoryview(before[1][TableName.NAT]).cast("B") if before is not None else None
        old_spans = before[0].spans if before is not None else {}
        for name, (rules, start, end, _) in self.spans.items():
            mine = now[start * width : end * width]
            old = old_spans.get(name)
            if old is not None and then is not None:
                if old.rules is rules and then[old.start * width : old.end * width] == mine:
                    continue
            elif before is None and not bytes(mine).strip(b"\0"):
                yield name, ()  # it may have counted for a kproxy before this one
                continue
            packets = numbers[start:end]
            if ABSENT not in packets:
                yield name, _by_endpoint(rules, packets)

    def _there(self, before: Mapping[ServicePortName, ServiceRules]) -> Iterator[tuple[ServicePortName, Sequence[str]]]:
        """Yield the endpoints of services that are not what they were, or new as long as there is room."""
        room = MOST_NEW
        for name, rules in self.services.items():
            if (old := before.get(name)) is not rules:
                found = _destinations(rules)
                room -= len(found) if old is None else 0
                if room >= 0 or old is not None:
                    yield name, found

    def _localhost(self, numbers: Sequence[int]) -> LocalhostCounts | None:
        """Return what came to the node ports by localhost and what they left; None where it is not counted just now."""
        found = iter(numbers[self._sending :])
        sums = {place.chain: [next(found) for _ in place.positions] for place in self._single[TableName.NAT]}
        asked, left = sums.get(names.SERVICES, ()), sums.get(names.NODE_PORTS, ())
        if not asked or not left or ABSENT in (*asked, *left):
            return None
        return LocalhostCounts(sum(asked), sum(left))


Numbers = Mapping[TableName, "array[int]"]
"""What the rules at `Places.of` a table have counted, or ABSENT."""


def _sending(rules: ServiceRules) -> Iterator[Place]:
    """Yield where a service port's rules are that send to an endpoint."""
    for chain, its in rules.chains.items():
        positions = tuple([at for at, rule in enumerate(its) if isinstance(rule.target, DestinationNat)])
        if positions:
            yield Place(chain, len(its), positions)


def _destinations(rules: ServiceRules) -> list[str]:
    """Return where those rules send to, in the same order."""
    return [
        endpoint_text(target.ip, target.port)
        for its in rules.chains.values()
        for rule in its
        if isinstance(target := rule.target, DestinationNat)
    ]


def _by_endpoint(rules: ServiceRules, packets: Sequence[int]) -> Sequence[Counter]:
    found: dict[str, int] = {}
    for endpoint, number in zip(_destinations(rules), packets, strict=True):
        found[endpoint] = found.get(endpoint, 0) + number
    return [Counter(endpoint, Of.CONNECTIONS, number, endpoint) for endpoint, number in found.items()]


def _invalid(chains: Mapping[str, Chain]) -> Iterator[Place]:
    """Yield where packets are dropped because conntrack could not place them."""
    invalid = State(ConnectionState.INVALID)
    rules = chains.get(names.FORWARD, ())
    for position, rule in enumerate(rules):
        if invalid in rule.matches:
            yield Place(names.FORWARD, len(rules), (position,))
            return


def localhost_places(chains: Mapping[str, Chain]) -> Iterator[Place]:
    """Yield where table nat counts what comes to node ports by localhost, and what they leave."""
    for chain, what in ((names.SERVICES, LOCALHOST_ASKED), (names.NODE_PORTS, LOCALHOST_LEFT)):
        rules = chains.get(chain, ())
        positions = tuple(_counting(rules, what))
        if positions:
            yield Place(chain, len(rules), positions)


def _counting(rules: Sequence[Rule], what: str) -> Iterator[int]:
    """Yield the positions of rules that only count, for this purpose; they stand at the end of the chain."""
    comment, any_found = Comment(what), False
    for position in range(len(rules) - 1, -1, -1):
        rule = rules[position]
        if rule.target is None and comment in rule.matches:
            any_found = True
            yield position
        elif any_found or rule.protocol is not None:
            return
