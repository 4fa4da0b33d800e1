"""Health-check node ports: what they answer, where, and hundreds of them on one thread."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from kproxy.api.types import ObjectKey
from kproxy.report.healthcheck import HealthCheck, HealthCheckFailure, HealthCheckServers
from kproxy.report.http import HttpServers
from tests.kit.waiting import eventually
from tests.report.kit import BOTH, free_ports, get, refused

WEB = ObjectKey("shop", "web")


class Checks:
    """Health-check servers with what they told about."""

    def __init__(self, servers: HttpServers) -> None:
        self.healthy = True
        self.failures: list[HealthCheckFailure] = []
        self.counts: list[tuple[int, int]] = []
        self.servers = HealthCheckServers(
            servers,
            lambda: self.healthy,
            failed=self.failures.append,
            counted=lambda serving, failed: self.counts.append((serving, failed)),
            retry_seconds=0.05,
        )

    def sync(self, checks: dict[int, HealthCheck], addresses: list[str] | None = None) -> None:
        self.servers.sync(checks, addresses).result(10)


@pytest.fixture
def other() -> Iterator[int]:
    """Another free port."""
    with free_ports() as (free,):
        yield free


@pytest.fixture
def checks(servers: HttpServers) -> Checks:
    return Checks(servers)


@pytest.mark.parametrize(
    ("endpoints", "healthy", "status"), [(0, True, 503), (1, True, 200), (7, True, 200), (7, False, 503)]
)
def test_a_health_check_node_port_answers_as_kube_proxys(
    checks: Checks, port: int, endpoints: int, healthy: bool, status: int
) -> None:
    checks.sync({port: HealthCheck(WEB, endpoints)})
    checks.healthy = healthy
    for host in BOTH:
        answer = get(port, "/any/path", host)
        assert answer.status == status
        assert answer.headers["X-Load-Balancing-Endpoint-Weight"] == str(endpoints)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.text == (
            '{\n\t"service": {\n\t\t"namespace": "shop",\n\t\t"name": "web"\n\t},\n'
            f'\t"localEndpoints": {endpoints},\n\t"serviceProxyHealthy": {str(healthy).lower()}\n}}'
        )


def test_health_check_node_ports_come_change_and_go(checks: Checks, port: int, other: int) -> None:
    checks.sync({port: HealthCheck(WEB, 1)})
    checks.sync({port: HealthCheck(WEB, 0), other: HealthCheck(ObjectKey("shop", "db"), 2)})
    assert get(port).status == 503
    assert get(other).json["service"] == {"namespace": "shop", "name": "db"}
    checks.sync({other: HealthCheck(WEB, 3)})
    assert refused(port)
    assert get(other).json == {
        "service": {"namespace": "shop", "name": "web"},
        "localEndpoints": 3,
        "serviceProxyHealthy": True,
    }
    checks.sync({})
    assert refused(other)
    assert checks.counts == [(1, 0), (2, 0), (1, 0), (0, 0)]


def test_they_answer_at_the_node_port_addresses_only(checks: Checks, port: int) -> None:
    checks.sync({port: HealthCheck(WEB, 1)}, ["127.0.0.1"])
    assert get(port).status == 200
    assert refused(port, "::1")
    checks.sync({port: HealthCheck(WEB, 1)}, BOTH)
    assert get(port, host="::1").status == 200
    checks.sync({port: HealthCheck(WEB, 1)}, ["::1"])
    assert refused(port)
    checks.sync({port: HealthCheck(WEB, 1)}, [])
    assert refused(port, "::1")


def test_a_port_in_use_is_reported_once_and_opened_when_it_can_be(checks: Checks, port: int, other: int) -> None:
    with closing(socket.create_server(("127.0.0.1", port))):
        for _ in range(3):
            checks.sync({port: HealthCheck(WEB, 1), other: HealthCheck(WEB, 1)}, ["127.0.0.1"])
        assert get(other).status == 200
        eventually(lambda: len(checks.counts) > 5)
        (failure,) = checks.failures
        assert (failure.service, failure.port) == (WEB, port)
        assert failure.reason.startswith(f"can't listen at 127.0.0.1:{port}: already in use")
        assert set(checks.counts) == {(1, 1)}
    eventually(lambda: checks.counts[-1] == (2, 0))
    assert get(port).status == 200


def test_hundreds_of_ports_take_one_thread(checks: Checks) -> None:
    before = threading.active_count()
    with free_ports(300) as ports:
        checks.sync({port: HealthCheck(ObjectKey("ns", f"s{port}"), port % 3) for port in ports}, ["127.0.0.1"])
        assert threading.active_count() == before
        for port in ports:
            answer = get(port)
            assert answer.json["service"]["name"] == f"s{port}"
            assert answer.status == (200 if port % 3 else 503)
        checks.sync({})
        assert checks.counts[-1] == (0, 0)
