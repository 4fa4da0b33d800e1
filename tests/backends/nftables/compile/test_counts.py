"""Connections are counted by the elements they come by, whatever becomes of the elements around them."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from kproxy.backends.base import Counts
from kproxy.backends.nftables.backend import NftablesBackend
from kproxy.plan.model import Frontend, FrontendKind, Route, ServicePlan, Target
from kproxy.state.model import Endpoint, Protocol
from tests.kit.nft import named, plan_of, service, table_in_namespace

pytestmark = pytest.mark.kernel

NODE_IP = "10.0.0.1"
PORTS = (8081, 8082, 8083, 8084)
NODE_PORT = Frontend(FrontendKind.NODE_PORT, None, 30080)
BALANCER = Frontend(FrontendKind.LOAD_BALANCER, "203.0.113.5", 80, ("192.0.2.0/24",))
WEB, DNS = named("web"), named("dns", Protocol.UDP)


def here(*ports: int) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(NODE_IP, port, is_local=True) for port in ports)


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[NftablesBackend]:
    """A backend on a node of its own that has servers for endpoints."""
    with table_in_namespace(tmp_path) as backend, ExitStack() as stack:
        for command in (
            "link set lo up",
            "link add eth0 type veth peer name eth1",
            "link set eth1 up",
            f"addr add {NODE_IP}/24 dev eth0",
            "link set eth0 up",
            "route add default dev eth0",
        ):
            subprocess.run(["ip", *command.split()], check=True)
        for port in PORTS:
            stack.enter_context(socket.create_server((NODE_IP, port), backlog=1000))
        yield backend


def put(backend: NftablesBackend, *services: ServicePlan, full: bool = False) -> None:
    plan = plan_of(*services)
    assert not backend.apply(plan, {WEB, DNS} | plan.services.keys(), full=full).refused


def connect(times: int, ip: str = "10.96.0.10", port: int = 80) -> None:
    for _ in range(times):
        with suppress(OSError):
            socket.create_connection((ip, port), timeout=0.1).close()


def of_web(counts: Counts) -> dict[int, int]:
    """Connections to each of the service's endpoints, by port."""
    return {int(endpoint.rpartition(":")[2]): n for (name, endpoint), n in counts.endpoints.items() if name == WEB}


def test_connections_are_counted_by_service_and_endpoint(backend: NftablesBackend) -> None:
    put(backend, service("web", 10, here(*PORTS[:3]), more=[NODE_PORT]))
    assert backend.counts().services == {WEB: 0}
    connect(60)
    connect(30, NODE_IP, 30080)
    counts = backend.counts()
    assert counts.services == {WEB: 90}
    assert sum(of_web(counts).values()) == 90
    assert of_web(counts).keys() == set(PORTS[:3])
    assert (counts.rejected, counts.dropped, counts.invalid_dropped) == ({WEB: 0}, {WEB: 0}, 0)


def test_refused_and_dropped_connections_are_counted(backend: NftablesBackend) -> None:
    put(backend, service("web", 10, more=[NODE_PORT]))
    connect(3)
    connect(2, NODE_IP, 30080)
    assert backend.counts().rejected == {WEB: 5}
    put(backend, service("web", 10, here(8081), more=[NODE_PORT, BALANCER], external=Route(Target.DROP)))
    assert backend.counts().rejected == {WEB: 5}, "what a refusal has counted is lost when it ends"
    connect(1, NODE_IP, 30080)
    connect(1, "203.0.113.5")
    counts = backend.counts()
    assert counts.dropped[WEB] >= 2  # the kernel may have tried again within the timeout
    assert counts.services == {WEB: 0}


def test_who_is_not_among_the_source_ranges_counts_as_dropped(backend: NftablesBackend) -> None:
    put(backend, service("web", 10, here(8081), more=[BALANCER]))
    connect(1, "203.0.113.5")
    assert backend.counts().dropped[WEB] >= 1


CHANGES = {
    "another endpoint in one's place": here(8081, 8084, 8083),
    "one more": here(*PORTS),
    "one less": here(8082, 8083),
    "in another order": here(8083, 8082, 8081),
    "all gone": (),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("affinity_seconds", [0, 600])
def test_counts_outlive_what_has_counted(backend: NftablesBackend, change: str, affinity_seconds: int) -> None:
    put(backend, service("web", 10, here(*PORTS[:3]), affinity_seconds=affinity_seconds))
    connect(40)
    before = of_web(backend.counts())
    put(backend, service("web", 10, CHANGES[change], affinity_seconds=affinity_seconds))
    counts = backend.counts()
    assert counts.services == {WEB: 40}
    assert of_web(counts) == before, "the first reading after it is gone still tells what an endpoint was given"
    put(backend, service("web", 10, here(*PORTS[:3]), affinity_seconds=affinity_seconds))
    connect(20)
    assert backend.counts().services == {WEB: 60}


def test_counts_outlive_a_full_comparison_and_a_change_of_affinity(backend: NftablesBackend) -> None:
    put(backend, service("web", 10, here(8081, 8082)))
    connect(10)
    put(backend, service("web", 10, here(8081, 8082)), full=True)
    put(backend, service("web", 10, here(8081, 8082), affinity_seconds=60))
    connect(10)
    put(backend, service("web", 10, here(8081, 8082)))
    connect(10)
    assert backend.counts().services == {WEB: 30}


def test_counts_outlive_a_change_too_large_to_listen_to(backend: NftablesBackend) -> None:
    put(backend, service("web", 10, here(8081, 8082)))
    connect(10)
    many = [service(f"s{n}", 20 + n, here(*range(1000, 1100))) for n in range(60)]
    put(backend, service("web", 10, here(8083)), *many)
    assert backend.counts().services[WEB] == 10
    assert not backend.drifted()


def test_a_new_start_goes_on_counting(backend: NftablesBackend) -> None:
    put(backend, service("web", 10, here(8081, 8082)))
    connect(10)
    again = NftablesBackend(backend.family)
    put(again, service("web", 10, here(8082, 8083)))
    assert again.counts().services == {WEB: 10}
    again.close()


def test_a_service_that_comes_back_begins_anew(backend: NftablesBackend) -> None:
    put(backend, service("web", 10, here(8081)))
    connect(5)
    put(backend)
    assert backend.counts().services == {}
    put(backend, service("web", 10, here(8081)))
    assert backend.counts().services == {WEB: 0}


def test_endpoints_that_are_gone_are_told_of_once_more_and_then_forgotten(backend: NftablesBackend) -> None:
    put(backend, service("web", 10, here(8081)))
    connect(5)
    put(backend, service("web", 10, here(8082)))
    assert of_web(backend.counts()) == {8081: 5}
    counts = backend.counts()
    assert of_web(counts) == {}
    assert counts.services == {WEB: 5}
