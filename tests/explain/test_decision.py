"""What the plan says of a connection is what the table of flows, the oracle and the rules of all engines say of it."""

import functools
from collections.abc import Callable, Mapping
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given

from kproxy.backends.iptables.rules.walk import outcomes as through_iptables
from kproxy.backends.nftables.compile.compiler import compile_plan as compile_nftables
from kproxy.backends.nftables.rules.walk import outcomes as through_nftables
from kproxy.backends.packet import Outcome, PacketState
from kproxy.explain.decision import decide
from kproxy.explain.view import View
from kproxy.node.facts import proxy_settings
from kproxy.state.model import IPFamily
from tests.backends.nftables.test_properties import in_this_mode, reaching
from tests.flows.scenarios import Flow, Scenario, scenarios
from tests.kit.examples import chances
from tests.kit.semantics import examples
from tests.kit.semantics.builds import BUILDS, CLASSIC
from tests.kit.semantics.cluster import Cluster, clusters
from tests.kit.semantics.oracle import expected
from tests.kit.views import view_of

TOLERANCE = Fraction(1, 2**28)
MODES = ("iptables", "nftables")


def distance(one: Mapping[Outcome, Fraction], other: Mapping[Outcome, Fraction]) -> Fraction:
    if one.keys() != other.keys():
        return Fraction(1)
    return max(abs(one[outcome] - other[outcome]) for outcome in one)


def views(scenario: Scenario, mode: str) -> Callable[[IPFamily], View]:
    """Return what makes the view of a family, once."""

    @functools.cache
    def view(family: IPFamily) -> View:
        settings = proxy_settings(scenario.config(mode))
        return view_of(scenario.objects(), family, settings, scenario.facts(), scenario.world().own_addresses, mode)

    return view


def returning(view: View, flow: Flow) -> str | None:
    """Return the endpoint that affinity still remembers for the sender of a flow."""
    if flow.after is None:
        return None
    longest = max(service.affinity_seconds for service in view.plan.services.values())
    remembered = flow.after.seconds <= longest if view.mode == "iptables" else flow.after.seconds < longest
    return flow.after.endpoint if remembered else None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scenario", scenarios(), ids=str)
def test_every_flow_of_the_table(scenario: Scenario, mode: str) -> None:
    view_for, world = views(scenario, mode), scenario.world()
    for flow in scenario.flows:
        if flow.packet.state is not PacketState.NEW:
            continue  # what is explained are new connections
        view = view_for(flow.family)
        found = decide(view, flow.packet, world, returning=returning(view, flow)).outcomes()
        share = Fraction(1, len(flow.wanted(mode)))
        assert found == dict.fromkeys(flow.wanted(mode), share), flow.text


def of_cluster(cluster: Cluster, mode: str) -> View:
    addresses = cluster.world.own_addresses
    return view_of(cluster.objects(), cluster.family, cluster.settings, cluster.facts, addresses, mode)


@examples(40)
@given(cluster=clusters(), chance=chances)
def test_plan_rules_and_oracle_agree_in_mode_iptables(cluster: Cluster, chance: Random) -> None:
    view = of_cluster(cluster, "iptables")
    rulesets = [build.compile(view.plan) for build in BUILDS]
    possible = reaching(cluster)
    for packet in chance.sample(possible, min(40, len(possible))):
        found = decide(view, packet, cluster.world).outcomes()
        assert found == expected(cluster, packet), packet
        for ruleset in rulesets:
            assert distance(found, through_iptables(ruleset, packet, cluster.world)) < TOLERANCE, packet


@examples(40)
@given(cluster=clusters(), chance=chances)
def test_plan_and_rules_agree_in_mode_nftables(cluster: Cluster, chance: Random) -> None:
    cluster = in_this_mode(cluster)
    view = of_cluster(cluster, "nftables")
    ruleset = compile_nftables(view.plan)
    possible = reaching(cluster)
    for packet in chance.sample(possible, min(40, len(possible))):
        found = decide(view, packet, cluster.world).outcomes()
        assert distance(found, through_nftables(ruleset, packet, cluster.world)) < TOLERANCE, packet


@examples(20)
@given(cluster=clusters(contested=True), chance=chances)
def test_plan_and_rules_agree_who_gets_what_an_address_and_a_node_port_are_for(
    cluster: Cluster, chance: Random
) -> None:
    """Kubernetes does not say; the rules of each mode do."""
    views = [of_cluster(cluster, "iptables"), of_cluster(in_this_mode(cluster), "nftables")]
    iptables, nftables = CLASSIC.compile(views[0].plan), compile_nftables(views[1].plan)
    contested = [packet for packet in reaching(cluster) if packet.destination in cluster.addresses]
    for packet in chance.sample(contested, min(40, len(contested))):
        said = [decide(view, packet, cluster.world).outcomes() for view in views]
        assert distance(said[0], through_iptables(iptables, packet, cluster.world)) < TOLERANCE, packet
        assert distance(said[1], through_nftables(nftables, packet, cluster.world)) < TOLERANCE, packet
