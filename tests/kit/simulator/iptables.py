"""The kernel's part of the play: nat and filter tables as netfilter walks them.

As in the kernel: which hooks a packet passes and in which order, that nat is asked about the first packet of a
connection only, that MASQUERADE and DNAT end the walk through their table, RETURN and goto, the packet mark,
`statistic` (31 random bits below a threshold), `recent`. Rules the kernel would refuse are refused here as well.
"""

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import cache
from typing import NamedTuple, TypeAlias

from kproxy.backends.iptables.rules.ruleset import (
    Accept,
    Comment,
    ConnectionState,
    DestinationNat,
    DestinationPort,
    Drop,
    Interface,
    Jump,
    LocalAddress,
    Mark,
    MasqueradeSource,
    Match,
    Prefix,
    Random,
    RecentCheck,
    RecentSet,
    Reject,
    Return,
    Rule,
    RuleSet,
    SetMark,
    Side,
    State,
    TableName,
)
from tests.kit.simulator import (
    DROPPED,
    REFUSED,
    UNTOUCHED,
    Branch,
    Memory,
    Outcome,
    Packet,
    PacketState,
    Remembered,
    World,
    without_memory,
)

_STATES = {
    PacketState.NEW: ConnectionState.NEW,
    PacketState.ESTABLISHED: ConnectionState.ESTABLISHED,
    PacketState.INVALID: ConnectionState.INVALID,
}
_MAX_DEPTH = 100


class Skb(NamedTuple):
    """What rules can change about a packet on its way."""

    destination: str
    port: int
    translated: bool = False
    mark: int = 0
    masqueraded: bool = False
    memory: Memory = frozenset()


Spread: TypeAlias = dict[Skb, Fraction]
"""The forms a packet may have at some place, with their chances."""


class _Walk(NamedTuple):
    """What came of a walk through a chain."""

    passed: Spread
    """Accepted by a rule: done with this table."""
    refused: Fraction
    dropped: Fraction
    returned: Spread
    """Came to the chain's end."""


def branches(ruleset: RuleSet, packet: Packet, world: World) -> Mapping[Branch, Fraction]:
    """Return all that can become of ``packet``, with chances that add up to one."""
    return _Kernel(ruleset, packet, world).follow()


def outcomes(ruleset: RuleSet, packet: Packet, world: World) -> Mapping[Outcome, Fraction]:
    """Return what can become of ``packet``, with chances that add up to one."""
    return without_memory(branches(ruleset, packet, world))


class _Kernel:
    def __init__(self, ruleset: RuleSet, packet: Packet, world: World) -> None:
        self.ruleset = ruleset
        self.packet = packet
        self.world = world
        self.found: dict[Branch, Fraction] = {}

    # --- the way through the hooks ---------------------------------------------------------------------------------

    def follow(self) -> Mapping[Branch, Fraction]:
        packet = self.packet
        spread: Spread = {Skb(packet.destination, packet.port, memory=self.world.memory): Fraction(1)}
        if not packet.in_interface:
            spread = self._nat("OUTPUT", spread)
            spread = self._nat("POSTROUTING", self._filter("OUTPUT", spread))
            # What the node sends to itself goes round by the loopback interface.
            own, away = self._routed(spread)
            self._arrive({**self._filter("INPUT", own), **away})
        else:
            own, away = self._routed(self._nat("PREROUTING", spread))
            self._arrive(self._filter("INPUT", own))
            self._arrive(self._nat("POSTROUTING", self._filter("FORWARD", away)))
        assert sum(self.found.values()) == 1
        return self.found

    def _routed(self, spread: Spread) -> tuple[Spread, Spread]:
        own = {skb: chance for skb, chance in spread.items() if self.world.is_own(skb.destination)}
        return own, {skb: chance for skb, chance in spread.items() if skb not in own}

    def _arrive(self, spread: Spread) -> None:
        for skb, chance in spread.items():
            to = _endpoint(skb.destination, skb.port) if skb.translated else UNTOUCHED
            self._end(Branch(Outcome(to, skb.masqueraded), skb.memory), chance)

    def _end(self, branch: Branch, chance: Fraction) -> None:
        if chance:
            self.found[branch] = self.found.get(branch, Fraction(0)) + chance

    def _nat(self, builtin: str, spread: Spread) -> Spread:
        """Conntrack does by itself to all further packets of a connection what nat did to the first."""
        return self._hook(TableName.NAT, builtin, spread) if self.packet.state is PacketState.NEW else spread

    def _filter(self, builtin: str, spread: Spread) -> Spread:
        return self._hook(TableName.FILTER, builtin, spread)

    def _hook(self, table: TableName, builtin: str, spread: Spread) -> Spread:
        hooks = self.ruleset.table(table).hooks
        walk = self._walk(table, builtin, [hook.rule for hook in hooks if hook.builtin == builtin], spread, 0)
        self._end(Branch(Outcome(REFUSED), self.world.memory), walk.refused)
        self._end(Branch(Outcome(DROPPED), self.world.memory), walk.dropped)
        policy = {"FORWARD": self.world.forward_accept, "INPUT": self.world.input_accept}
        if table is TableName.FILTER and not policy.get(builtin, True):
            self._end(Branch(Outcome(DROPPED), self.world.memory), sum(walk.returned.values(), Fraction(0)))
            return walk.passed
        return _sum(walk.passed, walk.returned)

    # --- chains and rules ------------------------------------------------------------------------------------------

    def _walk(self, table: TableName, builtin: str, rules: Iterable[Rule], alive: Spread, depth: int) -> _Walk:
        """Send all forms of the packet through a chain side by side."""
        assert depth < _MAX_DEPTH, "the kernel refuses chains that lead back to themselves"
        walk = _Walk({}, Fraction(0), Fraction(0), {})
        for rule in rules:
            if not alive:
                break
            hits, alive = self._split(rule, alive)
            if hits:
                walk, back = self._carry_out(table, builtin, rule, hits, walk, depth)
                alive = _sum(alive, back)
        return walk._replace(returned=_sum(walk.returned, alive))

    def _carry_out(
        self, table: TableName, builtin: str, rule: Rule, hits: Spread, walk: _Walk, depth: int
    ) -> tuple[_Walk, Spread]:
        """Do what a rule says to the packets it matches; return the walk so far, and those that go on behind it."""
        match rule.target:
            case Jump(chain, goto):
                below = self._walk(table, builtin, self.ruleset.table(table).chains[chain], hits, depth + 1)
                walk = walk._replace(
                    passed=_sum(walk.passed, below.passed),
                    refused=walk.refused + below.refused,
                    dropped=walk.dropped + below.dropped,
                )
                if goto:
                    return walk._replace(returned=_sum(walk.returned, below.returned)), {}
                return walk, below.returned
            case None:
                return walk, hits
            case SetMark(value, mask):
                return walk, _changed(hits, lambda skb: skb._replace(mark=(skb.mark & ~mask) ^ value))
            case Return():
                return walk._replace(returned=_sum(walk.returned, hits)), {}
        return self._verdict(table, builtin, rule, hits, walk), {}

    def _verdict(self, table: TableName, builtin: str, rule: Rule, hits: Spread, walk: _Walk) -> _Walk:
        """Do what ends a packet's walk through a table."""
        match rule.target:
            case Accept():
                return walk._replace(passed=_sum(walk.passed, hits))
            case Drop():
                assert table is TableName.FILTER, "the kernel refuses to drop in nat"
                return walk._replace(dropped=walk.dropped + sum(hits.values()))
            case Reject():
                assert table is TableName.FILTER, "REJECT is for the filter table"
                return walk._replace(refused=walk.refused + sum(hits.values()))
            case DestinationNat(ip, port):
                assert (table, builtin) in ((TableName.NAT, "PREROUTING"), (TableName.NAT, "OUTPUT")), builtin
                assert rule.protocol is not None, "the kernel refuses a DNAT to a port without a protocol"
                there = _changed(hits, lambda skb: skb._replace(destination=ip, port=port, translated=True))
                return walk._replace(passed=_sum(walk.passed, there))
            case MasqueradeSource():
                assert (table, builtin) == (TableName.NAT, "POSTROUTING"), builtin
                return walk._replace(passed=_sum(walk.passed, _changed(hits, _masqueraded)))
        raise AssertionError(rule)

    def _split(self, rule: Rule, alive: Spread) -> tuple[Spread, Spread]:
        """Part the packets that a rule matches from those that it lets pass by."""
        hits: Spread = {}
        misses: Spread = {}
        for skb, chance in alive.items():
            odds = self._odds(rule, skb)
            if odds == 1:
                _add(hits, self._remember(rule, skb), chance)
            elif odds == 0:
                _add(misses, skb, chance)
            else:
                _add(hits, self._remember(rule, skb), chance * odds)
                _add(misses, skb, chance * (1 - odds))
        return hits, misses

    def _odds(self, rule: Rule, skb: Skb) -> Fraction | int:
        """Return how likely a rule matches."""
        packet = self.packet
        if (
            (rule.protocol is not None and rule.protocol is not packet.protocol)
            or not _within(skb.destination, rule.destination)
            or not _within(packet.source, rule.source)
            or not _came_by(packet.in_interface, rule.in_interface)
        ):
            return 0
        odds: Fraction | int = 1
        for match in rule.matches:
            if isinstance(match, Random):
                odds *= Fraction(match.threshold, Random.ONE)
            elif not self._is(rule, match, skb):
                return 0
        return odds

    def _is(self, rule: Rule, match: Match, skb: Skb) -> bool:
        packet = self.packet
        match match:
            case DestinationPort(protocol, first, last):
                assert rule.protocol is protocol, "the kernel refuses a match on ports without the protocol"
                return first <= skb.port <= last
            case State(states, inverted):
                known = _STATES[packet.state] | (ConnectionState.DNAT if skb.translated else ConnectionState(0))
                return bool(known & states) is not inverted
            case LocalAddress(side):
                return self.world.is_own(packet.source if side is Side.SOURCE else skb.destination)
            case Mark(value, mask, inverted):
                return (skb.mark & mask == value) is not inverted
            case RecentCheck(name, seconds):
                return any(
                    entry.place == name and entry.client == packet.source and entry.seconds_ago <= seconds
                    for entry in skb.memory
                )
            case Comment(text):
                assert len(text.encode()) <= 255, "the kernel has no room for a longer comment"
        return True  # a comment, or RecentSet, which `_remember` sees to

    def _remember(self, rule: Rule, skb: Skb) -> Skb:
        for match in rule.matches:
            if isinstance(match, RecentSet):
                others = (e for e in skb.memory if (e.place, e.client) != (match.list_name, self.packet.source))
                fresh = Remembered(match.list_name, self.packet.source, 0)
                return skb._replace(memory=frozenset((*others, fresh)))
        return skb


def _masqueraded(skb: Skb) -> Skb:
    return skb._replace(masqueraded=True)


def _add(spread: Spread, skb: Skb, chance: Fraction) -> None:
    before = spread.get(skb)
    spread[skb] = chance if before is None else before + chance


def _sum(one: Spread, other: Spread) -> Spread:
    if not one or not other:
        return one or other
    total = dict(one)
    for skb, chance in other.items():
        _add(total, skb, chance)
    return total


def _changed(spread: Spread, change: Callable[[Skb], Skb]) -> Spread:
    total: Spread = {}
    for skb, chance in spread.items():
        _add(total, change(skb), chance)
    return total


@cache
def _network(cidr: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(cidr)


@cache
def _address(ip: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(ip)


def _within(ip: str, prefix: Prefix | None) -> bool:
    return prefix is None or (_address(ip) in _network(prefix.cidr)) is not prefix.inverted


def _came_by(name: str, interface: Interface | None) -> bool:
    if interface is None:
        return True
    wanted = interface.name
    same = name.startswith(wanted[:-1]) if wanted.endswith("+") else name == wanted
    return same is not interface.inverted


def _endpoint(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
