"""``kproxy status --node``: what another node's ports tell, and what is said of what they don't."""

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from kproxy.report.status import FamilyState, ServiceProblem, Status
from kproxy.tools import scrape
from kproxy.tools.ask import NoAnswerError
from kproxy.tools.scrape import Node, Scraper
from kproxy.tools.status import as_text

HERE = "127.0.0.1"
METRICS = """\
kproxy_build_info{version="0.0.9",python="3.11.2"} 1.0
process_start_time_seconds 1.7e+09
kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 1.70000001e+09
kubeproxy_sync_proxy_rules_iptables_total{ip_family="IPv4",table="nat"} 40.0
kproxy_service_connections_total{namespace="shop",service="web",port="http",protocol="TCP"} 7.0
"""
HEALTHZ = {
    "healthy": True,
    "status": {"IPv4": {"lastUpdated": "2026-11-26T10:00:00Z", "healthy": True}},
    "watches": {"Service": {"synced": True, "ageSeconds": 0.4}},
}
HEALTH = {"/healthz": json.dumps(HEALTHZ), "/readyz": '{"ready": true}'}
OLDER = {"/metrics": METRICS, "/proxyMode": "iptables"}
TOLD = Status(
    node="node-b",
    version="0.1.0",
    mode="nftables",
    since="2026-11-26T09:00:00Z",
    uptime_seconds=3600.0,
    healthy=True,
    ready=True,
    families=(FamilyState(family="IPv4", services=4, endpoints=9, rules=40, sync_seconds=0.002, full=True),),
    conflicts=(ServiceProblem(service="shop/thief:http", reason="10.96.0.80:80/TCP is shop/web:http's"),),
)
PAGE = {**OLDER, "/page.json?status": msgspec.json.encode(TOLD).decode()}


@pytest.fixture(autouse=True)
def two_looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "_APART_SECONDS", 0.0)


@contextlib.contextmanager
def serving(pages: Mapping[str, str] | None) -> Iterator[int]:
    """Serve pages; yield the port. None: a port that nobody listens at."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = (pages or {}).get(self.path)
            self.send_response(404 if found is None else 200)
            self.end_headers()
            self.wfile.write((found or "").encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((HERE, 0), Handler) as server:
        if pages is None:
            server.socket.close()
            yield server.server_port
            return
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def status(health: Mapping[str, str] | None, metrics: Mapping[str, str] | None) -> Status:
    with serving(health) as health_port, serving(metrics) as metrics_port:
        return Scraper(Node(HERE, health_port, metrics_port)).status()


def test_a_kproxy_tells_all_of_it() -> None:
    found = status(HEALTH, PAGE)
    assert [rate.service for rate in found.busiest] == ["shop/web:http"]
    assert msgspec.structs.replace(found, busiest=()) == TOLD


def test_an_older_one_tells_much_and_the_rest_is_named() -> None:
    found = status(HEALTH, OLDER)
    assert (found.version, found.mode, found.healthy, found.ready) == ("0.0.9", "iptables", True, True)
    (family,) = found.families
    assert (family.rules, family.services, family.sync_seconds) == (40, None, None)
    assert [watch.kind for watch in found.watches] == ["Service"]
    (untold,) = found.untold
    assert untold.startswith("service ports, endpoints, how long syncs took: ")
    assert f"not known of {untold}" in as_text(found)


def test_metrics_for_the_node_alone_leave_the_health_port() -> None:
    found = status(HEALTH, None)
    assert (found.healthy, found.ready, found.version, found.mode, found.since) == (True, True, None, None, None)
    assert [(family.family, family.last_sync) for family in found.families] == [("IPv4", "2026-11-26T10:00:00Z")]
    (untold,) = found.untold
    assert "Connection refused; metrics are served to the node itself unless metricsBindAddress" in untold
    text = as_text(found)
    assert text.startswith("kproxy on 127.0.0.1: well\n")
    assert "None" not in text


def test_without_its_health_port_it_is_not_called_well() -> None:
    found = status(None, OLDER)
    assert (found.healthy, found.ready) == (None, None)
    assert "not known to be well" in as_text(found)


def test_where_neither_answers_both_are_named() -> None:
    with pytest.raises(NoAnswerError, match=r"port \d+: Connection refused; metrics .*; 127.0.0.1 port \d+: Conn"):
        status(None, None)


@pytest.mark.parametrize(
    "rubbish", ["", "[]", '{"healthy": 3, "watches": [], "status": 7}', "\x00", pytest.param("[" * 100_000, id="deep")]
)
def test_other_programs_at_its_ports_are_no_trouble(rubbish: str) -> None:
    pages = dict.fromkeys(("/healthz", "/readyz", "/metrics", "/proxyMode", "/page.json?status"), rubbish)
    with contextlib.suppress(NoAnswerError):
        as_text(status(pages, pages))
