"""Rules that libnftables made, read back from the kernel as the terms they were made of."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from kproxy.backends.nftables.kernel.rules import HeldTable, held_tables
from kproxy.backends.nftables.rules.ruleset import (
    Accept,
    CameBy,
    Column,
    DeliverTo,
    FromPrefix,
    InStates,
    Jump,
    Marked,
    Member,
    Own,
    PortIs,
    Redirect,
    Rule,
    RuleSet,
    SetMark,
    SourceNat,
    Speaks,
    State,
    ToPrefixes,
    Translated,
    Unjudged,
    Verdict,
)
from kproxy.plan.model import ServicePlan
from kproxy.state.model import IPFamily, Protocol, ServicePortName
from tests.kit.examples import scaled
from tests.kit.netns import network_namespace
from tests.kit.nft import nft, plan_of, steps, table_in_namespace

pytestmark = pytest.mark.kernel


def table(name: str) -> HeldTable:
    return next(held for held in held_tables(IPFamily.IPV4) if held.name == name)


def test_own_chains_and_elements_come_back_as_they_were(tmp_path: Path) -> None:
    with table_in_namespace(tmp_path) as backend:

        @settings(max_examples=scaled(15), deadline=None, suppress_health_check=list(HealthCheck))
        @given(steps())
        def check(changes: Sequence[Mapping[ServicePortName, ServicePlan | None]]) -> None:
            services: dict[ServicePortName, ServicePlan] = {}
            for change in changes:
                services |= {name: plan for name, plan in change.items() if plan is not None}
                services = {name: plan for name, plan in services.items() if change.get(name, plan) is not None}
            backend.apply(plan_of(*services.values()), services.keys(), full=True)
            assert backend._compiler is not None
            assert_alike(backend._compiler.ruleset)

        check()


def assert_alike(ruleset: RuleSet) -> None:
    with closing(table("ip kproxy")) as held:
        for name, chain in ruleset.chains.items():
            assert tuple(held.rules(name)) == chain.rules, name
            assert held.chains[name].hook == chain.hook
        for name, elements in ruleset.elements.items():
            assert held.declare(name, ruleset.sets[name])
            for key, data in elements.items():
                if not ruleset.sets[name].ranges:
                    assert held.find(name, key) == (data,), (name, key)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("tcp dport { 80, 443 } accept", (Speaks(Protocol.TCP), PortIs(((80, 80), (443, 443))), Accept())),
        ("udp dport != 53 drop", (Speaks(Protocol.UDP), PortIs(((53, 53),), inverted=True), Verdict.DROP)),
        ("tcp dport > 1023 drop", (Speaks(Protocol.TCP), PortIs(((1024, 65535),)), Verdict.DROP)),
        ("ip saddr 10.0.0.0/8 drop", (FromPrefix("10.0.0.0/8"), Verdict.DROP)),
        ("ip saddr 10.0.0.0/12 drop", (FromPrefix("10.0.0.0/12"), Verdict.DROP)),
        ("ip daddr { 10.0.0.1, 10.1.0.0/16 } drop", (ToPrefixes(("10.0.0.1", "10.1.0.0/16")), Verdict.DROP)),
        ('iifname "cni*" accept', (CameBy("cni*"), Accept())),
        ('iifname != "eth0" accept', (CameBy("eth0", inverted=True), Accept())),
        ("ct state established,related accept", (InStates(frozenset({"established", "related"})), Accept())),
        ("ct state vmap { new : drop }", None),
        ("ct state invalid drop", (State.INVALID, Verdict.DROP)),
        ("ct status dnat accept", (Translated(), Accept())),
        ("fib daddr type local accept", (Own(Column.DESTINATION), Accept())),
        ("meta mark & 0x4000 != 0 accept", (Marked(0x4000), Accept())),
        ("meta mark set meta mark | 0x8", (SetMark(8),)),
        ('log prefix \\"x\\" counter accept', (Accept(),)),
        ("limit rate 5/second drop", (Unjudged("limit"), Verdict.DROP)),
        ("ip daddr @known drop", (Member("known", (Column.DESTINATION,)), Verdict.DROP)),
        ("ip ttl 1 drop", None),
        ("jump other", (Jump("other"),)),
    ],
)
def test_rules_of_others(tmp_path: Path, text: str, terms: Rule | None) -> None:
    with network_namespace(tmp_path):
        text = text.replace('\\"', '"')
        known, other = "set known { type ipv4_addr; }", "chain other { }"
        nft("-f", "-", text=f"table ip t {{\n{known}\n{other}\nchain c {{\n{text}\n}}\n}}\n")
        with closing(table("ip t")) as held:
            (rule,) = held.rules("c")
            if terms is None:
                assert any(isinstance(term, Unjudged) for term in rule)
            else:
                assert rule == terms


@pytest.mark.parametrize(
    ("hook", "text", "terms"),
    [
        ("prerouting", "tcp dport 80 dnat to 10.0.0.9:8080", (DeliverTo("10.0.0.9", 8080),)),
        ("prerouting", "ip daddr 10.0.0.1 dnat to 10.0.0.9", (ToPrefixes(("10.0.0.1",)), DeliverTo("10.0.0.9", 0))),
        ("prerouting", "tcp dport 80 redirect to :3128", (Redirect(3128),)),
        ("postrouting", "masquerade", (Verdict.MASQUERADE,)),
        ("postrouting", "snat to 10.0.0.1", (SourceNat(),)),
    ],
)
def test_translations_of_others(tmp_path: Path, hook: str, text: str, terms: Rule) -> None:
    with network_namespace(tmp_path):
        priority = -100 if hook == "prerouting" else 100
        base = f"type nat hook {hook} priority {priority}; policy accept;"
        nft("-f", "-", text=f"table ip t {{\nchain c {{\n{base}\n{text}\n}}\n}}\n")
        with closing(table("ip t")) as held:
            (rule,) = held.rules("c")
            assert rule[-len(terms) :] == terms
            (base_chain,) = held.bases()
            assert (base_chain.hook, base_chain.priority, base_chain.nat) == (hook, priority, True)
