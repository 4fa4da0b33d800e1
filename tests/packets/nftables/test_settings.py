"""What `tests.packets.test_settings` is about, in mode nftables."""

from typing import Any

import pytest

from hack.lab import Outcome
from tests.kit.packets import SILENCE, Exposed, World, address, each_family
from tests.packets.test_settings import *  # noqa: F403
from tests.packets.test_settings import CNI0, ETH0, LOCAL_MODES, NOWHERE, check_sources, places

ANSWERING: dict[str, tuple[dict[str, Any], dict[str, bool]]] = {  # type: ignore[no-redef]
    "the primary address, without a word": ({}, ETH0),
    "primary": ({"nodePortAddresses": ["primary"]}, ETH0),
    "everywhere": ({"nodePortAddresses": ["0.0.0.0/0", "::/0"]}, {**ETH0, **CNI0}),
    "ranges": ({"nodePortAddresses": ["10.244.0.0/24", "fd00:a::/64"]}, {"cni0": True, "eth0 v6": True}),
    "a range of one family": ({"nodePortAddresses": ["10.0.0.0/24"]}, {"eth0": True, "eth0 v6": True, "cni0 v6": True}),
    "never at localhost": ({"nodePortAddresses": ["127.0.0.0/8", "fd00:a::/64"]}, {"eth0 v6": True}),
}


@pytest.mark.parametrize("case", list(ANSWERING))  # type: ignore[no-redef]
def test_node_ports_answer_where_they_are_told_to(world: World, shop: Exposed, case: str) -> None:
    settings, answering = ANSWERING[case]
    world.configure(**settings)
    assert places(world, shop) == NOWHERE | answering


def test_nobody_gets_at_localhost_from_outside(world: World) -> None:  # type: ignore[no-redef]
    """Without node ports at localhost there is no need for route_localnet, so the kernel itself keeps it closed."""
    world.configure()
    setting = world.lab.node.run(["cat", "/proc/sys/net/ipv4/conf/all/route_localnet"]).stdout
    assert setting.strip() == "0"


def of_this_mode(settings: dict[str, Any]) -> dict[str, Any]:
    return {("nftables" if key == "iptables" else key): value for key, value in settings.items()}


@pytest.mark.usefixtures("visitors")  # type: ignore[no-redef]
@pytest.mark.parametrize("case", list(LOCAL_MODES))
def test_connections_to_cluster_ips_are_masqueraded_unless_from_local_pods(world: World, case: str) -> None:
    settings, expected = LOCAL_MODES[case]
    world.configure(**of_this_mode(settings))
    check_sources(world, expected)


@each_family  # type: ignore[no-redef]
def test_traffic_from_outside_passes_a_closed_forward_chain(world: World, shop: Exposed, family: str) -> None:
    """Not in this mode: an accept in kproxy's table does not bind the tables of others."""
    world.configure()
    node, client = world.lab.node, world.lab.client
    program = {"ipv4": "iptables-legacy", "ipv6": "ip6tables-legacy"}[family]
    node.run([program, "-P", "FORWARD", "DROP"])
    try:
        answer = client.ask(address(node, family), shop.node_port, timeout=SILENCE)
        assert answer.outcome is Outcome.DROPPED
    finally:
        node.run([program, "-P", "FORWARD", "ACCEPT"])
