"""Changes under load, with packets: rolling updates and restarts of kproxy, and not one request that fails."""

from collections.abc import Sequence

import pytest

from hack.lab import Outcome, Pod, until
from tests.kit.packets import (
    PATIENCE,
    PORT,
    TARGET_PORT,
    Behind,
    World,
    behind,
    service,
    slices,
)
from tests.kit.packets.conntrack import udp_flows_to
from tests.kit.packets.crowd import PROTOCOLS, Crowd, crowd, steady_crowd

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def kproxy_args() -> Sequence[str]:
    return ()


def new_pod(world: World, name: str, node: str) -> Pod:
    pod = world.lab.add_pod(name, node)
    for protocol in PROTOCOLS:
        pod.serve(TARGET_PORT, protocol)
    return pod


def finishes(pod: Pod, clients: Crowd) -> bool:
    """Whether a pod that is told to end can finish what it has, with nobody new coming.

    That is so for TCP. A UDP client may come to it for as long as it is said to be serving. Who was on the way when the
    rules changed arrives first, as in a cluster, where a pod is given time for that.
    """
    clients.ask_on(2)
    tcp, _ = pod.servers
    return tcp.drain(timeout=PATIENCE)


def await_release(world: World, pod: Pod) -> None:
    """Wait until no flow leads to a pod any more: conntrack is looked after beside the rules, and a moment later."""
    until(
        lambda: not any(udp_flows_to(world.lab.node, ip) for ip in (pod.ip, pod.ip6)), PATIENCE, "flows to be released"
    )


def test_a_rolling_update_loses_no_request(world: World) -> None:
    """Pod by pod: the new one is ready, the old one is told to end, finishes what it has, and is gone."""
    pods = [new_pod(world, name, node) for name, node in (("v1-a", "node-a"), ("v1-b", "node-a"), ("v1-c", "node-b"))]
    spec = {"externalTrafficPolicy": "Local"}
    rolling = world.expose("rolling", 20, pods, protocols=PROTOCOLS, type="NodePort", spec=spec)
    with crowd(world, rolling) as clients:
        clients.ask_on()
        for old in list(pods):
            pods.append(new_pod(world, old.name.replace("v1", "v2"), old.node.name))
            world.rescale("rolling", pods, protocols=PROTOCOLS)
            pods.remove(old)
            leaving: list[Pod | Behind] = [behind(old, ready=False, serving=True, terminating=True), *pods]
            world.rescale("rolling", leaving, protocols=PROTOCOLS)
            assert finishes(old, clients)
            clients.ask_on()
            world.rescale("rolling", pods, protocols=PROTOCOLS)
            await_release(world, old)
            world.lab.remove_pod(old.name)
            clients.ask_on()
        assert clients.servers == {"v1-a", "v1-b", "v1-c", "v2-a", "v2-b", "v2-c"}
    world.remove("rolling")
    for pod in pods:
        world.lab.remove_pod(pod.name)


def test_the_last_pod_serves_until_its_successor_is_ready(world: World) -> None:
    """A Service of one pod that is replaced without a surge: the one that leaves is all there is for a while."""
    old = new_pod(world, "single-v1", "node-a")
    spec = {"externalTrafficPolicy": "Local"}
    single = world.expose("single", 21, [old], protocols=PROTOCOLS, type="NodePort", spec=spec)
    with crowd(world, single) as clients:
        clients.ask_on()
        leaving = behind(old, ready=False, serving=True, terminating=True)
        world.rescale("single", [leaving], protocols=PROTOCOLS)
        clients.ask_on()
        new = new_pod(world, "single-v2", "node-a")
        world.rescale("single", [leaving, new], protocols=PROTOCOLS)
        assert finishes(old, clients)
        clients.ask_on()
        world.rescale("single", [new], protocols=PROTOCOLS)
        await_release(world, old)
        world.lab.remove_pod("single-v1")
        clients.ask_on()
        assert clients.servers == {"single-v1", "single-v2"}
    world.remove("single")
    world.lab.remove_pod("single-v2")


@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL"])
def test_a_restart_of_kproxy_is_noticed_by_nobody(world: World, end: str) -> None:
    with steady_crowd(world) as clients:
        clients.ask_on()
        if end == "SIGTERM":
            assert world.kproxy.stop() == 0
        else:
            world.kproxy.process.kill()
        clients.ask_on()
        clients.assert_connections_last()
        # What happens meanwhile is made up for.
        world.control.put(service("meanwhile", 23), *slices("meanwhile", [world.lab.pod("web-1")]))
        world.start()
        clients.ask_on()
        clients.assert_connections_last()
    asker = world.lab.pod("asker")
    assert asker.ask("10.96.0.23", PORT).server == "web-1"
    world.remove("meanwhile")
    assert asker.ask("10.96.0.23", PORT, timeout=0.25).outcome is Outcome.DROPPED


def test_changes_to_others_disturb_nobody(world: World) -> None:
    """Every sync replaces whole tables in the kernel; connections must not feel it."""
    pods = [world.lab.pod(name) for name in ("web-1", "web-2", "web-3")]
    spec = {"externalTrafficPolicy": "Local"}
    calm = world.expose("calm", 24, pods, protocols=PROTOCOLS, type="NodePort", spec=spec)
    with crowd(world, calm) as clients, world.lab.pod("asker").connect(calm.ip("ipv4"), PORT) as connection:
        for number in range(30):
            world.expose("restless", 25, pods[: number % 4])
            assert connection.echo()
        clients.ask_on()
