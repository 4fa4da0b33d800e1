"""Metrics have kube-proxy's names, types, labels and buckets, and pass promtool."""

import re
import subprocess
from collections.abc import Iterable

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from kproxy.api.kinds import Kind
from kproxy.api.status import WatchStatus
from kproxy.backends.base import Counter, Counts, LocalhostCounts, Of
from kproxy.config import ProxyMode
from kproxy.plan.claims import Claim, Loss
from kproxy.plan.model import FrontendKind
from kproxy.report.metrics import ConnectionCounters, Lasting, Metrics, Reading
from kproxy.state.model import IPFamily, Protocol, ServicePortName
from tests.kit.totals import fallen, totals_of

V4, V6 = IPFamily.IPV4, IPFamily.IPV6
NAME = ServicePortName("shop", "web", "http", Protocol.TCP)
LOSS = Loss(
    ServicePortName("aaa", "thief", "http", Protocol.TCP),
    Claim("10.96.0.20", 80, Protocol.TCP),
    FrontendKind.EXTERNAL_IP,
    NAME,
    "whose cluster IP it is",
)
EXPONENTIAL = [0.001 * 2**n for n in range(15)]


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def families(metrics: Metrics) -> dict[str, Metric]:
    parsed: Iterable[Metric] = text_string_to_metric_families(metrics.exposition().decode())
    return {family.name: family for family in parsed}


def value(metrics: Metrics, sample: str, **labels: str) -> float | None:
    for family in families(metrics).values():
        for found in family.samples:
            if found.name == sample and found.labels == labels:
                return float(found.value)
    return None


def totals(metrics: Metrics) -> dict[str, float]:
    found = totals_of(metrics.exposition().decode())
    return {series: value for series, value in found.items() if not series.startswith("process_")}


def given(name: ServicePortName, endpoint: str) -> Counts:
    """Seven connections."""
    return Counts(services=[name], endpoints={name: [Counter("e", Of.CONNECTIONS, 7, endpoint)]})


def busy(mode: ProxyMode = ProxyMode.IPTABLES, lasting: Lasting | None = None) -> Metrics:
    """Metrics to which everything has happened once."""
    metrics = Metrics(mode, clock=Clock(), lasting=lasting)
    metrics.changes_seen(services=1, endpoints=2)
    metrics.changes_pending(services=1, endpoints=2)
    metrics.queued()
    for family in IPFamily:
        metrics.sync_finished(family, full=True, seconds=0.1, rules={"nat": 5, "filter": 6}, written={"nat": 5})
        metrics.sync_finished(family, full=False, seconds=0.01, rules={"nat": 6, "filter": 6}, written={"nat": 1})
        metrics.sync_failed(family, full=False, seconds=0.2)
        metrics.no_local_endpoints(family, internal=1, external=2)
        metrics.conntrack_reconciled(family, seconds=0.1, released=3)
        metrics.drift_repaired(family, chains=2)
        metrics.refused(family, 1)
        metrics.contested(family, [LOSS])
    metrics.programmed(["1970-01-12T13:46:39.25Z"])
    metrics.skipped("Service")
    metrics.objects("service ports", 12)
    metrics.config_warnings(2)
    metrics.request_finished(method="GET", verb="GET", host="10.0.0.1:6443", code=200, seconds=0.05)
    metrics.request_finished(method="POST", verb="POST", host="10.0.0.1:6443", code=None, seconds=0.05)
    metrics.healthz_answered(200)
    metrics.livez_answered(503)
    metrics.health_check_node_ports(serving=3, failed=1)
    metrics.watch_statuses(lambda: [WatchStatus(Kind.SERVICE, failures=2, bytes_received=99)])
    counters = ConnectionCounters()
    counters.fold(
        Reading(
            V4,
            Counts(
                services=[NAME],
                counters={NAME: [Counter("r", Of.REJECTED, 1), Counter("d", Of.DROPPED, 2)]},
                endpoints={NAME: [Counter("e", Of.CONNECTIONS, 7, "10.1.0.1:80")]},
                invalid_dropped=4,
                localhost=LocalhostCounts(6, 1),
            ),
        )
    )
    counters.age = 0.25
    metrics.connection_counters(lambda: counters)
    return metrics


KUBE_PROXY = [
    ("kubeproxy_conntrack_reconciler_deleted_entries_total", "counter", {"ip_family"}),
    ("kubeproxy_conntrack_reconciler_sync_duration_seconds", "histogram", {"ip_family"}),
    ("kubeproxy_iptables_ct_state_invalid_dropped_packets_total", "counter", set()),
    ("kubeproxy_iptables_localhost_nodeports_accepted_packets_total", "counter", set()),
    ("kubeproxy_network_programming_duration_seconds", "histogram", {"ip_family"}),
    ("kubeproxy_proxy_healthz_total", "counter", {"code"}),
    ("kubeproxy_proxy_livez_total", "counter", {"code"}),
    ("kubeproxy_sync_full_proxy_rules_duration_seconds", "histogram", {"ip_family"}),
    ("kubeproxy_sync_partial_proxy_rules_duration_seconds", "histogram", {"ip_family"}),
    ("kubeproxy_sync_proxy_rules_duration_seconds", "histogram", {"ip_family"}),
    ("kubeproxy_sync_proxy_rules_endpoint_changes_pending", "gauge", set()),
    ("kubeproxy_sync_proxy_rules_endpoint_changes_total", "counter", set()),
    ("kubeproxy_sync_proxy_rules_iptables_last", "gauge", {"ip_family", "table"}),
    ("kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total", "counter", {"ip_family"}),
    ("kubeproxy_sync_proxy_rules_iptables_restore_failures_total", "counter", {"ip_family"}),
    ("kubeproxy_sync_proxy_rules_iptables_total", "gauge", {"ip_family", "table"}),
    ("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "gauge", {"ip_family"}),
    ("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "gauge", {"ip_family"}),
    ("kubeproxy_sync_proxy_rules_no_local_endpoints_total", "gauge", {"ip_family", "traffic_policy"}),
    ("kubeproxy_sync_proxy_rules_service_changes_pending", "gauge", set()),
    ("kubeproxy_sync_proxy_rules_service_changes_total", "counter", set()),
    ("rest_client_requests_total", "counter", {"code", "method", "host"}),
    ("rest_client_request_duration_seconds", "histogram", {"verb", "host"}),
    ("process_cpu_seconds_total", "counter", set()),
    ("process_resident_memory_bytes", "gauge", set()),
    ("process_start_time_seconds", "gauge", set()),
    ("go_goroutines", "gauge", set()),
]


@pytest.mark.parametrize(("name", "kind", "labels"), KUBE_PROXY)
def test_kube_proxys_metrics(name: str, kind: str, labels: set[str]) -> None:
    text = busy().exposition().decode()
    assert f"# TYPE {name} {kind}\n" in text
    samples = re.findall(rf"^{name}(?:_bucket|_count|_sum)?(?:{{(.*)}})? \S+$", text, re.MULTILINE)
    assert samples
    for sample in samples:
        assert set(re.findall(r'(\w+)="', sample)) - {"le"} == labels


NFTABLES_ONLY = {
    "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
    "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total",
}


def test_metrics_of_the_other_mode_are_not_there() -> None:
    assert "nftables" not in busy().exposition().decode()
    text = busy(ProxyMode.NFTABLES).exposition().decode()
    assert set(re.findall(r"^# TYPE (kubeproxy_\S*nftables\S*) counter$", text, re.MULTILINE)) == NFTABLES_ONLY
    assert "kubeproxy_sync_proxy_rules_iptables" not in text


@pytest.mark.parametrize(
    ("name", "buckets"),
    [
        ("kubeproxy_sync_proxy_rules_duration_seconds", EXPONENTIAL),
        ("kubeproxy_sync_full_proxy_rules_duration_seconds", EXPONENTIAL),
        ("kubeproxy_sync_partial_proxy_rules_duration_seconds", EXPONENTIAL),
        ("kubeproxy_conntrack_reconciler_sync_duration_seconds", EXPONENTIAL),
        (
            "kubeproxy_network_programming_duration_seconds",
            [0, 0.25, 0.5, *range(1, 60), *range(60, 120, 5), 120, 150, 180, 210, 240, 270, 300],
        ),
        ("rest_client_request_duration_seconds", [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60]),
    ],
)
def test_buckets_are_kube_proxys_to_the_letter(name: str, buckets: list[float]) -> None:
    text = busy().exposition().decode()
    found = re.findall(rf'^{name}_bucket{{.*\ble="([^"]+)".*}} ', text, re.MULTILINE)
    expected = [*(f"{bucket:g}" for bucket in buckets), "+Inf"]
    assert found[: len(expected)] == expected


def test_promtool_finds_nothing_but_kube_proxys_own_names() -> None:
    try:
        done = subprocess.run(
            ["promtool", "check", "metrics"], input=busy().exposition(), capture_output=True, check=False, timeout=30
        )
    except FileNotFoundError:
        pytest.fail("promtool is missing: install the package prometheus")
    complaint = 'non-counter metrics should not have "_total" suffix'
    assert (done.stdout + done.stderr).decode().splitlines() == [
        f"kubeproxy_sync_proxy_rules_iptables_total {complaint}",
        f"kubeproxy_sync_proxy_rules_no_local_endpoints_total {complaint}",
    ]


def test_a_new_kproxy_shows_zeros_and_no_half_made_series() -> None:
    metrics = Metrics(clock=Clock())
    assert value(metrics, "kubeproxy_sync_proxy_rules_duration_seconds_count", ip_family="IPv4") == 0
    assert value(metrics, "kubeproxy_sync_proxy_rules_iptables_restore_failures_total", ip_family="IPv6") == 0
    assert value(metrics, "kproxy_drift_repairs_total", ip_family="IPv4") == 0
    assert "_created" not in metrics.exposition().decode()
    assert "kproxy_service_connections" not in metrics.exposition().decode()


def test_only_the_families_in_use_show() -> None:
    assert 'ip_family="IPv6"' not in Metrics(families=[V4]).exposition().decode()


def test_syncs() -> None:
    metrics = busy()
    assert value(metrics, "kubeproxy_sync_proxy_rules_duration_seconds_count", ip_family="IPv4") == 3
    assert value(metrics, "kubeproxy_sync_full_proxy_rules_duration_seconds_count", ip_family="IPv4") == 1
    assert value(metrics, "kubeproxy_sync_partial_proxy_rules_duration_seconds_count", ip_family="IPv4") == 2
    assert value(metrics, "kubeproxy_sync_proxy_rules_last_timestamp_seconds", ip_family="IPv4") == Clock.now
    assert value(metrics, "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", ip_family="IPv6") == Clock.now
    assert value(metrics, "kubeproxy_sync_proxy_rules_iptables_total", ip_family="IPv4", table="nat") == 6
    assert value(metrics, "kubeproxy_sync_proxy_rules_iptables_last", ip_family="IPv4", table="nat") == 1
    assert value(metrics, "kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total", ip_family="IPv4") == 1


@pytest.mark.parametrize(
    ("moments", "count", "total"),
    [
        (["1970-01-12T13:46:39.25Z"], 1, 0.75),
        (["1970-01-12T13:46:39.25Z", "1970-01-12T13:46:38+00:00"], 2, 2.75),
        (["1970-01-12T13:46:39.123456789Z"], 1, 0.876544),
        (["1970-01-12T13:47:00Z"], 1, 0.0),
        (["", "yesterday", "1970-01-12T13:46:39", "1970-01-12"], 0, 0.0),
    ],
)
def test_network_programming_time_starts_where_the_control_plane_says(
    moments: list[str], count: int, total: float
) -> None:
    metrics = Metrics(clock=Clock())
    metrics.programmed(moments, [V4])
    name = "kubeproxy_network_programming_duration_seconds"
    assert value(metrics, f"{name}_count", ip_family="IPv4") == count
    assert value(metrics, f"{name}_sum", ip_family="IPv4") == pytest.approx(total)


def test_what_was_triggered_before_the_start_does_not_count() -> None:
    """After a restart in an old cluster each slice bears the time of its last change, which may be months ago."""
    metrics = Metrics(clock=Clock(), since=999_999.5)
    metrics.programmed(["1970-01-12T13:46:39.25Z", "1970-01-12T13:46:39.75Z", "1969-01-01T00:00:00Z"], [V4])
    name = "kubeproxy_network_programming_duration_seconds"
    assert value(metrics, f"{name}_count", ip_family="IPv4") == 1
    assert value(metrics, f"{name}_sum", ip_family="IPv4") == pytest.approx(0.25)
    assert value(metrics, f"{name}_count", ip_family="IPv6") == 0


def test_requests() -> None:
    metrics = busy()
    host = "10.0.0.1:6443"
    assert value(metrics, "rest_client_requests_total", code="200", method="GET", host=host) == 1
    assert value(metrics, "rest_client_requests_total", code="<error>", method="POST", host=host) == 1
    assert value(metrics, "rest_client_request_duration_seconds_bucket", verb="GET", host=host, le="0.1") == 1


def test_totals_go_on_over_changes_of_mode() -> None:
    lasting = Lasting()
    metrics = busy(ProxyMode.IPTABLES, lasting)
    held: dict[str, float] = {}
    for times, mode in enumerate((ProxyMode.NFTABLES, ProxyMode.IPTABLES, ProxyMode.NFTABLES), 2):
        held |= totals(metrics)
        metrics.let_go()
        idle = totals(Metrics(mode, lasting=lasting))
        assert {series: value for series, value in idle.items() if value != held.get(series, 0.0)} == {}
        metrics = busy(mode, lasting)
        assert fallen(held, totals(metrics)) == {}
        assert totals(metrics)["kubeproxy_sync_proxy_rules_service_changes_total"] == times
        assert totals(metrics)['kproxy_watch_received_bytes_total{kind="Service"}'] == 99 * times
    assert {series.partition("{")[0] for series in held.keys() - totals(metrics).keys()} == {
        "kubeproxy_sync_proxy_rules_iptables_restore_failures_total",
        "kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total",
    }


def test_what_is_so_now_is_told_anew_after_a_change_of_mode() -> None:
    lasting = Lasting()
    busy(lasting=lasting)
    metrics = Metrics(lasting=lasting)
    assert "kproxy_lost_frontend_info{" not in metrics.exposition().decode()
    assert value(metrics, "kproxy_lost_frontends", ip_family="IPv4") == 0


def test_watches_are_asked_at_each_scrape() -> None:
    metrics = Metrics()
    status = WatchStatus(Kind.ENDPOINT_SLICE)
    metrics.watch_statuses(lambda: [status])
    assert value(metrics, "kproxy_watch_failing", kind="EndpointSlice") == 0
    status.fails("connection refused")
    status.last_sign_of_life -= 100
    assert value(metrics, "kproxy_watch_failing", kind="EndpointSlice") == 1
    assert value(metrics, "kproxy_watch_failures_total", kind="EndpointSlice") == 1
    status.listed_again("history")
    assert value(metrics, "kproxy_watch_relists_total", kind="EndpointSlice", reason="history") == 1
    assert value(metrics, "kproxy_watch_relists_total", kind="EndpointSlice", reason="silence") == 0
    age = value(metrics, "kproxy_watch_age_seconds", kind="EndpointSlice")
    assert age is not None
    assert 100 <= age < 130


def test_connections() -> None:
    metrics = busy()
    labels = {"namespace": "shop", "service": "web", "port": "http", "protocol": "TCP"}
    assert value(metrics, "kproxy_service_connections_total", **labels) == 7
    assert value(metrics, "kproxy_service_rejected_packets_total", **labels) == 1
    assert value(metrics, "kproxy_service_dropped_packets_total", **labels) == 2
    assert value(metrics, "kproxy_endpoint_connections_total", **labels, endpoint="10.1.0.1:80") == 7
    assert value(metrics, "kubeproxy_iptables_ct_state_invalid_dropped_packets_total") == 4
    assert value(metrics, "kproxy_connection_series_omitted", of="endpoints") == 0
    assert value(metrics, "kproxy_connection_counters_age_seconds") == 0.25


def test_connections_per_endpoint_are_optional_and_rules_are_read_once_a_scrape() -> None:
    metrics, reads = Metrics(), []
    counters = ConnectionCounters()
    counters.fold(Reading(V6, given(NAME, "[fd00::1]:80")))

    def read() -> ConnectionCounters:
        reads.append(1)
        return counters

    metrics.connection_counters(read, endpoints=False)
    assert not reads
    text = metrics.exposition().decode()
    assert len(reads) == 1
    assert "kproxy_endpoint_connections_total" not in text
    assert 'protocol="TCP"} 7\n' in text
    metrics.connection_counters(read)
    assert 'endpoint="[fd00::1]:80"} 7\n' in metrics.exposition().decode()


def test_a_name_that_should_not_exist_can_not_break_the_text() -> None:
    metrics = Metrics()
    odd = ServicePortName('a"} 1\nfake_metric 2', "b\\", "é", Protocol.UDP)
    counters = ConnectionCounters()
    counters.fold(Reading(V4, given(odd, "10.1.0.1:80")))
    metrics.connection_counters(lambda: counters)
    labels = {"namespace": odd.namespace, "service": odd.name, "port": odd.port, "protocol": "UDP"}
    assert value(metrics, "kproxy_service_connections_total", **labels) == 7
    assert "fake_metric" not in families(metrics)


def test_losers_of_addresses_are_named_as_long_as_they_lose() -> None:
    metrics = busy()
    labels = {"namespace": "aaa", "service": "thief", "port": "http"}
    more = {"ip_family": "IPv4", "address": "10.96.0.20:80/TCP", "owner": "shop/web"}
    assert value(metrics, "kproxy_lost_frontends", ip_family="IPv4") == 1
    assert value(metrics, "kproxy_lost_frontend_info", **labels, **more) == 1
    metrics.contested(V4, ())
    assert value(metrics, "kproxy_lost_frontends", ip_family="IPv4") == 0
    assert value(metrics, "kproxy_lost_frontend_info", **labels, **more) is None
    metrics.contested(V4, [LOSS._replace(claim=Claim("10.96.0.20", port, Protocol.TCP)) for port in range(1, 1000)])
    assert value(metrics, "kproxy_lost_frontends", ip_family="IPv4") == 999
    assert len(families(metrics)["kproxy_lost_frontend_info"].samples) == 200 + 1
