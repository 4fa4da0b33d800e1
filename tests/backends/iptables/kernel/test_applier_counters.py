"""A rule that is rewritten, and sends to the same endpoint as before, goes on counting where it stood.

In the large layout the rules of a draw count an endpoint's connections, and each endpoint that comes or goes changes
the chances of others. ip6tables-nft 1.8.9 takes no counters with a rule: there, what is rewritten begins at zero.
"""

import contextlib
import re
import socket
import subprocess
from collections.abc import Sequence

import msgspec
import pytest

from kproxy.backends.iptables.compile.draw import flat_draw
from kproxy.backends.iptables.kernel.edit import heirs
from kproxy.backends.iptables.kernel.variant import Variant
from kproxy.backends.iptables.rules.diff import Hunk, diff
from kproxy.backends.iptables.rules.ruleset import DestinationNat, Match, Random, Rule, RuleSet, TableName
from kproxy.state.model import Endpoint, IPFamily, Protocol
from tests.kit.iptables.applier import Node, node
from tests.kit.iptables.samples import pod_address, sample, service_address, service_chain
from tests.kit.iptables.tools import saved

__all__ = ["node"]

ENOUGH = 60
"""Connections after which each of three endpoints has had one, but for once in ten billion times."""

COUNTED = re.compile(r"\[(\d+):(\d+)\] ")


def drawing(family: IPFamily, pods: Sequence[int]) -> RuleSet:
    """A ruleset with one service whose draw itself sends to its pods."""

    def send(endpoint: Endpoint, matches: tuple[Match, ...]) -> Rule:
        return Rule(protocol=Protocol.TCP, target=DestinationNat(endpoint.ip, endpoint.port), matches=matches)

    ruleset = sample(family, {1: [11]})
    endpoints = [Endpoint(pod_address(family, pod), 8080) for pod in pods]
    chains = {**ruleset.nat.chains, service_chain(1): flat_draw(endpoints, send)}
    return msgspec.structs.replace(ruleset, nat=msgspec.structs.replace(ruleset.nat, chains=chains))


def connect(node: Node) -> None:
    for command in (
        "ip link set lo up",
        "ip route replace local 10.0.0.0/8 dev lo",
        "ip -6 route replace local fd00::/8 dev lo",
    ):
        subprocess.run(command.split(), check=True)
    family = socket.AF_INET if node.family is IPFamily.IPV4 else socket.AF_INET6
    for _ in range(ENOUGH):
        with socket.socket(family) as client, contextlib.suppress(ConnectionRefusedError):
            client.connect((service_address(node.family, 1).cidr.partition("/")[0], 80))


def counted(node: Node, pods: Sequence[int]) -> dict[int, tuple[int, int]]:
    lines = saved(node.family, node.variant, TableName.NAT, counters=True)
    found = [COUNTED.match(line) for line in lines if f" -A {service_chain(1)} " in line]
    return dict(zip(pods, [(int(one[1]), int(one[2])) for one in found if one], strict=True))


def takes_counters(node: Node) -> bool:
    """Whether the node's iptables can give a new rule counters; the legacy tables need no help of it."""
    if node.variant is Variant.LEGACY:
        return True
    node.run("-t nat -N PROBE")
    node.run("-t nat -A PROBE -c 7 420")
    return "[7:420] -A PROBE" in saved(node.family, node.variant, TableName.NAT, counters=True)


@pytest.mark.kernel
@pytest.mark.parametrize(
    "after", [[11, 12], [12, 13], [13], [10, 11, 12, 13, 14], [11, 12, 13, 14], [10, 13]], ids=lambda pods: f"{pods}"
)
def test_an_endpoint_that_comes_or_goes(node: Node, after: list[int]) -> None:
    before = [11, 12, 13]
    node.applier.reconcile(drawing(node.family, before))
    connect(node)
    counts = counted(node, before)
    assert sum(packets for packets, _ in counts.values()) == ENOUGH
    assert all(packets for packets, _ in counts.values())
    ruleset = drawing(node.family, after)
    assert not node.applier.apply(diff(drawing(node.family, before), ruleset)).full
    assert node.saved() == node.rendered(ruleset)
    inherited = counted(node, after)
    if takes_counters(node):
        assert inherited == {pod: counts.get(pod, (0, 0)) for pod in after}
    else:
        assert all(count in (counts.get(pod), (0, 0)) for pod, count in inherited.items())
    connect(node)
    grown = counted(node, after)
    assert sum(packets - inherited[pod][0] for pod, (packets, _) in grown.items()) == ENOUGH


@pytest.mark.kernel
def test_a_repair(node: Node) -> None:
    """Somebody changed the chances."""
    pods = [11, 12, 13]
    ruleset = drawing(node.family, pods)
    chain = ruleset.nat.chains[service_chain(1)]
    unfair = msgspec.structs.replace(chain[0], matches=(Random(Random.ONE // 2),))
    chains = {**ruleset.nat.chains, service_chain(1): (unfair, *chain[1:])}
    node.applier.reconcile(msgspec.structs.replace(ruleset, nat=msgspec.structs.replace(ruleset.nat, chains=chains)))
    connect(node)
    counts = counted(node, pods)
    assert node.applier.reconcile(ruleset).repaired == 1
    assert node.saved() == node.rendered(ruleset)
    if takes_counters(node):
        assert counted(node, pods) == counts


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (["1/2 a", "b"], ["1/3 a", "1/2 b", "c"], {0: 0, 1: 1}),
        (["1/3 a", "1/2 b"], ["1/2 b"], {0: 1}),
        (["x -", "1/2 a"], ["y -", "a"], {1: 1}),
        (["a"], ["b"], {}),
        ([], ["a"], {}),
    ],
)
def test_heirs(old: list[str], new: list[str], expected: dict[int, int]) -> None:
    def destination(rule: str) -> str:
        return rule.split()[-1].strip("-")

    assert heirs(Hunk(7, tuple(old), tuple(new)), destination) == expected
