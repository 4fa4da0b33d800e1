"""Connections to node ports of 127.0.0.1 are counted, and nothing else is.

The upstream test "KubeProxy should update metric for tracking accepted packets destined for localhost nodeports" asks
for no more than that the figure grows.
"""

from collections.abc import Sequence
from contextlib import closing

import pytest

from hack.lab import Outcome
from tests.kit.packets import World

pytestmark = pytest.mark.kernel

METRIC = "kubeproxy_iptables_localhost_nodeports_accepted_packets_total"
WAYS = {
    "classic": ("--layout", "classic"),
    "large": ("--layout", "large"),
    "nft variant": ("--iptables-variant", "nft"),
    "localhost by a range": ("--nodeport-addresses", "127.0.0.1/32,10.0.0.0/24"),
}


@pytest.fixture(scope="module", params=list(WAYS))
def kproxy_args(request: pytest.FixtureRequest) -> Sequence[str]:
    args: Sequence[str] = WAYS[request.param]
    return args


def test_what_node_ports_accept_at_localhost_is_counted(world: World) -> None:
    node, client = world.lab.node, world.lab.client
    pods = [world.lab.pod("web-1"), world.lab.pod("web-3")]
    shop = world.expose("shop", 10, pods, protocols=("TCP", "UDP"), type="NodePort")
    node.addresses.append("127.0.0.1")
    server = node.serve(4321, name="own")
    node.addresses.remove("127.0.0.1")
    before = world.kproxy.metrics()[METRIC]
    with closing(server):
        for _ in range(3):
            assert node.ask("127.0.0.1", shop.node_port).outcome is Outcome.ANSWERED
            assert node.ask("127.0.0.1", shop.node_port, "UDP").outcome is Outcome.ANSWERED
        for _ in range(5):  # no node port, no localhost, no service
            assert node.ask("127.0.0.1", 4321).outcome is Outcome.ANSWERED
            assert client.ask(node.ip, shop.node_port).outcome is Outcome.ANSWERED
            assert node.ask("127.0.0.1", 4322).outcome is Outcome.REFUSED
    assert world.kproxy.metrics()[METRIC] == before + 6
    world.expose("more", 11, pods, type="NodePort")  # rewrites the lists
    assert world.kproxy.metrics()[METRIC] == before + 6
    assert node.ask("127.0.0.1", 30011).outcome is Outcome.ANSWERED
    assert world.kproxy.metrics()[METRIC] == before + 7
