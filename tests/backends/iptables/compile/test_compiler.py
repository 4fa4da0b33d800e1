"""Compiling: the two layouts, and that a change touches what it must and nothing else."""

import msgspec
import pytest

from kproxy.backends.iptables.compile.compiler import Compiler, choose_layout, compile_plan
from kproxy.backends.iptables.compile.lists import LARGE_CLUSTER_ENDPOINTS, Layout
from kproxy.backends.iptables.rules import names
from kproxy.backends.iptables.rules.ruleset import DestinationNat, Rule, TableName
from kproxy.plan.model import Frontend, FrontendKind, Masquerade, NodePlan, Plan, Route, ServicePlan, Target
from kproxy.state.model import Endpoint, IPFamily, Protocol, ServicePortName

NODE = NodePlan(family=IPFamily.IPV4)
REMOTE = tuple(Endpoint(f"10.244.1.{number}", 8080, is_remote=True) for number in range(1, 6))
LOCAL = (Endpoint("10.244.0.1", 8080, is_local=True),)


def name(number: int) -> ServicePortName:
    return ServicePortName("shop", f"s{number}", "http", Protocol.TCP)


def service(number: int, endpoints: tuple[Endpoint, ...] = REMOTE, *, affinity_seconds: int = 0) -> ServicePlan:
    return ServicePlan(
        name=name(number),
        frontends=(Frontend(FrontendKind.CLUSTER_IP, f"10.96.{number // 256}.{number % 256}", 80),),
        internal=Route(Target.CLUSTER if endpoints else Target.REJECT, Masquerade.OFF_CLUSTER),
        cluster_endpoints=endpoints,
        affinity_seconds=affinity_seconds,
    )


def plan(*services: ServicePlan) -> Plan:
    return Plan(node=NODE, services={one.name: one for one in services})


def sizes(compiler: Compiler) -> dict[str, int]:
    return {chain: len(rules) for chain, rules in compiler.ruleset.nat.chains.items()}


@pytest.mark.parametrize(
    ("endpoints", "layout"),
    [(LARGE_CLUSTER_ENDPOINTS, Layout.CLASSIC), (LARGE_CLUSTER_ENDPOINTS + 1, Layout.LARGE), (0, Layout.CLASSIC)],
)
def test_the_number_of_endpoints_chooses_the_layout(endpoints: int, layout: Layout) -> None:
    many = tuple(Endpoint(f"10.{number // 250}.0.{number % 250 + 1}", 80) for number in range(endpoints))
    assert choose_layout(endpoints) is layout
    assert compile_plan(plan(service(1, many))) == compile_plan(plan(service(1, many)), layout)


def test_a_remote_endpoint_needs_no_chain_in_the_large_layout() -> None:
    chains = compile_plan(plan(service(1)), Layout.LARGE).nat.chains
    assert [rule.target for rule in chains[names.cluster_chain(name(1))][1:]] == [
        DestinationNat(endpoint.ip, endpoint.port) for endpoint in REMOTE
    ]
    assert not any(chain.startswith("KUBE-SEP-") for chain in chains)


@pytest.mark.parametrize(
    ("one", "layout"),
    [
        (service(1, LOCAL), Layout.LARGE),
        (service(1, (Endpoint("10.244.9.9", 80),)), Layout.LARGE),
        (service(1, affinity_seconds=5), Layout.LARGE),
        (service(1), Layout.CLASSIC),
    ],
)
def test_these_need_a_chain_for_each_endpoint(one: ServicePlan, layout: Layout) -> None:
    chains = compile_plan(plan(one), layout).nat.chains
    assert {chain for chain in chains if chain.startswith("KUBE-SEP-")} == {
        names.endpoint_chain(one.name, endpoint) for endpoint in one.cluster_endpoints
    }


def test_a_thousand_services_in_the_large_layout_are_short_chains() -> None:
    compiler = Compiler(NODE, Layout.LARGE)
    compiler.update({name(number): service(number) for number in range(1000)})
    assert max(sizes(compiler).values()) <= 17  # a list's root may have the jump to the node ports behind it
    rules = sum(sizes(compiler).values())
    assert rules < 1000 * 7 + 100


@pytest.mark.parametrize("layout", Layout)
def test_one_endpoint_touches_one_chain(layout: Layout) -> None:
    compiler = Compiler(NODE, layout)
    compiler.update({name(number): service(number) for number in range(200)})
    change = compiler.update({name(7): service(7, REMOTE[:-1])})
    assert change.filter == {}
    touched = {names.cluster_chain(name(7))}
    if layout is Layout.CLASSIC:
        touched.add(names.endpoint_chain(name(7), REMOTE[-1]))
    assert change.nat.keys() == touched
    assert not change.hooks_changed


@pytest.mark.parametrize("layout", Layout)
def test_one_service_touches_its_own_place_in_the_lists(layout: Layout) -> None:
    compiler = Compiler(NODE, layout)
    compiler.update({name(number): service(number) for number in range(200)})
    change = compiler.update({name(7): service(7, ())})
    lists = [chain for chain in (*change.nat, *change.filter) if chain.startswith("KUBE-SERVICES")]
    assert 2 <= len(lists) <= 5
    back = compiler.update({name(7): service(7)})
    assert {chain: (new, old) for chain, (old, new) in back.nat.items()} == dict(change.nat)
    assert {chain: (new, old) for chain, (old, new) in back.filter.items()} == dict(change.filter)


@pytest.mark.parametrize("layout", Layout)
def test_the_same_plan_again_changes_nothing(layout: Layout) -> None:
    compiler = Compiler(NODE, layout)
    services = {name(number): service(number) for number in range(30)}
    compiler.update(services)
    change = compiler.update(services)
    assert (change.nat, change.filter) == ({}, {})


@pytest.mark.parametrize("layout", Layout)
def test_a_service_that_was_never_there_may_go(layout: Layout) -> None:
    change = Compiler(NODE, layout).update({name(1): None})
    assert (change.nat, change.filter) == ({}, {})


def test_of_two_services_with_one_address_the_first_by_name_wins_in_both_layouts() -> None:
    rival = msgspec.structs.replace(service(2, LOCAL), frontends=service(1).frontends)
    for layout in Layout:
        compiler = Compiler(NODE, layout)
        compiler.update({name(2): rival})
        compiler.update({name(1): service(1)})
        rules: tuple[Rule, ...] = compiler.ruleset.table(TableName.NAT).chains[names.SERVICES]
        first = next(rule for rule in rules if rule.destination and rule.destination.cidr == "10.96.0.1/32")
        assert first.target == next(iter(compile_plan(plan(service(1)), layout).nat.chains[names.SERVICES])).target
