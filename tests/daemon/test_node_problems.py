"""What is wrong with a node is said once, when it becomes so: in the log, as a metric, and as an Event."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hack.lab import until
from tests.kit.packets import PATIENCE, PORT, World, service, slices

pytestmark = pytest.mark.kernel


@contextmanager
def running(world: World, *args: str) -> Iterator[None]:
    world.launch(*args)
    try:
        yield
        assert "Traceback" not in world.kproxy.log()
    finally:
        assert world.kproxy.stop() == 0
        world.clean_up()


def becomes(world: World, reason: str, value: float) -> None:
    def so() -> bool:
        try:
            return world.kproxy.metrics().get(f'kproxy_node_problem{{reason="{reason}"}}') == value
        except OSError:
            return False

    until(so, PATIENCE, f"{reason} to be {value}")


def told(world: World, reason: str) -> list[str]:
    return [line for line in world.kproxy.log().splitlines() if f"reason={reason}" in line and " warning " in line]


def events(world: World) -> list[tuple[str, str]]:
    return [(event["reason"], event["regarding"]["name"]) for event in world.control.objects("events")]


def ip_forward(world: World, value: int) -> None:
    world.lab.node.namespace.sysctl("net.ipv4.ip_forward", value)


def ipvs_interface(world: World, value: int) -> None:
    command = ["link add kube-ipvs0 type veth peer name kube-ipvs0-peer"] if not value else ["link del kube-ipvs0"]
    world.lab.node.namespace.ip(command)


CHANGES: dict[str, Callable[[World, int], None]] = {"ForwardingOff": ip_forward, "KubeProxyIPVSLeft": ipvs_interface}


@pytest.mark.parametrize("reason", list(CHANGES))
def test_what_becomes_wrong_is_said_once_and_so_is_its_end(idle_world: World, reason: str) -> None:
    world = idle_world
    with running(world):
        becomes(world, reason, 0)
        assert told(world, reason) == []
        try:
            CHANGES[reason](world, 0)
            becomes(world, reason, 1)
        finally:
            CHANGES[reason](world, 1)
        becomes(world, reason, 0)
        assert len(told(world, reason)) == 1
        assert "a problem of the node is gone reason=" in world.kproxy.log()
        until(lambda: (reason, "node-a") in events(world), PATIENCE, "the Event on the Node")


def test_a_name_that_no_node_object_has_is_named(idle_world: World) -> None:
    world = idle_world
    with running(world, "--hostname-override", "nobody"):
        becomes(world, "NoNodeObject", 1)
        (line,) = told(world, "NoNodeObject")
        assert "'nobody'" in line
        until(lambda: ("NoNodeObject", "nobody") in events(world), PATIENCE, "the Event on the Node")


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_bind_address_is_the_nodes_address_without_a_node_object(idle_world: World, mode: str) -> None:
    """Else node ports at the primary address would answer nowhere."""
    world = idle_world
    node, client = world.lab.node, world.lab.client
    args = ["--hostname-override", "nobody", "--proxy-mode", mode, "--nodeport-addresses", "primary"]
    with running(world, *args, "--bind-address", node.ip):
        pods = [world.lab.pod("web-1")]
        world.control.put(service("shop", 10, type="NodePort"), *slices("shop", pods))
        until(lambda: client.ask(node.ip, 30010, timeout=1).server == "web-1", PATIENCE, "the node port to answer")
        assert world.lab.pod("asker").ask("10.96.0.10", PORT).server == "web-1"
        assert told(world, "NoNodeIP") == []
    with running(world, *args):
        becomes(world, "NoNodeIP", 1)
