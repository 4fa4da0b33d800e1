"""The kernel's entries, read back as rules: kproxy's own are the same again, others' say what they mean for packets."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kproxy.backends.iptables.kernel.legacy.applier import LegacyApplier
from kproxy.backends.iptables.kernel.legacy.held import LegacyTable, held_tables
from kproxy.backends.iptables.rules.held import HeldTable
from kproxy.backends.iptables.rules.ruleset import (
    Accept,
    Chain,
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
    Redirect,
    RuleSet,
    Side,
    SourceNat,
    State,
    Strange,
    Table,
    TableName,
    TargetTerm,
    Unjudged,
)
from kproxy.state.model import IPFamily, Protocol
from tests.kit.examples import scaled
from tests.kit.iptables.strategies import TARGET_CHAINS, rules
from tests.kit.iptables.tools import restore
from tests.kit.netns import network_namespace

pytestmark = pytest.mark.kernel

UNDER_TEST = "KUBE-SERVICES"


class Case(NamedTuple):
    family: IPFamily
    table: TableName


@pytest.fixture(params=[(f, t) for f in IPFamily for t in TableName], ids=lambda param: "-".join(param))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    with network_namespace(tmp_path_factory.mktemp("lock")):
        yield Case(*request.param)


@pytest.fixture
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with network_namespace(tmp_path_factory.mktemp("lock")):
        yield


def table(family: IPFamily, name: str) -> HeldTable:
    return next(held for held in held_tables(family) if held.name == name)


def test_own_rules_come_back_as_they_were(case: Case) -> None:
    applier = LegacyApplier(case.family)

    @settings(max_examples=scaled(60), deadline=None)
    @given(st.lists(rules(case.family, case.table), max_size=6).map(tuple))
    def check(chain: Chain) -> None:
        content, empty = Table(dict.fromkeys(TARGET_CHAINS, ()) | {UNDER_TEST: chain}), Table({})
        in_filter = case.table is TableName.FILTER
        applier.reconcile(RuleSet(content, empty) if in_filter else RuleSet(empty, content))
        assert tuple(table(case.family, case.table).rules(UNDER_TEST)) == chain

    check()
    applier.close()


@pytest.mark.parametrize(
    ("line", "target", "matches"),
    [
        ("-p tcp -m multiport --dports 80,443,8000:8010 -j ACCEPT", Accept(),
         (Ports(((80, 80), (443, 443), (8000, 8010))),)),
        ("-p tcp -m multiport ! --dports 80 -j ACCEPT", Accept(), (Ports(((80, 80),), inverted=True),)),
        ("-p tcp -m tcp ! --dport 80 -j ACCEPT", Accept(), (Ports(((80, 80),), inverted=True),)),
        ("-m state --state RELATED,ESTABLISHED -j ACCEPT", Accept(),
         (State(ConnectionState.RELATED | ConnectionState.ESTABLISHED),)),
        ("-m addrtype ! --dst-type LOCAL -j DROP", Drop(), (LocalAddress(Side.DESTINATION, inverted=True),)),
        ("-o docker0 -j ACCEPT", Accept(), (Unjudged("-o docker0"),)),
        ("-m limit --limit 5/min -j LOG", GoOn("LOG"), (Unjudged("-m limit"),)),
        ("-m mark --mark 0x1/0x1 -j TRACE", None, ()),
        ("-p icmp -j ACCEPT", Accept(), (Unjudged("-p 1"),)),
        ("-p tcp -m tcp --sport 1:1023 -j DROP", Drop(),
         (Unjudged("--sport 1:1023"), DestinationPort(Protocol.TCP, 0, 65535))),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("namespace")
def test_rules_of_others(line: str, target: TargetTerm | None, matches: tuple[Match, ...]) -> None:
    if "TRACE" in line:
        restore(IPFamily.IPV4, "legacy", f"*raw\n-A PREROUTING {line}\nCOMMIT\n")
        (rule,) = table(IPFamily.IPV4, "raw").rules("PREROUTING")
        assert (rule.target, rule.matches) == (GoOn("TRACE"), (Mark(1, 1),))
        return
    restore(IPFamily.IPV4, "legacy", f"*filter\n:OTHERS - [0:0]\n-A FORWARD -j OTHERS\n-A OTHERS {line}\nCOMMIT\n")
    (rule,) = table(IPFamily.IPV4, "filter").rules("OTHERS")
    assert (rule.target, rule.matches) == (target, matches)


@pytest.mark.parametrize(
    ("line", "target"),
    [
        (
            "PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.9:8080",
            DestinationNat("10.0.0.9", 8080),
        ),
        ("PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.9", DestinationNat("10.0.0.9", 0)),
        ("PREROUTING -p tcp -j DNAT --to-destination 10.0.0.9-10.0.0.12", Strange("DNAT (to a range)")),
        ("PREROUTING -p tcp -j REDIRECT --to-ports 3128", Redirect(3128)),
        ("POSTROUTING -j MASQUERADE", MasqueradeSource()),
        ("POSTROUTING -j SNAT --to-source 10.0.0.1", SourceNat("SNAT")),
        ("PREROUTING -j NETMAP --to 10.1.0.0/16", Strange("NETMAP")),
    ],
)
@pytest.mark.usefixtures("namespace")
def test_targets_of_others_in_nat(line: str, target: TargetTerm) -> None:
    restore(IPFamily.IPV4, "legacy", f"*nat\n-A {line}\nCOMMIT\n")
    (rule,) = table(IPFamily.IPV4, "nat").rules(line.split()[0])
    assert rule.target == target


@pytest.mark.parametrize("family", IPFamily)
@pytest.mark.usefixtures("namespace")
def test_jumps_policies_interfaces_and_counters(family: IPFamily) -> None:
    restore(
        family,
        "legacy",
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:A - [0:0]\n:B - [0:0]\n"
        "[3:180] -A FORWARD -i cni+ -j A\n-A A ! -i eth0 -g B\n-A A -j RETURN\nCOMMIT\n",
        "--counters",
    )
    filtering = table(family, "filter")
    assert (filtering.policy_drops("FORWARD"), filtering.policy_drops("INPUT")) == (True, False)
    (held,) = filtering.held("FORWARD") or ()
    assert (held.rule.target, held.rule.in_interface) == (Jump("A"), Interface("cni+"))
    assert (held.packets, held.octets) == (3, 180)
    first, _ = filtering.rules("A")
    assert (first.target, first.in_interface) == (Jump("B", goto=True), Interface("eth0", inverted=True))
    assert filtering.rules("B") == []
    assert filtering.held("NOWHERE") is None


@pytest.mark.usefixtures("namespace")
def test_a_chain_is_found_by_name_though_no_jump_led_there() -> None:
    restore(IPFamily.IPV4, "legacy", "*nat\n:LONELY - [0:0]\n-A LONELY -s 10.0.0.0/8 -j ACCEPT\nCOMMIT\n")
    held = table(IPFamily.IPV4, "nat")
    assert isinstance(held, LegacyTable)
    assert [rule.source for rule in held.rules("LONELY")] == [Prefix("10.0.0.0/8")]


@pytest.mark.usefixtures("namespace")
def test_reading_makes_no_table() -> None:
    assert list(held_tables(IPFamily.IPV4)) == []
    assert list(held_tables(IPFamily.IPV4)) == []
