"""What each thing that happens comes to in the metrics."""

import pytest

from kproxy.api.kinds import Kind
from kproxy.api.status import WatchStatus
from kproxy.config import ProxyMode
from kproxy.plan.claims import Claim
from kproxy.report.metrics import ConnectionCounters, Lasting, Metrics, Reading
from kproxy.state.model import Protocol, ServicePortName
from tests.kit.clock import Clock
from tests.kit.totals import fallen
from tests.report.metrics.kit import LOSS, NAME, NOW, V4, V6, busy, families, given, totals, value


def test_a_new_kproxy_shows_zeros_and_no_half_made_series() -> None:
    metrics = Metrics(clock=Clock(NOW))
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
    assert value(metrics, "kubeproxy_sync_proxy_rules_last_timestamp_seconds", ip_family="IPv4") == NOW
    assert value(metrics, "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", ip_family="IPv6") == NOW
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
    metrics = Metrics(clock=Clock(NOW))
    metrics.programmed(moments, [V4])
    name = "kubeproxy_network_programming_duration_seconds"
    assert value(metrics, f"{name}_count", ip_family="IPv4") == count
    assert value(metrics, f"{name}_sum", ip_family="IPv4") == pytest.approx(total)


def test_what_was_triggered_before_the_start_does_not_count() -> None:
    """After a restart in an old cluster each slice bears the time of its last change, which may be months ago."""
    metrics = Metrics(clock=Clock(NOW), since=999_999.5)
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
