"""The pages of the health and metrics servers: paths, status codes, formats."""

import re
import time

import pytest

from kproxy.config import BindAddress, ProxyMode, load
from kproxy.report.health import HealthState
from kproxy.report.http import HttpServers
from kproxy.report.metrics import Metrics
from kproxy.report.pages import health_routes, metrics_routes
from kproxy.state.model import IPFamily
from tests.report.kit import get


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
