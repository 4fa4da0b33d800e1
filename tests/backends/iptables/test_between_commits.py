"""A sync's commits, as packets see them: what becomes of one that comes in between is what was, or what will be.

In mode iptables a sync takes up to three commits. In between nobody may be dropped who was served before and is refused
afterwards, nor let through who is dropped both before and afterwards. Mode nftables has no such moment: a sync is one
transaction there, to which tests/backends/nftables/kernel/test_applier.py holds it.

Nobody is ever served who is served neither before nor afterwards: nat, which serves, is replaced at once. Not held to
the rest, so that somebody may be dropped or refused for a moment:

* How kproxy is set and what the node is, with which kproxy starts anew. What keeps the network from 127.0.0.0/8, as
  node ports there need it, comes first and goes last.
* A node's first start, before which nothing was served: what filter has comes first, guards with it.
* A node port of the number that another Service serves at one of the node's own addresses, when both change at once and
  in opposite ways. The two have one packet in common, and each needs another table first: no order does for both.
"""

import itertools
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from random import Random
from typing import Any, TypeAlias

import pytest
from hypothesis import given

from kproxy.backends.iptables.rules.ruleset import RuleSet, TableName
from kproxy.backends.iptables.rules.walk import outcomes
from kproxy.backends.packet import Outcome, Packet
from kproxy.state.model import IPFamily
from tests.kit.examples import chances
from tests.kit.iptables.steps import commits, repairs, states
from tests.kit.semantics import examples
from tests.kit.semantics.builds import BUILDS, CLASSIC, SPLIT_EARLY, Build
from tests.kit.semantics.changes import Change, changes, concerned
from tests.kit.semantics.cluster import HERE, PLANES, Cluster

FILTER, NAT = TableName.FILTER, TableName.NAT
PLANE = PLANES[IPFamily.IPV4]


Outcomes: TypeAlias = Mapping[Outcome, Fraction]


def assert_one_of(found: Outcomes, was: Outcomes, will_be: Outcomes, packet: Packet) -> None:
    assert found in (was, will_be), f"{packet}: {found}, where it was {was} and will be {will_be}"


# --- whatever changes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", BUILDS, ids=str)
@examples(20)
@given(change=changes(), chance=chances)
def test_a_packet_meets_what_was_or_what_will_be(build: Build, change: Change, chance: Random) -> None:
    before, after = (build.compile(cluster.plan()) for cluster in change)
    stages = list(states(before, after))
    if len(stages) < 3:
        return  # one commit, or none
    possible = concerned(change)
    world = change.before.world._replace(forward_accept=chance.random() < 0.5)
    for packet in chance.sample(possible, min(25, len(possible))):
        was, *between, will_be = (outcomes(stage, packet, world) for stage in stages)
        for found in between:
            assert_one_of(found, was, will_be, packet)


# --- all that a Service can turn into ------------------------------------------------------------------------------

BOTH = {PLANE.pods_here.format(101): HERE, PLANE.pods_there.format(102): "node-b"}
THERE = {PLANE.pods_there.format(102): "node-b"}
GUARD = {"loadBalancerSourceRanges": [f"{PLANE.client}/32"]}
LOCAL = {"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"}

KINDS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, str]] | None] = {
    "gone": None,
    "refused": (GUARD, {}),
    "guarded": (GUARD, BOTH),
    "guarded and silent": (GUARD | LOCAL, THERE),
    "silent": (LOCAL, THERE),
    "served here": (LOCAL, BOTH),
    "served": ({}, BOTH),
}
"""What a Service's spec says besides, and its endpoints with their nodes."""

THREE_COMMITS = {("guarded", "silent"), ("silent", "guarded")}
"""Where policy Local comes as source ranges go, one frontend begins to be dropped and another ceases to be guarded."""

ONE_COMMIT = {*itertools.permutations(("gone", "served"), 2), *itertools.permutations(("gone", "refused"), 2)}
"""Where one of the tables says nothing of the Service."""


def shop(kind: str) -> Cluster:
    """A Service with every way in, or none."""
    services: dict[str, Mapping[str, Any]] = {}
    slices: dict[str, Mapping[str, Any]] = {}
    found = KINDS[kind]
    if found is not None:
        more, endpoints = found
        spec = {
            "type": "LoadBalancer",
            "clusterIP": "10.96.0.7",
            "clusterIPs": ["10.96.0.7"],
            "externalIPs": [PLANE.externals.format(7)],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30_007}],
            "healthCheckNodePort": 32_007,
        }
        services["shop"] = {
            "metadata": {"name": "shop", "namespace": "demo"},
            "spec": spec | dict(more),
            "status": {"loadBalancer": {"ingress": [{"ip": PLANE.balancers.format(7)}]}},
        }
        labels = {"kubernetes.io/service-name": "shop"}
        slices["shop"] = {
            "metadata": {"name": "shop", "namespace": "demo", "labels": labels},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [ip], "nodeName": node} for ip, node in endpoints.items()],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        }
    addresses = [{"type": "InternalIP", "address": PLANE.node}]
    return Cluster(
        IPFamily.IPV4,
        services,
        slices,
        {"metadata": {"name": HERE}, "status": {"addresses": addresses}},
        {"clusterCIDR": PLANE.cluster_cidr, "nodePortAddresses": []},
        (PLANE.node, PLANE.bridge, PLANE.loopback),
        liberal=False,
    )


CLIENTS = {PLANE.client: "eth0", PLANE.other_client: "eth0", PLANE.pods_here.format(50): "cni0", PLANE.node: ""}
PACKETS = [
    Packet(source, ip, 80 if ip != PLANE.node else 30_007, in_interface=interface)
    for source, interface in CLIENTS.items()
    for ip in ("10.96.0.7", PLANE.externals.format(7), PLANE.balancers.format(7), PLANE.node)
]
"""From everybody by every way."""

WORLD = shop("gone").world


@cache
def compiled(build: Build, kind: str) -> RuleSet:
    return build.compile(shop(kind).plan())


@cache
def met(build: Build, kind: str) -> Sequence[Outcomes]:
    return [outcomes(compiled(build, kind), packet, WORLD) for packet in PACKETS]


@pytest.mark.parametrize("build", [CLASSIC, SPLIT_EARLY], ids=str)
@pytest.mark.parametrize("was", KINDS)
def test_a_service_turns_into_anything_without_a_moment_between(build: Build, was: str) -> None:
    for will_be in [kind for kind in KINDS if kind != was]:
        _, *between, _ = stages = list(states(compiled(build, was), compiled(build, will_be)))
        for stage in between:
            for packet, before, after in zip(PACKETS, met(build, was), met(build, will_be), strict=True):
                assert_one_of(outcomes(stage, packet, WORLD), before, after, packet)
        wanted = 3 if (was, will_be) in THREE_COMMITS else 1 if (was, will_be) in ONE_COMMIT else 2
        assert len(stages) - 1 == wanted, will_be


def test_another_endpoint_is_one_commit() -> None:
    one = shop("served")
    other = one._replace(slices={"shop": {**one.slices["shop"], "endpoints": [{"addresses": ["10.244.0.103"]}]}})
    for build in BUILDS:
        before, after = (build.compile(cluster.plan()) for cluster in (one, other))
        assert [name for name, _ in commits(before, after)] == [NAT]


@pytest.mark.parametrize("build", BUILDS, ids=str)
@examples(5)
@given(change=changes())
def test_a_full_comparison_commits_in_the_same_order(build: Build, change: Change) -> None:
    before, after = (build.compile(cluster.plan()) for cluster in change)
    step, repair = commits(before, after), repairs(before, after)
    assert [(table, edit.fill, edit.hunks, set(edit.remove)) for table, edit in repair] == [
        (table, edit.fill, edit.hunks, set(edit.remove)) for table, edit in step
    ]
