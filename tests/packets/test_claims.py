"""Nobody gets another's traffic by naming its address (CVE-2020-8554), in either mode, with packets."""

from typing import Any

import pytest

from hack.lab import Outcome, until
from tests.kit.apiserver.kinds import Json
from tests.kit.apiserver.objects import endpoint, make_service, make_slice, service_port, slice_port
from tests.kit.packets import PATIENCE, PORT, TARGET_PORT, World, cluster_ips

pytestmark = pytest.mark.kernel

VICTIM = 20


@pytest.fixture(scope="module")
def kproxy_args() -> tuple[str, ...]:
    return ()


def objects(world: World, name: str, number: int, pod: str, **more: Any) -> list[Json]:
    """A Service in a namespace of its own, with one pod."""
    made = world.lab.pod(pod)
    service = make_service(name, name, cluster_ip=cluster_ips(number), ports=[service_port(PORT, name="p")], **more)
    entry = endpoint(made.ip, node=made.node.name)
    ports = [slice_port(TARGET_PORT, name="p")]
    return [service, make_slice(name, name, name=f"{name}-ipv4", endpoints=[entry], ports=ports)]


def delete(world: World, name: str) -> None:
    for resource, its_name in (("services", name), ("endpointslices", f"{name}-ipv4")):
        world.control.delete(resource, name, its_name)
    world.settle()


def thief(ip: str) -> list[dict[str, Any]]:
    """The ways to name an address."""
    return [
        {"spec": {"externalIPs": [ip]}},
        {"type": "LoadBalancer", "status": {"loadBalancer": {"ingress": [{"ip": ip}]}}},
    ]


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
@pytest.mark.parametrize("way", [0, 1], ids=["external IP", "load balancer"])
@pytest.mark.parametrize("first", ["thief", "owner"])
def test_a_cluster_ip_is_its_services(world: World, mode: str, way: int, first: str) -> None:
    """The thief's name sorts first, and it may be there before its victim."""
    world.configure(**({"mode": mode} if mode != "iptables" else {}))
    asker, ip = world.lab.pod("asker"), cluster_ips(VICTIM).v4
    steps = [objects(world, "aaa", 21, "web-2", **thief(ip)[way]), objects(world, "zzz", VICTIM, "web-1")]
    for step in steps if first == "thief" else reversed(steps):
        world.put(*step)
    assert set(asker.ask_many(ip, PORT, times=20).servers) == {"web-1"}
    assert set(asker.ask_many(cluster_ips(21).v4, PORT, times=20).servers) == {"web-2"}
    assert "an address that a Service names belongs to another service=aaa/aaa:p" in world.kproxy.log()
    metrics = world.kproxy.metrics()
    assert metrics['kproxy_lost_frontends{ip_family="IPv4"}'] == 1
    assert any(
        sample.startswith("kproxy_lost_frontend_info") and 'service="aaa"' in sample and 'owner="zzz/zzz"' in sample
        for sample in metrics
    )
    delete(world, "zzz")
    until(lambda: asker.ask(ip, PORT, timeout=1).server == "web-2", PATIENCE, "the thief to have what is nobody's now")
    delete(world, "aaa")
    assert asker.ask(ip, PORT, timeout=0.2).outcome is not Outcome.ANSWERED
    assert world.kproxy.metrics()['kproxy_lost_frontends{ip_family="IPv4"}'] == 0
