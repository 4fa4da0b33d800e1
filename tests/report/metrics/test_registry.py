"""Metrics have kube-proxy's names, types, labels and buckets, and pass promtool."""

import functools
import re
import subprocess

import pytest

from kproxy.config import ProxyMode
from tests.report.metrics.kit import busy

EXPONENTIAL = [0.001 * 2**n for n in range(15)]


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


@functools.cache
def exposition() -> str:
    return busy().exposition().decode()


@pytest.mark.parametrize(("name", "kind", "labels"), KUBE_PROXY)
def test_kube_proxys_metrics(name: str, kind: str, labels: set[str]) -> None:
    text = exposition()
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
