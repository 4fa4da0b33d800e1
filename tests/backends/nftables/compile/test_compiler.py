"""Plans become sets, maps and chains of nftables, and a change of one service a handful of elements."""

import re
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given

from kproxy.backends.nftables.compile.compiler import Compiler, compile_plan
from kproxy.backends.nftables.compile.service import Claim
from kproxy.backends.nftables.rules import names
from kproxy.backends.nftables.rules.change import Change
from kproxy.backends.nftables.rules.ruleset import Data, Key, RuleSet
from kproxy.backends.nftables.rules.ways import ENDPOINT_MAPS
from kproxy.plan.model import Frontend, FrontendKind, LocalTraffic, Plan, Route, ServicePlan, Target
from kproxy.state.model import Endpoint, Protocol, ServicePortName
from tests.kit.nft import NODE, carry_out, copy, named, plan_of, pods, service, steps
from tests.kit.semantics import examples

EXTERNAL = Frontend(FrontendKind.EXTERNAL_IP, "203.0.113.1", 80)
NODE_PORT = Frontend(FrontendKind.NODE_PORT, None, 30080)
BALANCER = Frontend(FrontendKind.LOAD_BALANCER, "203.0.113.5", 80, ("192.0.2.0/24", "192.0.2.0/28", "10.0.0.0/8"))


def at_work(*services: ServicePlan) -> Compiler:
    compiler = Compiler(NODE)
    compiler.update({one.name: one for one in services})
    return compiler


def unnumbered(ruleset: RuleSet) -> RuleSet:
    """Take the numbers off endpoints: which has which depends on what was there before."""
    elements: dict[str, Mapping[Key, Data]] = dict(ruleset.elements)
    for name, held in elements.items():
        if name in ENDPOINT_MAPS:
            elements[name] = {(*key[:-1], *(data or ())): None for key, data in held.items()}
            numbers: dict[Key, set[str | int]] = {}
            for key in held:
                numbers.setdefault(key[:-1], set()).add(key[-1])
            assert all(found == set(range(len(found))) for found in numbers.values()), "numbers have gaps"
    return RuleSet(ruleset.sets, elements, ruleset.counters, ruleset.chains)


# --- what a service becomes ----------------------------------------------------------------------------------------


def test_a_cluster_ip_is_an_element_for_its_way_and_one_for_each_endpoint() -> None:
    ruleset = compile_plan(plan_of(service("web", 10, pods(1, 2, 3))))
    assert ruleset.elements == {
        "tcp/cluster-4/off-cluster": {("10.96.0.10", 80): None},
        "tcp/cluster-endpoints": {("10.96.0.10", 80, n): (f"10.244.0.{n + 1}", 8080) for n in range(3)},
        names.CLUSTER_IPS: {("10.96.0.10",): None},
        names.HAIRPIN: {(f"10.244.0.{n}", f"10.244.0.{n}"): None for n in (1, 2, 3)},
    }


def test_pods_of_other_nodes_cannot_hairpin() -> None:
    away = Endpoint("10.244.1.1", 8080, is_remote=True)
    assert names.HAIRPIN not in compile_plan(plan_of(service("web", 10, [away]))).elements


def test_without_endpoints_there_is_but_the_refusal() -> None:
    ruleset = compile_plan(plan_of(service("web", 10, more=[NODE_PORT])))
    assert ruleset.elements == {
        names.REFUSED: {("10.96.0.10", "tcp", 80): None},
        names.REFUSED_NODE_PORTS: {("tcp", 30080): None},
        names.CLUSTER_IPS: {("10.96.0.10",): None},
    }


def test_source_ranges_are_merged_and_count_whom_they_keep_out() -> None:
    elements = compile_plan(plan_of(service("web", 10, pods(1), more=[BALANCER]))).elements
    key = ("203.0.113.5", "tcp", 80)
    assert elements[names.GUARDED] == elements[names.NOT_PERMITTED] == {key: None}
    assert elements[names.PERMITTED] == {(*key, "192.0.2.0/24"): None, (*key, "10.0.0.0/8"): None}


def test_there_is_a_chain_for_each_way_and_none_for_a_service() -> None:
    few = compile_plan(plan_of(*(service(f"web-{n}", n, pods(1, 2, 3)) for n in range(3))))
    many = compile_plan(plan_of(*(service(f"web-{n}", n, pods(1, 2, 3)) for n in range(200))))
    assert few.chains == many.chains
    assert few.sets == many.sets


def test_services_with_affinity_have_chains_of_their_own_and_share_one_set_of_clients() -> None:
    sticky = [service(name, n, pods(1, 2), more=[NODE_PORT], affinity_seconds=600) for n, name in enumerate("ab", 10)]
    ruleset = compile_plan(plan_of(*sticky))
    own = "affinity/shop/a/http/tcp"
    assert {name for name in ruleset.sets if name.startswith(("affinity", "own"))} == {
        names.AFFINITY_CLIENTS, names.OWN_ENDPOINTS,
    }  # fmt: skip
    assert len(ruleset.elements[names.OWN_ENDPOINTS]) == 4
    assert ruleset.elements["tcp/own-chains"]["10.96.0.10", 80] == (f"{own}/internal",)
    assert ruleset.elements["tcp/node-port/own-chains"] == {(30080,): (f"{own}/external",)}
    assert {name for name in ruleset.chains if name.startswith(own)} == {
        f"{own}/internal", f"{own}/external", f"{own}/cluster",
    }  # fmt: skip


def test_what_has_counted_for_an_endpoint_with_affinity_is_told_when_it_goes() -> None:
    compiler = at_work(service("web", 10, pods(1, 2), affinity_seconds=600))
    change = compiler.update({named("web"): service("web", 10, pods(2), affinity_seconds=600)})
    (numbers,) = change.elements_gone[names.OWN_ENDPOINTS]
    assert dict(change.own_gone) == {numbers: (named("web"), "10.244.0.1:8080")}
    assert set(compiler.own_endpoints.values()) == {(named("web"), "10.244.0.2:8080")}


# --- changes -------------------------------------------------------------------------------------------------------


def size(change: Change) -> tuple[int, int, int]:
    """How many elements, chains and sets a change is about."""
    chains = len(change.chains_gone) + len(change.chains_come)
    return change.size, chains, len(change.sets_gone) + len(change.sets_come)


MOVES: list[tuple[str, ServicePlan | None, tuple[int, int, int]]] = [
    ("one endpoint in another's place", service("web", 10, pods(1, 2, 9, 4, 5)), (2 + 2, 0, 0)),
    ("one endpoint more", service("web", 10, pods(1, 2, 3, 4, 5, 6)), (1 + 1, 0, 0)),
    ("the first one gone", service("web", 10, pods(2, 3, 4, 5, 6, 7)), (2 + 1 + 3, 0, 0)),
    ("gone altogether", None, (1 + 5 + 1 + 5, 0, 0)),
    ("the same", service("web", 10, pods(5, 4, 3, 2, 1)), (0, 0, 0)),
    ("to another size that others have", service("web", 10, pods(1, 2, 3, 4)), (2 + 1 + 1, 0, 0)),
]


@pytest.mark.parametrize(("what", "plan", "wanted"), MOVES, ids=[move[0] for move in MOVES])
@pytest.mark.parametrize("neighbours", [10, 300])
def test_a_change_is_as_small_as_what_changed(
    neighbours: int, what: str, plan: ServicePlan | None, wanted: tuple[int, int, int]
) -> None:
    sizes = (1, 2, 4, 8)
    others = [
        service(f"other-{n}", n + 11, [Endpoint(f"10.244.9.{k}", 80, is_remote=True) for k in range(sizes[n % 4])])
        for n in range(neighbours)
    ]
    compiler = at_work(service("web", 10, pods(1, 2, 3, 4, 5)), *others)
    assert size(compiler.update({named("web"): plan})) == wanted, what


def test_a_size_that_nobody_has_brings_its_chains() -> None:
    compiler = at_work(service("web", 10, pods(1)))
    bigger = compiler.update({named("web"): service("web", 10, pods(1, 2, 3))})
    assert bigger.sets_come.keys() == {"tcp/cluster-4/off-cluster"}
    assert bigger.sets_gone.keys() == {"tcp/cluster-1/off-cluster"}
    assert bigger.chains_gone == {"tcp/cluster-1/off-cluster"}
    assert bigger.chains_come.keys() == {
        "tcp/cluster-4", "tcp/cluster-4/once", "tcp/cluster-4/off-cluster", "tcp/services",
    }  # fmt: skip


def test_draws_that_nobody_uses_stay_until_they_are_collected() -> None:
    """To bring one back costs a walk through all endpoints."""
    compiler = at_work(service("web", 10, pods(1, 2, 3)), service("other", 11, pods(1)))
    five = compiler.update({named("web"): service("web", 10, pods(1, 2, 3, 4, 5))})
    assert five.chains_gone == {"tcp/cluster-4/off-cluster"}
    three = compiler.update({named("web"): service("web", 10, pods(1, 2, 3))})
    assert three.chains_come.keys() == {"tcp/cluster-4/off-cluster", "tcp/services"}
    compiler.collect()
    nothing_new = compiler.update({})
    assert nothing_new.chains_gone == {"tcp/cluster-8", "tcp/cluster-8/once"}
    assert nothing_new.after == compile_plan(plan_of(service("web", 10, pods(1, 2, 3)), service("other", 11, pods(1))))


def test_nothing_is_left_of_the_last_service() -> None:
    compiler = at_work(service("web", 10, pods(1, 2, 3)), service("sticky", 11, pods(1), affinity_seconds=60))
    change = compiler.update({named("web"): None, named("sticky"): None})
    assert change.after == compile_plan(plan_of())
    assert change.after.elements == {}


def test_elements_that_count_are_removed_one_by_one_even_with_their_map() -> None:
    """Only so does the kernel tell what they have counted."""
    compiler = at_work(service("web", 10, pods(1)))
    change = compiler.update({named("web"): None})
    assert "tcp/cluster-endpoints" in change.sets_gone
    assert change.elements_gone["tcp/cluster-endpoints"] == {("10.96.0.10", 80, 0): ("10.244.0.1", 8080)}
    assert change.elements_gone["tcp/cluster-1/off-cluster"] == {("10.96.0.10", 80): None}


def test_a_pod_behind_two_services_can_hairpin_until_it_is_behind_none() -> None:
    compiler = at_work(service("one", 10, pods(1)), service("two", 11, pods(1)))
    first = compiler.update({named("one"): None})
    assert names.HAIRPIN not in first.elements_gone
    second = compiler.update({named("two"): None})
    assert second.elements_gone[names.HAIRPIN] == {("10.244.0.1", "10.244.0.1"): None}


def test_another_mark_changes_rules_and_no_element() -> None:
    services = [service("web", 10, pods(1)), service("sticky", 11, pods(1), affinity_seconds=60)]
    compiler = at_work(*services)
    node = msgspec.structs.replace(NODE, masquerade_mark=0x8000, local_traffic=LocalTraffic(bridge="cni0"))
    change = compiler.set_node(node, {one.name: one for one in services})
    assert change.size == 0
    assert change.after == compile_plan(plan_of(*services, node=node))
    assert change.chains_come.keys() == {
        names.NAT_POSTROUTING, "tcp/cluster-1/off-cluster", "affinity/shop/sticky/http/tcp/internal",
    }  # fmt: skip


# --- whose address it is -------------------------------------------------------------------------------------------


def owned_by(ruleset: RuleSet) -> Data:
    return ruleset.elements["tcp/cluster-endpoints"]["203.0.113.1", 80, 0]


def test_of_two_who_claim_an_address_the_first_by_name_has_it() -> None:
    one, two = service("a", 10, pods(1), more=[EXTERNAL]), service("b", 11, pods(2), more=[EXTERNAL])
    for order in ((one, two), (two, one)):
        compiler = Compiler(NODE)
        for each in order:
            compiler.update({each.name: each})
        assert owned_by(compiler.ruleset) == ("10.244.0.1", 8080)
        assert compiler.owner(Claim("203.0.113.1", 80, Protocol.TCP)) == named("a")


def test_the_next_takes_over_when_the_first_goes() -> None:
    compiler = at_work(*(service(name, n, pods(n), more=[EXTERNAL]) for n, name in enumerate("abcd", start=10)))
    for gone, heir in (("b", 10), ("a", 12), ("c", 13)):
        compiler.update({named(gone): None})
        assert owned_by(compiler.ruleset) == (f"10.244.0.{heir}", 8080)
    compiler.update({named("d"): None})
    assert compiler.ruleset.elements == {}


def test_a_service_that_waits_for_an_address_may_change() -> None:
    compiler = at_work(service("a", 10, pods(1), more=[EXTERNAL]), service("b", 11, pods(2), more=[EXTERNAL]))
    compiler.update({named("b"): service("b", 11, pods(3), more=[EXTERNAL])})
    assert owned_by(compiler.ruleset) == ("10.244.0.1", 8080)
    compiler.update({named("a"): service("a", 10, pods(1))})
    assert owned_by(compiler.ruleset) == ("10.244.0.3", 8080)


def test_a_cluster_ip_comes_before_an_external_ip_that_is_the_same() -> None:
    same = Frontend(FrontendKind.EXTERNAL_IP, "10.96.0.10", 80)
    ruleset = compile_plan(plan_of(service("web", 10, pods(1), more=[same])))
    assert [name for name in ruleset.elements if name.startswith("tcp/cluster-1")] == ["tcp/cluster-1/off-cluster"]


def test_a_local_policy_with_nobody_here_still_has_the_short_cut() -> None:
    away = Endpoint("10.244.1.1", 8080, is_remote=True)
    route = Route(Target.DROP, short_cut=True)
    elements = compile_plan(plan_of(service("web", 10, [away], more=[NODE_PORT], external=route))).elements
    assert elements["tcp/node-port/nowhere/short-cut"] == {(30080,): None}
    assert elements["tcp/node-port/short-cut/only/cluster-1"] == {(30080,): None}
    assert elements[names.DROPPED_NODE_PORTS] == {("tcp", 30080): None}


# --- what always holds ---------------------------------------------------------------------------------------------


@examples(150)
@given(changes=steps())
def test_step_by_step_is_the_same_as_from_scratch(changes: list[Mapping[ServicePortName, ServicePlan | None]]) -> None:
    compiler = Compiler(NODE)
    held = copy(compiler.ruleset)
    services: dict[ServicePortName, ServicePlan] = {}
    for change in changes:
        held = carry_out(held, compiler.update(change))
        for name, plan in change.items():
            services.pop(name, None)
            if plan is not None:
                services[name] = plan
        assert held == compiler.ruleset
        scratch = compile_plan(Plan(node=NODE, services=services))
        idle = held.chains.keys() - scratch.chains.keys()
        assert all(re.fullmatch(r".*/(cluster|local)-\d+(/once)?", chain) for chain in idle)
        assert unnumbered(held) == unnumbered(msgspec.structs.replace(scratch, chains=held.chains))
        assert {name: held.chains[name] for name in scratch.chains} == scratch.chains
    compiler.collect()
    held = carry_out(held, compiler.update({}))
    assert unnumbered(held) == unnumbered(compile_plan(Plan(node=NODE, services=services)))


@examples(50)
@given(changes=steps())
def test_the_order_of_services_does_not_matter(changes: list[Mapping[ServicePortName, ServicePlan | None]]) -> None:
    services: dict[ServicePortName, ServicePlan] = {}
    for change in changes:
        services |= {name: plan for name, plan in change.items() if plan is not None}
    backwards = dict(reversed(services.items()))
    assert compile_plan(Plan(node=NODE, services=services)) == compile_plan(Plan(node=NODE, services=backwards))
