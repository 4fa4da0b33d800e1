"""Connections are counted by the elements they come by, whatever becomes of the elements around them."""

import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from kproxy.backends.base import Of
from kproxy.backends.nftables.backend import NftablesBackend
from kproxy.backends.nftables.rules.ruleset import Found, Key, SetSpec
from kproxy.plan.model import Frontend, FrontendKind, Route, ServicePlan, Target
from kproxy.report.metrics import ConnectionCounters, Reading
from kproxy.state.model import Endpoint, Protocol
from tests.kit.nft import named, plan_of, service, table_in_namespace, tell_of_elements_twice

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


class Totals:
    """What becomes of a backend's readings, as whoever scrapes is told."""

    def __init__(self, backend: NftablesBackend) -> None:
        self._backend = backend
        self._counters = ConnectionCounters()

    def read(self) -> ConnectionCounters:
        counts = self._backend.counts()
        assert counts is not None
        assert counts.waiting == 0
        self._counters.fold(Reading(self._backend.family, counts))
        return self._counters


@pytest.fixture
def totals(backend: NftablesBackend) -> Totals:
    return Totals(backend)


def of_web(counts: ConnectionCounters) -> dict[int, int]:
    """Connections to each of the service's endpoints that has had any, by port."""
    return {
        int(endpoint.rpartition(":")[2]): n for (name, endpoint), n in counts.endpoints.items() if name == WEB and n
    }


def test_connections_are_counted_by_service_and_endpoint(backend: NftablesBackend, totals: Totals) -> None:
    put(backend, service("web", 10, here(*PORTS[:3]), more=[NODE_PORT]))
    assert totals.read().services == {WEB: 0}
    connect(60)
    connect(30, NODE_IP, 30080)
    counts = totals.read()
    assert counts.services == {WEB: 90}
    assert sum(of_web(counts).values()) == 90
    assert of_web(counts).keys() == set(PORTS[:3])
    assert (counts.rejected, counts.dropped, counts.packets("invalid_dropped")) == ({WEB: 0}, {WEB: 0}, 0)


def test_refused_and_dropped_connections_are_counted(backend: NftablesBackend, totals: Totals) -> None:
    put(backend, service("web", 10, more=[NODE_PORT]))
    connect(3)
    connect(2, NODE_IP, 30080)
    assert totals.read().rejected == {WEB: 5}
    put(backend, service("web", 10, here(8081), more=[NODE_PORT, BALANCER], external=Route(Target.DROP)))
    assert totals.read().rejected == {WEB: 5}, "what a refusal has counted is lost when it ends"
    connect(1, NODE_IP, 30080)
    connect(1, "203.0.113.5")
    counts = totals.read()
    assert counts.dropped[WEB] >= 2  # the kernel may have tried again within the timeout
    assert counts.services == {WEB: 0}


def test_who_is_not_among_the_source_ranges_counts_as_dropped(backend: NftablesBackend, totals: Totals) -> None:
    put(backend, service("web", 10, here(8081), more=[BALANCER]))
    connect(1, "203.0.113.5")
    assert totals.read().dropped[WEB] >= 1


CHANGES = {
    "another endpoint in one's place": here(8081, 8084, 8083),
    "one more": here(*PORTS),
    "one less": here(8082, 8083),
    "in another order": here(8083, 8082, 8081),
    "all gone": (),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("affinity_seconds", [0, 600])
def test_counts_outlive_what_has_counted(
    backend: NftablesBackend, totals: Totals, change: str, affinity_seconds: int
) -> None:
    put(backend, service("web", 10, here(*PORTS[:3]), affinity_seconds=affinity_seconds))
    connect(40)
    before = of_web(totals.read())
    put(backend, service("web", 10, CHANGES[change], affinity_seconds=affinity_seconds))
    counts = totals.read()
    assert counts.services == {WEB: 40}
    assert of_web(counts) == before, "the first reading after it is gone still tells what an endpoint was given"
    put(backend, service("web", 10, here(*PORTS[:3]), affinity_seconds=affinity_seconds))
    connect(20)
    assert totals.read().services == {WEB: 60}


def test_who_takes_the_short_cut_is_counted_once(backend: NftablesBackend, totals: Totals) -> None:
    """The node itself goes to the whole cluster's endpoints, whether policy Local has some here or not."""
    somewhere, short_cut = here(8081, 8082), Route(Target.DROP, short_cut=True)
    put(backend, service("web", 10, somewhere, more=[NODE_PORT], external=short_cut))
    connect(10, NODE_IP, 30080)
    assert totals.read().services == {WEB: 10}
    local = Route(Target.LOCAL, short_cut=True)
    put(backend, service("web", 10, somewhere, more=[NODE_PORT], external=local, local_endpoints=somewhere[:1]))
    assert totals.read().services == {WEB: 10}
    connect(10, NODE_IP, 30080)
    assert totals.read().services == {WEB: 20}
    put(backend, service("web", 10, somewhere, more=[NODE_PORT], external=short_cut))
    connect(5, NODE_IP, 30080)
    counts = totals.read()
    assert counts.services == {WEB: 25}
    assert sum(of_web(counts).values()) == 25


def test_counts_outlive_a_full_comparison_and_a_change_of_affinity(backend: NftablesBackend, totals: Totals) -> None:
    put(backend, service("web", 10, here(8081, 8082)))
    connect(10)
    put(backend, service("web", 10, here(8081, 8082)), full=True)
    put(backend, service("web", 10, here(8081, 8082), affinity_seconds=60))
    connect(10)
    put(backend, service("web", 10, here(8081, 8082)))
    connect(10)
    assert totals.read().services == {WEB: 30}


def test_counts_outlive_a_change_too_large_to_listen_to(backend: NftablesBackend, totals: Totals) -> None:
    put(backend, service("web", 10, here(8081, 8082)))
    connect(10)
    many = [service(f"s{n}", 20 + n, here(*range(1000, 1100))) for n in range(60)]
    put(backend, service("web", 10, here(8083)), *many)
    assert totals.read().services[WEB] == 10
    assert not backend.drifted()


def test_a_new_start_goes_on_counting(backend: NftablesBackend, totals: Totals) -> None:
    put(backend, service("web", 10, here(8081, 8082)))
    connect(10)
    assert totals.read().services == {WEB: 10}
    connect(5)
    again = NftablesBackend(backend.family)
    put(again, service("web", 10, here(8082, 8083)))
    totals._backend = again
    assert totals.read().services == {WEB: 15}
    connect(5)
    assert totals.read().services == {WEB: 20}
    again.close()


def test_a_service_that_comes_back_begins_anew(backend: NftablesBackend, totals: Totals) -> None:
    put(backend, service("web", 10, here(8081)))
    connect(5)
    put(backend)
    assert totals.read().services == {}
    put(backend, service("web", 10, here(8081)))
    assert totals.read().services == {WEB: 0}


def test_elements_that_the_kernel_tells_of_twice_count_once(
    backend: NftablesBackend, totals: Totals, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(backend, service("web", 10, here(8081)))
    connect(5)
    tell_of_elements_twice(monkeypatch)
    assert totals.read().services == {WEB: 5}
    put(backend, service("web", 10, here(8081, 8082)))
    assert totals.read().services == {WEB: 5}


def test_endpoints_that_are_gone_are_told_of_once_more(backend: NftablesBackend) -> None:
    put(backend, service("web", 10, here(8081)))
    connect(5)
    put(backend, service("web", 10, here(8082)))
    counts = backend.counts()
    assert counts is not None
    assert [(name, counter.packets) for name, counter in counts.ended if counter.of is Of.ENDPOINT] == [(WEB, 5)]
    again = backend.counts()
    assert again is not None
    assert again.ended == []


def test_nobody_reads_what_endpoints_count_where_nothing_has_come(
    backend: NftablesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    table = backend._applier._counting  # type: ignore[attr-defined]
    elements, packets = table.elements, table.packets

    def spied_elements(name: str, spec: SetSpec, *, at_least: int = 0) -> Iterator[Found]:
        asked.append(name)
        return iter(elements(name, spec, at_least=at_least))

    def spied_packets(its: Sequence[tuple[str, Key]], sets: Mapping[str, SetSpec]) -> list[int]:
        asked.extend(str(key[0]) for _, key in its)
        return list(packets(its, sets))

    monkeypatch.setattr(table, "elements", spied_elements)
    monkeypatch.setattr(table, "packets", spied_packets)
    put(backend, service("web", 10, here(*PORTS)), service("api", 11, here(*PORTS)))
    totals = Totals(backend)
    assert totals.read().services == {WEB: 0, named("api"): 0}
    asked.clear()
    connect(3, "10.96.0.11")
    assert totals.read().services == {WEB: 0, named("api"): 3}
    assert "tcp/cluster-endpoints" not in asked
    assert asked.count("10.96.0.11") == len(PORTS)
    assert "10.96.0.10" not in asked
    asked.clear()
    assert totals.read().services == {WEB: 0, named("api"): 3}
    assert "10.96.0.11" not in asked


def test_where_endpoints_are_not_wanted_none_is_read(tmp_path: Path) -> None:
    with table_in_namespace(tmp_path, count_endpoints=False) as backend:
        for command in ("link set lo up", "route add default dev lo"):
            subprocess.run(["ip", *command.split()], check=True)
        put(backend, service("web", 10, here(*PORTS)))
        connect(3)
        counts = backend.counts()
        assert counts is not None
        assert (counts.endpoints, counts.there, counts.number_of_endpoints, counts.waiting) == ({}, {}, 0, 0)
        assert sum(counter.packets for counter in counts.counters[WEB]) >= 3
