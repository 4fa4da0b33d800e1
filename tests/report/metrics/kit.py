"""Metrics to which everything has happened, and how to read what they say."""

from collections.abc import Iterable

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
from tests.kit.clock import Clock
from tests.kit.totals import totals_of

V4, V6 = IPFamily.IPV4, IPFamily.IPV6
NAME = ServicePortName("shop", "web", "http", Protocol.TCP)
LOSS = Loss(
    ServicePortName("aaa", "thief", "http", Protocol.TCP),
    Claim("10.96.0.20", 80, Protocol.TCP),
    FrontendKind.EXTERNAL_IP,
    NAME,
    "whose cluster IP it is",
)


NOW = 1_000_000.0


def families(metrics: Metrics) -> dict[str, Metric]:
    return {family.name: family for family in parsed(metrics.exposition().decode())}


def parsed(text: str) -> Iterable[Metric]:
    found: Iterable[Metric] = text_string_to_metric_families(text)
    return found


def value(metrics: Metrics, sample: str, **labels: str) -> float | None:
    lines = metrics.exposition().decode().splitlines(keepends=True)
    for family in parsed("".join(line for line in lines if line.startswith((f"{sample}{{", f"{sample} ")))):
        for found in family.samples:
            if found.labels == labels:
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
    metrics = Metrics(mode, clock=Clock(NOW), lasting=lasting)
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
