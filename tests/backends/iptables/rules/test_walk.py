"""The walk by itself: what netfilter does with rules that kproxy writes nowhere, or only together with others."""

from fractions import Fraction

import pytest

from kproxy.backends.iptables.rules.ruleset import (
    Accept,
    Chain,
    ConnectionState,
    DestinationNat,
    DestinationPort,
    Drop,
    Hook,
    Interface,
    Jump,
    LocalAddress,
    Mark,
    MasqueradeSource,
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
    Table,
)
from kproxy.backends.iptables.rules.walk import branches, outcomes
from kproxy.backends.packet import DROPPED, REFUSED, UNTOUCHED, Outcome, Packet, PacketState, Remembered, World
from kproxy.backends.walk import ImpossibleRuleError
from kproxy.state.model import Protocol

WORLD = World(frozenset({"10.0.0.1"}))
PASSING = Packet("192.0.2.7", "203.0.113.1", 80, in_interface="eth0")
COMING_IN = PASSING._replace(destination="10.0.0.1")
GOING_OUT = Packet("10.0.0.1", "203.0.113.1", 80)
TO_ITSELF = Packet("10.0.0.1", "10.0.0.1", 80)
DNAT = Rule(target=DestinationNat("10.244.0.1", 8080), protocol=Protocol.TCP)
HALF = Random(Random.ONE // 2)
EMPTY = Table({})


def hooked(builtin: str, *rules: Rule, **chains: Chain) -> Table:
    return Table(chains, tuple(Hook(builtin, rule) for rule in rules))


def fate(packet: Packet, *, nat: Table = EMPTY, filtering: Table = EMPTY, world: World = WORLD) -> dict[str, Fraction]:
    return {outcome.to: chance for outcome, chance in outcomes(RuleSet(filtering, nat), packet, world).items()}


@pytest.mark.parametrize("target", [Drop(), Reject()])
@pytest.mark.parametrize(
    ("builtin", "stopped"),
    [
        ("FORWARD", {PASSING}),
        ("INPUT", {COMING_IN, TO_ITSELF}),
        ("OUTPUT", {GOING_OUT, TO_ITSELF}),
    ],
)
def test_which_hooks_a_packet_passes(builtin: str, stopped: set[Packet], target: Drop | Reject) -> None:
    table = hooked(builtin, Rule(target=target))
    word = DROPPED if isinstance(target, Drop) else REFUSED
    for packet in (PASSING, COMING_IN, GOING_OUT, TO_ITSELF):
        assert fate(packet, filtering=table) == {word if packet in stopped else UNTOUCHED: 1}


def test_a_translated_packet_is_filtered_by_where_it_goes() -> None:
    old, new = (
        hooked("FORWARD", Rule(target=Drop(), destination=Prefix(ip))) for ip in ("203.0.113.1/32", "10.244.0.1/32")
    )
    nat = hooked("PREROUTING", DNAT)
    assert fate(PASSING, nat=nat, filtering=old) == {"10.244.0.1:8080": 1}
    assert fate(PASSING, nat=nat, filtering=new) == {DROPPED: 1}
    assert fate(COMING_IN, nat=nat, filtering=new) == {DROPPED: 1}


def test_nat_sees_the_first_packet_of_a_connection_only() -> None:
    nat = hooked("PREROUTING", DNAT)
    for state in (PacketState.ESTABLISHED, PacketState.INVALID):
        assert fate(PASSING._replace(state=state), nat=nat) == {UNTOUCHED: 1}


def test_only_what_leaves_the_node_or_is_sent_by_it_is_masqueraded() -> None:
    nat = hooked("POSTROUTING", Rule(target=MasqueradeSource()))
    for packet, masqueraded in ((PASSING, True), (COMING_IN, False), (GOING_OUT, True), (TO_ITSELF, True)):
        assert outcomes(RuleSet(EMPTY, nat), packet, WORLD) == {Outcome(UNTOUCHED, masqueraded): 1}


@pytest.mark.parametrize(
    ("first", "below", "result"),
    [
        (Jump("C"), (), DROPPED),
        (Jump("C"), (Rule(target=Return()), Rule(target=Accept())), DROPPED),
        (Jump("C"), (Rule(target=Accept()),), UNTOUCHED),
        (Jump("C", goto=True), (), UNTOUCHED),
        (Jump("C", goto=True), (Rule(target=Return()),), UNTOUCHED),
        (Jump("C", goto=True), (Rule(target=Reject()),), REFUSED),
        (Return(), (), UNTOUCHED),
        (None, (), DROPPED),
    ],
)
def test_jump_goto_and_return(first: Jump | Return | None, below: Chain, result: str) -> None:
    assert fate(PASSING, filtering=hooked("FORWARD", Rule(target=first), Rule(target=Drop()), C=below)) == {result: 1}


def test_goto_comes_back_to_where_the_last_jump_was() -> None:
    table = Table(
        {"A": (Rule(target=Jump("B", goto=True)), Rule(target=Reject())), "B": ()},
        (Hook("FORWARD", Rule(target=Jump("A"))), Hook("FORWARD", Rule(target=Drop()))),
    )
    assert fate(PASSING, filtering=table) == {DROPPED: 1}


def test_chances_are_exact() -> None:
    third = Random(Random.ONE // 3)
    table = hooked(
        "FORWARD",
        Rule(target=Drop(), matches=(third,)),
        Rule(target=Reject(), matches=(HALF, HALF)),
        Rule(target=Accept(), matches=(HALF,)),
    )
    a, b = Fraction(Random.ONE // 3, Random.ONE), Fraction(1, 4)
    assert fate(PASSING, filtering=table) == {DROPPED: a, REFUSED: (1 - a) * b, UNTOUCHED: (1 - a) * (1 - b)}


@pytest.mark.parametrize(
    ("mark", "matched"),
    [
        ((), False),
        ((SetMark(0x4000, 0x4000),), True),
        ((SetMark(0x4000, 0x4000), SetMark(0x4000, 0)), False),
        ((SetMark(0x8000, 0xFFFFFFFF),), False),
        ((SetMark(0x4000, 0x4000), SetMark(0x8000, 0xFFFFFFFF)), False),
    ],
)
def test_the_mark(mark: tuple[SetMark, ...], matched: bool) -> None:
    nat = hooked("PREROUTING", *(Rule(target=one) for one in mark))
    marked = hooked("FORWARD", Rule(target=Drop(), matches=(Mark(0x4000, 0x4000),)))
    unmarked = hooked("FORWARD", Rule(target=Drop(), matches=(Mark(0x4000, 0x4000, inverted=True),)))
    assert fate(PASSING, nat=nat, filtering=marked) == {DROPPED if matched else UNTOUCHED: 1}
    assert fate(PASSING, nat=nat, filtering=unmarked) == {UNTOUCHED if matched else DROPPED: 1}


@pytest.mark.parametrize(
    ("rule", "matched"),
    [
        (Rule(target=Drop(), source=Prefix("192.0.2.0/24")), True),
        (Rule(target=Drop(), source=Prefix("192.0.2.0/24", inverted=True)), False),
        (Rule(target=Drop(), destination=Prefix("192.0.2.0/24")), False),
        (Rule(target=Drop(), in_interface=Interface("eth0")), True),
        (Rule(target=Drop(), in_interface=Interface("eth")), False),
        (Rule(target=Drop(), in_interface=Interface("eth+")), True),
        (Rule(target=Drop(), in_interface=Interface("eth+", inverted=True)), False),
        (Rule(target=Drop(), protocol=Protocol.UDP), False),
        (Rule(target=Drop(), protocol=Protocol.TCP, matches=(DestinationPort(Protocol.TCP, 80, 90),)), True),
        (Rule(target=Drop(), protocol=Protocol.TCP, matches=(DestinationPort(Protocol.TCP, 81, 90),)), False),
        (Rule(target=Drop(), matches=(State(ConnectionState.NEW),)), True),
        (Rule(target=Drop(), matches=(State(ConnectionState.NEW, inverted=True),)), False),
        (Rule(target=Drop(), matches=(State(ConnectionState.INVALID | ConnectionState.NEW),)), True),
        (Rule(target=Drop(), matches=(LocalAddress(Side.DESTINATION),)), False),
    ],
)
def test_matches(rule: Rule, matched: bool) -> None:
    assert fate(PASSING, filtering=hooked("FORWARD", rule)) == {DROPPED if matched else UNTOUCHED: 1}


def test_what_the_node_sends_came_in_nowhere() -> None:
    for interface, matched in ((Interface("eth0"), False), (Interface("eth0", inverted=True), True)):
        table = hooked("OUTPUT", Rule(target=Drop(), in_interface=interface))
        assert fate(GOING_OUT, filtering=table) == {DROPPED if matched else UNTOUCHED: 1}


def test_who_is_on_a_list() -> None:
    check = Rule(target=Drop(), matches=(RecentCheck("L", 60),))
    for entry, matched in (
        (Remembered("L", "192.0.2.7", 60), True),
        (Remembered("L", "192.0.2.7", 61), False),
        (Remembered("M", "192.0.2.7", 1), False),
        (Remembered("L", "192.0.2.8", 1), False),
    ):
        world = WORLD._replace(memory=frozenset({entry}))
        assert fate(PASSING, filtering=hooked("FORWARD", check), world=world) == {DROPPED if matched else UNTOUCHED: 1}


def test_who_gets_onto_a_list() -> None:
    old, other = Remembered("L", "192.0.2.7", 30), Remembered("L", "192.0.2.8", 30)
    table = hooked("FORWARD", Rule(target=None, matches=(RecentSet("L"),)))
    (branch,) = branches(RuleSet(table, EMPTY), PASSING, WORLD._replace(memory=frozenset({old, other})))
    assert branch.memory == {old._replace(seconds_ago=0), other}


@pytest.mark.parametrize(
    "ruleset",
    [
        RuleSet(EMPTY, hooked("POSTROUTING", DNAT)),
        RuleSet(EMPTY, hooked("PREROUTING", Rule(target=MasqueradeSource()))),
        RuleSet(EMPTY, hooked("PREROUTING", Rule(target=Drop()))),
        RuleSet(hooked("FORWARD", Rule(target=Drop(), matches=(DestinationPort(Protocol.TCP, 80, 80),))), EMPTY),
        RuleSet(hooked("FORWARD", Rule(target=Jump("A")), A=(Rule(target=Jump("A")),)), EMPTY),
    ],
)
def test_rules_that_the_kernel_refuses(ruleset: RuleSet) -> None:
    with pytest.raises(ImpossibleRuleError):
        outcomes(ruleset, PASSING, WORLD)
