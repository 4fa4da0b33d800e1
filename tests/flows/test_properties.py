"""Random clusters: every packet goes where Kubernetes says, with the chances it says, and nowhere else."""

from collections.abc import Mapping
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given

from kproxy.backends.iptables.rules.walk import branches, outcomes
from kproxy.backends.packet import Outcome, Packet
from tests.kit.examples import chances
from tests.kit.semantics import examples
from tests.kit.semantics.builds import BUILDS, Build
from tests.kit.semantics.cluster import Cluster, clusters
from tests.kit.semantics.oracle import expected
from tests.kit.semantics.traffic import aged, packets, pods_elsewhere

TOLERANCE = Fraction(1, 2**28)  # for draws some levels deep; test_draw has the exact bounds


def distance(one: Mapping[Outcome, Fraction], other: Mapping[Outcome, Fraction]) -> Fraction:
    """Return by how much two spreads differ where they differ most; anything not in both differs by 1."""
    if one.keys() != other.keys():
        return Fraction(1)
    return max(abs(one[outcome] - other[outcome]) for outcome in one)


def reaching(cluster: Cluster) -> list[Packet]:
    """Return the packets that can reach this node: what a pod of another sends to a Service's address cannot."""
    elsewhere, world = pods_elsewhere(cluster), cluster.world
    return [packet for packet in packets(cluster) if packet.source not in elsewhere or world.is_own(packet.destination)]


@pytest.mark.parametrize("build", BUILDS, ids=str)
@examples(60)
@given(cluster=clusters(), chance=chances)
def test_every_packet_goes_where_kubernetes_says(build: Build, cluster: Cluster, chance: Random) -> None:
    ruleset = build.compile(cluster.plan())
    possible = reaching(cluster)
    for packet in chance.sample(possible, min(40, len(possible))):
        found = outcomes(ruleset, packet, cluster.world)
        wanted = expected(cluster, packet)
        assert distance(found, wanted) < TOLERANCE, (packet, found, wanted)


@pytest.mark.parametrize("build", BUILDS, ids=str)
@examples(25)
@given(cluster=clusters(), chance=chances)
def test_a_client_with_affinity_comes_back_to_its_endpoint(build: Build, cluster: Cluster, chance: Random) -> None:
    ruleset = build.compile(cluster.plan())
    possible = [packet for packet in reaching(cluster) if packet.in_interface]
    for packet in chance.sample(possible, min(40, len(possible))):
        for branch in branches(ruleset, packet, cluster.world):
            if not branch.memory:
                continue
            later = cluster.world._replace(memory=aged(branch.memory, 10_800))
            assert outcomes(ruleset, packet, later) == {branch.outcome: 1}
            too_late = cluster.world._replace(memory=aged(branch.memory, 10_801))
            assert distance(outcomes(ruleset, packet, too_late), expected(cluster, packet)) < TOLERANCE


@examples(30)
@given(cluster=clusters(), chance=chances)
def test_no_packet_can_tell_the_layouts_apart(cluster: Cluster, chance: Random) -> None:
    rulesets = [build.compile(cluster.plan()) for build in BUILDS]
    possible = reaching(cluster)
    for packet in chance.sample(possible, min(40, len(possible))):
        classic, *others = (outcomes(ruleset, packet, cluster.world) for ruleset in rulesets)
        assert all(distance(classic, other) < TOLERANCE for other in others), packet
