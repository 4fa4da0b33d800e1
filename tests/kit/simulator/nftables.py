"""The kernel's part of the play: the chains of an nftables table as netfilter walks them.

Held to the kernel: which hooks a packet passes and in which order, that chains of type nat are asked about the first
packet of a connection only, that a rule ends at its first false term, that a lookup that finds nothing is false, where
goto and return lead, that dnat and masquerade end the walk through their base chain.
"""

import ipaddress
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cache
from typing import NamedTuple, TypeAlias

from kproxy.backends.nftables.rules import names
from kproxy.backends.nftables.rules.ruleset import (
    CameBy,
    Chain,
    Chance,
    Column,
    Count,
    CountFor,
    Deliver,
    DeliverTo,
    FlipMark,
    FromPrefix,
    GoTo,
    GoToFound,
    Jump,
    Key,
    Marked,
    Member,
    Numbers,
    Own,
    Remember,
    Returning,
    RuleSet,
    SetMark,
    Speaks,
    State,
    Term,
    ToPrefixes,
    Translated,
    Verdict,
)
from kproxy.state.model import Protocol, endpoint_text
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

_MAX_DEPTH = 16  # NFT_JUMP_STACK_SIZE


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
    """Done with the base chain."""
    returned: Spread
    """Came to the end of the chain, or of those it went to."""


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
        self.timeouts = {
            _place(term.set, term.of): term.seconds
            for chain in ruleset.chains.values()
            for rule in chain.rules
            for term in rule
            if isinstance(term, Remember)
        }

    # --- the way through the hooks ---------------------------------------------------------------------------------

    def follow(self) -> Mapping[Branch, Fraction]:
        packet = self.packet
        spread: Spread = {Skb(packet.destination, packet.port, memory=self.world.memory): Fraction(1)}
        new = packet.state is PacketState.NEW
        if packet.in_interface:
            own, away = self._routed(self._hook("prerouting", spread, nat=new))
            self._arrive(self._take_in(own))
            self._arrive(self._hook("postrouting", self._pass_on(away), nat=new))
        else:
            sent = self._hook("postrouting", self._hook("output", spread, nat=new), nat=new)
            own, away = self._routed(sent)
            self._arrive(away)
            # What the node sends to itself goes round by the loopback interface, where nat has had its say already.
            self._arrive(self._take_in(self._hook("prerouting", own, nat=False)))
        assert sum(self.found.values()) == 1
        return self.found

    def _routed(self, spread: Spread) -> tuple[Spread, Spread]:
        own = {skb: chance for skb, chance in spread.items() if self.world.is_own(skb.destination)}
        return own, {skb: chance for skb, chance in spread.items() if skb not in own}

    def _take_in(self, spread: Spread) -> Spread:
        return self._by_policy(self._hook("input", spread, nat=False), accept=self.world.input_accept)

    def _pass_on(self, spread: Spread) -> Spread:
        return self._by_policy(self._hook("forward", spread, nat=False), accept=self.world.forward_accept)

    def _by_policy(self, spread: Spread, *, accept: bool) -> Spread:
        """Ask the base chains of others, which no verdict of ours binds."""
        if accept:
            return spread
        self._lose(DROPPED, sum(spread.values(), Fraction(0)))
        return {}

    def _arrive(self, spread: Spread) -> None:
        for skb, chance in spread.items():
            to = endpoint_text(skb.destination, skb.port) if skb.translated else UNTOUCHED
            self._end(Branch(Outcome(to, skb.masqueraded), skb.memory), chance)

    def _lose(self, how: str, chance: Fraction) -> None:
        self._end(Branch(Outcome(how), self.world.memory), chance)

    def _end(self, branch: Branch, chance: Fraction) -> None:
        if chance:
            self.found[branch] = self.found.get(branch, Fraction(0)) + chance

    def _hook(self, hook: str, spread: Spread, *, nat: bool) -> Spread:
        """Send packets through all base chains of a hook, by their priorities."""
        hooked = [chain for chain in self.ruleset.chains.values() if chain.hook and chain.hook.hook == hook]
        for chain in sorted(hooked, key=_priority):
            assert chain.hook is not None
            if chain.hook.type == "nat" and not nat:
                continue
            walk = self._walk(chain, spread, f"{chain.hook.type} {hook}", 0)
            spread = _sum(walk.passed, walk.returned)
        return spread

    # --- chains and rules ------------------------------------------------------------------------------------------

    def _walk(self, chain: Chain, alive: Spread, base: str, depth: int) -> _Walk:
        """Send all forms of the packet through a chain side by side."""
        assert depth < _MAX_DEPTH, "the kernel refuses chains that lead back to themselves"
        walk = _Walk({}, {})
        for rule in chain.rules:
            if not alive:
                break
            here, alive = alive, {}
            for term in rule:
                here, missed, walk, back = self._carry_out(term, here, walk, base, depth)
                alive = _sum(alive, _sum(missed, back))
            alive = _sum(alive, here)
        return walk._replace(returned=_sum(walk.returned, alive))

    def _carry_out(
        self, term: Term, here: Spread, walk: _Walk, base: str, depth: int
    ) -> tuple[Spread, Spread, _Walk, Spread]:
        """Carry out one term of a rule.

        Return those packets that go on to the next term, those that go on to the next rule because the term is false,
        the walk so far, and those that come back to the next rule.
        """
        match term:
            case Jump(chain):
                below = self._walk(self.ruleset.chains[chain], here, base, depth + 1)
                return {}, {}, walk._replace(passed=_sum(walk.passed, below.passed)), below.returned
            case GoTo(chain):
                return {}, {}, self._gone_to(chain, here, walk, base, depth), {}
            case GoToFound(found, columns, protocol):
                return self._go_to_found(found, self._values(columns, protocol), here, walk, base, depth)
            case Deliver():
                assert base in ("nat prerouting", "nat output"), base
                delivered, missed = self._delivered(term, here)
                return {}, missed, walk._replace(passed=_sum(walk.passed, delivered)), {}
            case DeliverTo(ip, port):
                assert base in ("nat prerouting", "nat output"), base
                there = _changed(here, lambda skb: skb._replace(destination=ip, port=port, translated=True))
                return {}, {}, walk._replace(passed=_sum(walk.passed, there)), {}
            case Verdict():
                return {}, {}, self._decided(term, here, walk, base), {}
            case SetMark() | FlipMark() | Remember() | CountFor() | Count():
                return _changed(here, lambda skb: self._do(term, skb)), {}, walk, {}
        hits, misses = self._split(term, here)
        return hits, misses, walk, {}

    def _gone_to(self, chain: str, here: Spread, walk: _Walk, base: str, depth: int) -> _Walk:
        below = self._walk(self.ruleset.chains[chain], here, base, depth + 1)
        return _Walk(_sum(walk.passed, below.passed), _sum(walk.returned, below.returned))

    def _go_to_found(
        self, name: str, key: Callable[[Skb], Key], here: Spread, walk: _Walk, base: str, depth: int
    ) -> tuple[Spread, Spread, _Walk, Spread]:
        missed: Spread = {}
        for skb, chance in here.items():
            data = self._elements(name).get(key(skb))
            if data is None:
                missed[skb] = chance
            else:
                walk = self._gone_to(str(data[0]), {skb: chance}, walk, base, depth)
        return {}, missed, walk, {}

    def _delivered(self, term: Deliver, here: Spread) -> tuple[Spread, Spread]:
        delivered: Spread = {}
        missed: Spread = {}
        key = self._values(term.columns, term.protocol)
        elements = self._elements(term.map)
        for skb, chance in here.items():
            if term.protocol is not self.packet.protocol:
                _add(missed, skb, chance)
                continue
            for number in range(term.draw):
                data = elements.get((*key(skb), number))
                if data is None:
                    _add(missed, skb, chance / term.draw)
                else:
                    there = skb._replace(destination=str(data[0]), port=int(data[1]), translated=True)
                    _add(delivered, there, chance / term.draw)
        return delivered, missed

    def _decided(self, verdict: Verdict, here: Spread, walk: _Walk, base: str) -> _Walk:
        match verdict:
            case Verdict.RETURN:
                return walk._replace(returned=_sum(walk.returned, here))
            case Verdict.MASQUERADE:
                assert base == "nat postrouting", base
                masqueraded = _changed(here, lambda skb: skb._replace(masqueraded=True))
                return walk._replace(passed=_sum(walk.passed, masqueraded))
            case Verdict.REJECT:
                assert base in ("filter input", "filter forward", "filter output"), base
        self._lose(REFUSED if verdict is Verdict.REJECT else DROPPED, sum(here.values(), Fraction(0)))
        return walk

    # --- terms -----------------------------------------------------------------------------------------------------

    def _split(self, term: Term, here: Spread) -> tuple[Spread, Spread]:
        if isinstance(term, Chance):
            odds = Fraction(1, term.of)
            hits = {skb: chance * odds for skb, chance in here.items()}
            return hits, {skb: chance * (1 - odds) for skb, chance in here.items()} if odds != 1 else {}
        hits = {skb: chance for skb, chance in here.items() if self._is(term, skb)}
        return hits, {skb: chance for skb, chance in here.items() if skb not in hits}

    def _is(self, term: Term, skb: Skb) -> bool:
        packet = self.packet
        match term:
            case Member():
                return self._is_member(term, skb)
            case Returning(name, numbers):
                return self._remembered(_place(name, numbers), skb)
            case FromPrefix(cidr, inverted):
                return _within(packet.source, cidr) is not inverted
            case ToPrefixes(cidrs, inverted):
                return any(_within(skb.destination, cidr) for cidr in cidrs) is not inverted
            case CameBy(name, inverted):
                came = packet.in_interface
                return (came.startswith(name[:-1]) if name.endswith("*") else came == name) is not inverted
            case Own(side):
                return self.world.is_own(packet.source if side is Column.SOURCE else skb.destination)
            case Speaks() | State():
                return term.value == packet.state.value if isinstance(term, State) else term.protocol is packet.protocol
            case Marked(bit):
                return bool(skb.mark & bit)
        assert isinstance(term, Translated), term
        return skb.translated

    def _is_member(self, term: Member, skb: Skb) -> bool:
        spec = self.ruleset.sets[term.set]
        assert spec.columns == term.columns, "nft refuses a key of another type"
        if term.protocol not in (None, self.packet.protocol):
            return False
        key = self._values(term.columns, term.protocol)(skb)
        assert not spec.remembers
        elements = self._elements(term.set)
        if spec.ranges:
            return any(held[:-1] == key[:-1] and _within(str(key[-1]), str(held[-1])) for held in elements)
        return key in elements

    def _remembered(self, place: str, skb: Skb) -> bool:
        assert names.AFFINITY_CLIENTS in self.ruleset.sets
        seconds = self.timeouts[place]
        client = self.packet.source
        return any(
            entry.place == place and entry.client == client and entry.seconds_ago < seconds for entry in skb.memory
        )

    def _elements(self, name: str) -> Mapping[Key, tuple[str | int, ...] | None]:
        assert name in self.ruleset.sets, f"the kernel refuses a rule that names a set that is not there: {name}"
        return self.ruleset.elements.get(name, {})

    def _values(self, columns: tuple[Column, ...], protocol: Protocol | None) -> Callable[[Skb], Key]:
        def key(skb: Skb) -> Key:
            values: dict[Column, str | int] = {
                Column.SOURCE: self.packet.source,
                Column.DESTINATION: skb.destination,
                Column.PROTOCOL: str(self.packet.protocol),
                Column.PORT: skb.port,
            }
            if protocol not in (None, self.packet.protocol):
                return ()
            return tuple(values[column] for column in columns)

        return key

    def _do(self, term: Term, skb: Skb) -> Skb:
        match term:
            case SetMark(bit):
                return skb._replace(mark=skb.mark | bit)
            case FlipMark(bit):
                return skb._replace(mark=skb.mark ^ bit)
            case Remember(name, numbers):
                place, client = _place(name, numbers), self.packet.source
                others = (entry for entry in skb.memory if (entry.place, entry.client) != (place, client))
                return skb._replace(memory=frozenset((*others, Remembered(place, client, 0))))
            case CountFor(name, numbers):
                assert numbers in self._elements(name), "the rule would be false, and the packet not delivered"
            case Count(counter):
                assert counter in self.ruleset.counters, "the kernel refuses a rule with a counter that is not there"
        return skb


def _place(name: str, numbers: Numbers) -> str:
    return f"{name} {numbers.service} {numbers.endpoint}"


def _priority(chain: Chain) -> int:
    assert chain.hook is not None
    return chain.hook.priority


def _add(spread: Spread, skb: Skb, chance: Fraction) -> None:
    spread[skb] = spread.get(skb, Fraction(0)) + chance


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


def _within(ip: str, cidr: str) -> bool:
    return _address(ip) in _network(cidr)
