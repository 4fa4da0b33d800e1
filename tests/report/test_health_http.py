"""The HTTP side: pages, status codes, headers, ports in use, hundreds of health-check node ports on one thread."""

import errno
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from kproxy.api.types import ObjectKey
from kproxy.config import BindAddress, ProxyMode, load
from kproxy.report.health import HealthState
from kproxy.report.healthcheck import HealthCheck, HealthCheckFailure, HealthCheckServers
from kproxy.report.http import HttpServers, Routes
from kproxy.report.metrics import Metrics
from kproxy.report.pages import health_routes, metrics_routes
from kproxy.report.ports import BindError, open_socket
from kproxy.report.protocol import Request, Response
from kproxy.state.model import IPFamily

WEB = ObjectKey("shop", "web")
BOTH = ["127.0.0.1", "::1"]


def free_port() -> int:
    with closing(socket.socket(socket.AF_INET6)) as probe:
        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        probe.bind(("::", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def servers() -> Iterator[HttpServers]:
    running = HttpServers()
    running.start()
    yield running
    running.stop()


class Answer:
    def __init__(self, port: int, path: str, host: str, method: str, **headers: str) -> None:
        with closing(http.client.HTTPConnection(host, port, timeout=5)) as connection:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            self.status = response.status
            self.headers = response.headers
            self.text = response.read().decode()

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def get(port: int, path: str = "/", host: str = "127.0.0.1", method: str = "GET", **headers: str) -> Answer:
    return Answer(port, path, host, method, **headers)


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.01)


def refused(port: int, host: str = "127.0.0.1") -> bool:
    with closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as probe:
        probe.settimeout(5)
        return probe.connect_ex((host, port)) != 0


def broken(_: Request) -> Response:
    raise ZeroDivisionError


PAGES: Routes = {"/a": lambda _: Response(200, "hello"), "/broken": broken}


@pytest.mark.parametrize("host", BOTH)
def test_the_empty_host_answers_in_both_families(servers: HttpServers, port: int, host: str) -> None:
    servers.serve("test", BindAddress("", port), PAGES)
    answer = get(port, "/a", host)
    assert (answer.status, answer.text) == (200, "hello")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "aiohttp" not in answer.headers["Server"]


def test_the_empty_host_does_without_ipv6(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def only_ipv4(family: int = -1, *args: int, **more: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *args, **more)

    monkeypatch.setattr("kproxy.report.ports.socket.socket", only_ipv4)
    listener = open_socket(BindAddress("", port))
    monkeypatch.undo()
    with closing(listener):
        assert listener.getsockname() == ("0.0.0.0", port)


@pytest.mark.parametrize(("host", "other"), [("127.0.0.1", "::1"), ("::1", "127.0.0.1")])
def test_an_address_answers_there_only(servers: HttpServers, port: int, host: str, other: str) -> None:
    servers.serve("test", BindAddress(host, port), PAGES)
    assert get(port, "/a", host).status == 200
    assert refused(port, other)


def test_no_address_serves_nothing(servers: HttpServers) -> None:
    servers.serve("test", None, PAGES)


def test_unknown_pages_and_methods(servers: HttpServers, port: int) -> None:
    servers.serve("test", BindAddress("", port), PAGES)
    assert (get(port, "/x").status, get(port, "/x").text) == (404, "no such page; there are: /a /broken\n")
    assert get(port, "/a?query=1").text == "hello"
    assert get(port, "/a", method="POST").status == 405
    assert get(port, "/a", method="POST").headers["Allow"] == "GET, HEAD"
    head = get(port, "/a", method="HEAD")
    assert (head.status, head.text, head.headers["Content-Length"]) == (200, "", "5")


def test_a_broken_page_harms_nobody_else(servers: HttpServers, port: int, caplog: pytest.LogCaptureFixture) -> None:
    servers.serve("test", BindAddress("", port), PAGES)
    answer = get(port, "/broken")
    assert answer.status == 500
    assert "Traceback" not in answer.text
    assert "Error handling request" in caplog.text
    assert get(port, "/a").status == 200


def test_nonsense_on_the_wire_harms_nobody_else(servers: HttpServers, port: int) -> None:
    servers.serve("test", BindAddress("", port), PAGES)
    with closing(socket.create_connection(("127.0.0.1", port), 5)) as bad:
        bad.sendall(b"\x16\x03\x01\x02\x00\x01 not http\r\n\r\n")
        assert b"400" in bad.recv(1000).split(b"\r\n")[0]
    assert get(port, "/a").status == 200


def test_a_slow_page_does_not_hold_up_the_others(servers: HttpServers, port: int) -> None:
    release = threading.Event()

    def slow(_: Request) -> Response:
        release.wait(10)
        return Response(200, "slow")

    servers.serve("test", BindAddress("", port), {**PAGES, "/slow": slow})
    answers: list[str] = []
    waiting = threading.Thread(target=lambda: answers.append(get(port, "/slow").text))
    waiting.start()
    assert get(port, "/a").text == "hello"
    assert not answers
    release.set()
    waiting.join(5)
    assert answers == ["slow"]


def test_a_port_in_use_is_an_error_with_a_remedy_where_that_is_asked_for(servers: HttpServers, port: int) -> None:
    servers.serve("first", BindAddress("", port), PAGES)
    with pytest.raises(BindError) as caught:
        servers.serve("second", BindAddress("", port), PAGES, hard_fail=True)
    assert str(caught.value) == (
        f"can't listen at [::]:{port}: already in use; see who has it with: ss -ltnp sport = :{port}"
    )


def test_an_address_the_machine_does_not_have_is_an_error(servers: HttpServers, port: int) -> None:
    with pytest.raises(BindError, match="the machine does not have this address"):
        servers.serve("test", BindAddress("203.0.113.7", port), PAGES, hard_fail=True)


def test_a_port_in_use_is_waited_for_otherwise(servers: HttpServers, port: int) -> None:
    with closing(socket.create_server(("127.0.0.1", port))):
        servers.serve("test", BindAddress("127.0.0.1", port), PAGES, retry_seconds=0.02)
    eventually(lambda: not refused(port))
    assert get(port, "/a").status == 200


def test_stopping_closes_everything_at_once(port: int) -> None:
    servers = HttpServers()
    servers.start()
    servers.serve("test", BindAddress("", port), PAGES)
    with closing(socket.create_connection(("127.0.0.1", port), 5)) as idle:
        idle.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"hello" in idle.recv(1000)
        servers.stop()
        assert idle.recv(10) == b""
    assert refused(port)
    servers.stop()


# --- the health and metrics servers --------------------------------------------------------------------------------


def test_the_health_server(servers: HttpServers, port: int) -> None:
    health, metrics = HealthState(sync_timeout=1000), Metrics()
    servers.serve("health", BindAddress("", port), health_routes(health, metrics))
    assert get(port, "/readyz").status == 503
    for family in IPFamily:
        health.synced(family)
    for path in ("/healthz", "/livez", "/readyz"):
        answer = get(port, path)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert get(port, "/healthz").json["nodeEligible"] is True
    assert set(get(port, "/livez").json) == {"lastUpdated", "currentTime", "healthy", "status", "watches"}
    health.queued(since=time.monotonic() - 2000)
    assert get(port, "/livez").status == 503
    assert get(port, "/healthz").json["healthy"] is False
    text = metrics.exposition().decode()
    assert 'kubeproxy_proxy_healthz_total{code="200"} 2.0' in text
    assert 'kubeproxy_proxy_healthz_total{code="503"} 1.0' in text
    assert 'kubeproxy_proxy_livez_total{code="503"} 1.0' in text


@pytest.fixture
def metrics_port(servers: HttpServers, port: int) -> int:
    config = load(["--cluster-cidr=10.0.0.0/8", "--v=2", "--api-servers=https://u:s3cr3t@10.0.0.1"])
    routes = metrics_routes(Metrics(), config, ProxyMode.IPTABLES, time.time() - 3700)
    servers.serve("metrics", BindAddress("", port), routes)
    return port


def test_the_metrics_server(metrics_port: int) -> None:
    answer = get(metrics_port, "/metrics", Accept="application/openmetrics-text;version=1.0.0")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "# TYPE kubeproxy_sync_proxy_rules_duration_seconds histogram" in answer.text
    assert get(metrics_port, "/healthz").text == "ok"
    assert get(metrics_port, "/proxyMode").text == "iptables"
    assert get(metrics_port, "/debug/pprof").status == 404


def test_configz_shows_the_configuration_in_force_and_no_secret(metrics_port: int) -> None:
    configz = get(metrics_port, "/configz").json
    assert configz["kubeproxy.config.k8s.io"]["clusterCIDR"] == "10.0.0.0/8"
    assert configz["kproxy.dev"]["layout"] == "auto"
    assert configz["kproxy.dev"]["apiServers"] == ["https://***@10.0.0.1"]


def test_statusz(metrics_port: int) -> None:
    answer = get(metrics_port, "/statusz")
    assert answer.text.startswith("\nkproxy statusz\nWarning: This endpoint is not meant to be machine parseable")
    assert re.search(r"^Started: \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d UTC \d{4}$", answer.text, re.MULTILINE)
    assert "\nUp: 1 hr 01 min 4" in answer.text
    assert "\nPaths: /configz /flagz /healthz /metrics /proxyMode /statusz\n" in answer.text


def test_flagz(metrics_port: int) -> None:
    text = get(metrics_port, "/flagz").text
    assert text.startswith("\nkproxy flagz\nWarning: ")
    assert "\ncluster-cidr=10.0.0.0/8\n" in text
    assert "\nv=2\n" in text
    assert "\niptables-sync-period=30s\n" in text
    assert "\nmasquerade-all=false\n" in text
    assert "s3cr3t" not in text


@pytest.mark.parametrize(("path", "kind"), [("/statusz", "Statusz"), ("/flagz", "Flagz")])
def test_zpages_are_structured_where_asked_for(metrics_port: int, path: str, kind: str) -> None:
    for version in ("v1alpha1", "v1beta1"):
        body = get(metrics_port, path, Accept=f"application/json;v={version};g=config.k8s.io;as={kind}").json
        assert (body["kind"], body["apiVersion"], body["metadata"]) == (
            kind,
            f"config.k8s.io/{version}",
            {"name": "kproxy"},
        )
    assert get(metrics_port, path, Accept="application/json").status == 406
    assert get(metrics_port, path, Accept="text/html, */*;q=0.1").status == 200


# --- health-check node ports ---------------------------------------------------------------------------------------


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


def test_health_check_node_ports_come_change_and_go(checks: Checks, port: int) -> None:
    other = free_port()
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


def test_a_port_in_use_is_reported_once_and_opened_when_it_can_be(checks: Checks, port: int) -> None:
    good = free_port()
    with closing(socket.create_server(("127.0.0.1", port))):
        for _ in range(3):
            checks.sync({port: HealthCheck(WEB, 1), good: HealthCheck(WEB, 1)}, ["127.0.0.1"])
        assert get(good).status == 200
        eventually(lambda: len(checks.counts) > 5)
        (failure,) = checks.failures
        assert (failure.service, failure.port) == (WEB, port)
        assert failure.reason.startswith(f"can't listen at 127.0.0.1:{port}: already in use")
        assert set(checks.counts) == {(1, 1)}
    eventually(lambda: checks.counts[-1] == (2, 0))
    assert get(port).status == 200


def test_hundreds_of_ports_take_one_thread(checks: Checks) -> None:
    before = threading.active_count()
    ports: set[int] = set()
    while len(ports) < 300:
        ports.add(free_port())
    checks.sync({port: HealthCheck(ObjectKey("ns", f"s{port}"), port % 3) for port in ports}, ["127.0.0.1"])
    assert threading.active_count() == before
    for port in ports:
        answer = get(port)
        assert answer.json["service"]["name"] == f"s{port}"
        assert answer.status == (200 if port % 3 else 503)
    checks.sync({})
    assert checks.counts[-1] == (0, 0)
