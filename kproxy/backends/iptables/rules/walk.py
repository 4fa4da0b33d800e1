"""A packet's walk through iptables' rules: what matches and targets do, as netfilter has it.

RETURN and goto, the packet mark, `statistic` (31 random bits below a threshold), `recent`; MASQUERADE and DNAT end the
walk through their table. Rules the kernel would refuse are refused here as well. What others' rules ask for and kproxy
does not know is taken not to be the case, and noted as a doubt; see `kproxy.backends.walk`.
"""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from kproxy.backends.iptables.rules.ruleset import (
    Comment,
    ConnectionState,
    DestinationNat,
    DestinationPort,
    Drop,
    GoOn,
    Interface,
    Jump,
    LocalAddress,
    Mark,
    MasqueradeSource,
    Match,
    Ports,
    Prefix,
    Random,
    RecentCheck,
    RecentSet,
    Redirect,
    Reject,
    Return,
    Rule,
    RuleSet,
    SetMark,
    Side,
    SourceNat,
    State,
    Strange,
    TableName,
    Turn,
    Unjudged,
)
from kproxy.backends.packet import (
    DROPPED,
    REFUSED,
    Branch,
    Outcome,
    Packet,
    PacketState,
    Skb,
    Spread,
    World,
    add,
    came_by,
    changed,
    remember,
    total,
    within,
    without_memory,
)
from kproxy.backends.walk import At, Base, ImpossibleRuleError, Machine, Walk, Walked

_STATES = {
    PacketState.NEW: ConnectionState.NEW,
    PacketState.ESTABLISHED: ConnectionState.ESTABLISHED,
    PacketState.INVALID: ConnectionState.INVALID,
}
_LOOPBACK = {4: "127.0.0.1", 6: "::1"}

HOOKS: Mapping[str, Mapping[str, int]] = {
    "raw": {"PREROUTING": -300, "OUTPUT": -300},
    "mangle": {"PREROUTING": -150, "INPUT": -150, "FORWARD": -150, "OUTPUT": -150, "POSTROUTING": -150},
    TableName.NAT: {"PREROUTING": -100, "OUTPUT": -100, "POSTROUTING": 100},
    TableName.FILTER: {"INPUT": 0, "FORWARD": 0, "OUTPUT": 0},
}
"""By table: its built-in chains with their priorities (netfilter_ipv4.h). NAT's INPUT is for source NAT alone."""


def branches(ruleset: RuleSet, packet: Packet, world: World) -> Mapping[Branch, Fraction]:
    """Return all that can become of ``packet``, with chances that add up to one. Raises ImpossibleRuleError."""
    return walk_through(ruleset, packet, world).found


def outcomes(ruleset: RuleSet, packet: Packet, world: World) -> Mapping[Outcome, Fraction]:
    """Return what can become of ``packet``, with chances that add up to one. Raises ImpossibleRuleError."""
    return without_memory(branches(ruleset, packet, world))


def walk_through(ruleset: RuleSet, packet: Packet, world: World) -> Walk:
    """Send a packet through kproxy's rules alone. Raises ImpossibleRuleError."""
    walk = Walk(_bases_of(ruleset, world), packet, world)
    walk.follow()
    return walk


def _bases_of(ruleset: RuleSet, world: World) -> Iterator[Base]:
    policies = {"FORWARD": world.forward_accept, "INPUT": world.input_accept}
    for name in TableName:
        machine = RuleSetMachine(ruleset, name)
        for base in bases(machine, name):
            drops = name is TableName.FILTER and not policies.get(base.chain, True)
            yield base._replace(drops=True) if drops else base


def bases(machine: "RuleMachine", table: str) -> Iterator[Base]:
    """Yield where netfilter enters a table."""
    for chain, priority in HOOKS.get(table, {}).items():
        yield Base(chain.lower(), priority, chain, machine, nat=table == TableName.NAT)


class RuleMachine(Machine[Rule]):
    """The rules of one table."""

    def __init__(self, name: str) -> None:
        self.name = name

    def table(self, chain: str) -> str:
        """See `Machine`."""
        del chain
        return self.name

    def carry_out(self, number: int, alive: Spread, at: At) -> tuple[Walked, Spread]:
        """See `Machine`."""
        rule = self.rules(at.step.place.chain)[number]
        hits, misses = _split(rule, alive, at)
        if not hits:
            return Walked(), misses
        at.tried(hits)
        ended, on = self._do(rule, hits, at)
        return ended, total(misses, on)

    def _do(self, rule: Rule, hits: Spread, at: At) -> tuple[Walked, Spread]:
        """Do what a rule says to the packets it matches; return what ends by it, and those that go on behind it."""
        match rule.target:
            case Jump(chain, goto):
                return (self.below(chain, hits, at), {}) if goto else self.jump(chain, hits, at)
            case None | GoOn():
                return Walked(), hits
            case SetMark(value, mask):
                return Walked(), changed(hits, lambda skb: skb._replace(mark=(skb.mark & ~mask) ^ value))
            case Return():
                return Walked(returned=hits), {}
            case Strange(text):
                at.doubts(f"the target {text.split()[0]}")
                return Walked(), hits
        return self._verdict(rule, hits, at), {}

    def _verdict(self, rule: Rule, hits: Spread, at: At) -> Walked:
        """Do what ends a packet's walk through a table."""
        match rule.target:
            case Drop() | Reject():
                # The kernel refuses both in nat.
                _need(not at.base.nat, rule, at)
                at.lose(DROPPED if isinstance(rule.target, Drop) else REFUSED, hits)
                return Walked()
            case DestinationNat(ip, port):
                _need(at.base.nat and at.base.hook in ("prerouting", "output"), rule, at)
                _need(rule.protocol is not None or not port, rule, at)
                hits = changed(hits, lambda skb: skb._replace(destination=ip, port=port or skb.port, translated=True))
                at.decided(hits)
            case Redirect(port):
                hits = changed(hits, lambda skb: _redirected(skb, port))
                at.decided(hits)
            case MasqueradeSource() | SourceNat():
                _need(at.base.nat and at.base.hook == "postrouting", rule, at)
                hits = changed(hits, lambda skb: skb._replace(masqueraded=True))
                at.masqueraded()
            case _:
                pass  # Accept
        return Walked(passed=hits)


class RuleSetMachine(RuleMachine):
    """kproxy's own rules, as the compiler makes them."""

    def __init__(self, ruleset: RuleSet, name: TableName) -> None:
        super().__init__(name)
        table = ruleset.table(name)
        self.chains = table.chains
        self._hooks: dict[str, list[Rule]] = {chain: [] for chain in HOOKS[name]}
        for hook in table.hooks:
            self._hooks.setdefault(hook.builtin, []).append(hook.rule)

    def rules(self, chain: str) -> Sequence[Rule]:
        """See `Machine`."""
        found = self._hooks.get(chain)
        return found if found is not None else self.chains[chain]


def _need(fine: bool, rule: Rule, at: At) -> None:
    if not fine:
        place = f"{at.step.place.table} {at.step.place.chain}"
        raise ImpossibleRuleError(f"{place}: the kernel refuses {rule.target} there")


def _redirected(skb: Skb, port: int) -> Skb:
    home = _LOOPBACK[6 if ":" in skb.destination else 4]
    return skb._replace(destination=home, port=port or skb.port, translated=True)


# --- matches -------------------------------------------------------------------------------------------------------


def _split(rule: Rule, alive: Spread, at: At) -> tuple[Spread, Spread]:
    """Part the packets that a rule matches from those that it lets pass by."""
    hits: dict[Skb, Fraction] = {}
    misses: dict[Skb, Fraction] = {}
    for skb, chance in alive.items():
        odds = _odds(rule, skb, at)
        if odds:
            after = _remembering(rule, skb, at.walk.packet.source)
            add(hits, after, chance if odds == 1 else chance * odds)
        if odds != 1:
            misses[skb] = chance * (1 - odds) if odds else chance
    return hits, misses


def _odds(rule: Rule, skb: Skb, at: At) -> Fraction | int:
    """Return how likely a rule matches."""
    packet = at.walk.packet
    if (
        (rule.protocol is not None and rule.protocol is not packet.protocol)
        or not _matches_prefix(skb.destination, rule.destination)
        or not _matches_prefix(packet.source, rule.source)
        or not _came_by(packet.in_interface, rule.in_interface)
    ):
        return 0
    odds: Fraction | int = 1
    unjudged = []
    for match in rule.matches:
        if isinstance(match, Random):
            odds *= Fraction(match.threshold, Random.ONE)
        elif isinstance(match, Turn):
            odds *= Fraction(1, match.every)  # of many connections, wherever the turn may be now
        elif isinstance(match, Unjudged):
            unjudged.append(match.text)
        elif not _is(rule, match, skb, at):
            return 0
    if unjudged:
        at.doubts(" and ".join(unjudged))
        return 0
    return odds


def _is(rule: Rule, match: Match, skb: Skb, at: At) -> bool:
    packet = at.walk.packet
    match match:
        case Comment(text):
            if len(text.encode()) > 255:
                raise ImpossibleRuleError("the kernel has no room for a longer comment")
        case DestinationPort(protocol, first, last):
            _need(rule.protocol is protocol, rule, at)  # to match on ports takes the protocol
            return first <= skb.port <= last
        case Ports(ranges, inverted):
            return any(first <= skb.port <= last for first, last in ranges) is not inverted
        case State(states, inverted):
            known = _STATES[packet.state] | (ConnectionState.DNAT if skb.translated else ConnectionState(0))
            return bool(known & states) is not inverted
        case LocalAddress(side, inverted):
            return at.walk.world.is_own(packet.source if side is Side.SOURCE else skb.destination) is not inverted
        case Mark(value, mask, inverted):
            return (skb.mark & mask == value) is not inverted
        case RecentCheck(name, seconds):
            return any(
                entry.place == name and entry.client == packet.source and entry.seconds_ago <= seconds
                for entry in skb.memory
            )
    return True  # a comment, or RecentSet, which `_remembering` sees to


def _remembering(rule: Rule, skb: Skb, client: str) -> Skb:
    for match in rule.matches:
        if isinstance(match, RecentSet):
            return remember(skb, match.list_name, client)
    return skb


def _matches_prefix(ip: str, prefix: Prefix | None) -> bool:
    return prefix is None or within(ip, prefix.cidr) is not prefix.inverted


def _came_by(name: str, interface: Interface | None) -> bool:
    return interface is None or came_by(name, interface.name, "+") is not interface.inverted
