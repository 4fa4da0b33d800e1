"""Random clusters through the nftables ruleset: every packet goes where Kubernetes says, and nowhere else."""

import ipaddress
from collections.abc import Mapping
from fractions import Fraction
from random import Random

import msgspec
from hypothesis import given

from kproxy.backends.nftables.compile.compiler import compile_plan
from kproxy.backends.nftables.rules.walk import branches, outcomes
from kproxy.backends.packet import DROPPED, REFUSED, UNTOUCHED, Outcome, Packet
from kproxy.plan.model import Plan
from tests.kit.examples import chances
from tests.kit.semantics import examples
from tests.kit.semantics.cluster import Cluster, clusters
from tests.kit.semantics.oracle import expected
from tests.kit.semantics.traffic import aged, packets, pods_elsewhere

TOLERANCE = Fraction(1, 2**30)
_UNTOUCHED = {Outcome(UNTOUCHED): Fraction(1)}
_REFUSED = {Outcome(REFUSED): Fraction(1)}


def in_this_mode(cluster: Cluster) -> Cluster:
    """Mode nftables has no node ports at localhost, nor the guard that goes with them."""
    section = {**cluster.config.get("iptables", {}), "localhostNodePorts": False}
    return cluster._replace(config={**cluster.config, "iptables": section})


def wanted(cluster: Cluster, plan: Plan, packet: Packet) -> dict[Outcome, Fraction]:
    """Return what the oracle says, where it speaks of mode iptables in the words of mode nftables."""
    found = expected(cluster, packet)
    own = cluster.world.is_own(packet.destination)
    answering = plan.node.node_port_ips
    if answering is None:
        answering = tuple(ip for ip in cluster.addresses if ip != cluster.plane.loopback)
    frontends = [
        (frontend, service)
        for service in plan.services.values()
        for frontend in service.frontends
        if service.name.protocol is packet.protocol and frontend.port == packet.port
    ]
    at_address = [service for frontend, service in frontends if frontend.ip == packet.destination]
    at_port = [service for frontend, service in frontends if frontend.ip is None and own]
    if not at_address and at_port and packet.destination not in answering:
        return _UNTOUCHED  # mode iptables refuses and drops at all addresses
    if found != _UNTOUCHED:
        return found
    if at_address:
        return _REFUSED  # mode iptables does not refuse what the node sends to elsewhere
    cluster_ips = {service.frontends[0].ip for service in plan.services.values()}
    return _REFUSED if packet.destination in cluster_ips and not own else found


def distance(one: Mapping[Outcome, Fraction], other: Mapping[Outcome, Fraction]) -> Fraction:
    if one.keys() != other.keys():
        return Fraction(1)
    return max(abs(one[outcome] - other[outcome]) for outcome in one)


def reaching(cluster: Cluster) -> list[Packet]:
    """Return the packets that can reach this node: what a pod of another sends to a Service's address cannot."""
    elsewhere, world = pods_elsewhere(cluster), cluster.world
    return [packet for packet in packets(cluster) if packet.source not in elsewhere or world.is_own(packet.destination)]


@examples(120)
@given(cluster=clusters(), chance=chances)
def test_every_packet_goes_where_kubernetes_says(cluster: Cluster, chance: Random) -> None:
    cluster = in_this_mode(cluster)
    plan = cluster.plan()
    ruleset = compile_plan(plan)
    possible = reaching(cluster)
    for packet in chance.sample(possible, min(40, len(possible))):
        found, right = outcomes(ruleset, packet, cluster.world), wanted(cluster, plan, packet)
        assert distance(found, right) < TOLERANCE, (packet, found, right)


@examples(40)
@given(cluster=clusters(), chance=chances)
def test_a_client_with_affinity_comes_back_to_its_endpoint(cluster: Cluster, chance: Random) -> None:
    cluster = in_this_mode(cluster)
    plan = cluster.plan()
    ruleset = compile_plan(plan)
    possible = [packet for packet in reaching(cluster) if packet.in_interface]
    for packet in chance.sample(possible, min(40, len(possible))):
        for branch in branches(ruleset, packet, cluster.world):
            if not branch.memory:
                continue
            later = cluster.world._replace(memory=aged(branch.memory, 10_799))
            assert outcomes(ruleset, packet, later) == {branch.outcome: 1}
            too_late = cluster.world._replace(memory=aged(branch.memory, 10_801))
            assert distance(outcomes(ruleset, packet, too_late), wanted(cluster, plan, packet)) < TOLERANCE


@examples(40)
@given(cluster=clusters(), chance=chances)
def test_addresses_without_a_service_are_silent_where_their_ranges_are_known(cluster: Cluster, chance: Random) -> None:
    cluster = in_this_mode(cluster)
    plan = cluster.plan()
    node = msgspec.structs.replace(plan.node, service_cidrs=(cluster.plane.services, cluster.plane.services))
    ruleset = compile_plan(msgspec.structs.replace(plan, node=node))
    free = str(ipaddress.ip_network(cluster.plane.services)[777])
    sources = reaching(cluster)
    for packet in chance.sample(sources, min(10, len(sources))):
        lost = packet._replace(destination=free)
        taken = any(frontend.ip == free for service in plan.services.values() for frontend in service.frontends)
        if not taken:
            assert outcomes(ruleset, lost, cluster.world) == {Outcome(DROPPED): 1}
