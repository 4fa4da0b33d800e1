"""What Prometheus sees of kproxy: kube-proxy's metrics under their own names, and what nobody else has.

The first kind (``kubeproxy_*``, ``rest_client_*``, ``process_*``) has the names, types, labels and buckets of
kube-proxy v1.36, so that its dashboards and alerts work unchanged; that includes gauges with names that end in
``_total``, which promtool's linter frowns at, and buckets written as Go writes them (``le="1"``). The second is
``kproxy_*``.

Two decisions. ``go_goroutines`` is exported although there are none: the kubernetes-mixin's dashboard has a panel for
it, and Python's threads are what it is about. ``kubernetes_build_info`` is not: kproxy is no part of Kubernetes, and
its version there would set off the mixin's alert about mixed versions; ``kproxy_build_info`` takes its place.

Callers use plain methods; no type of the metrics library leaves this module. All methods may be called from any thread.
"""

import datetime
import platform
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from kproxy import __version__
from kproxy.api.status import WatchStatus
from kproxy.config import ProxyMode
from kproxy.node import problems
from kproxy.plan.claims import Loss
from kproxy.report.metrics.connections import connection_text
from kproxy.report.metrics.counters import ConnectionCounters
from kproxy.report.metrics.faults import FaultCollector
from kproxy.report.metrics.watches import WatchCollector
from kproxy.state.model import IPFamily

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SYNC_BUCKETS = tuple(0.001 * 2**power for power in range(15))
PROGRAMMING_BUCKETS = (0, 0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30))
"""kube-proxy's, with the bucket for 0 that its way of putting them together adds."""
REQUEST_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)
"""client-go's."""
MAX_SHOWN_LOSSES = 200
"""Anybody can make Services that name others' addresses, and so many series."""
_WHOLE_BUCKET = re.compile(rb'(?<=[{,]le=")(\d+)\.0(?=")')

M = TypeVar("M", bound=MetricWrapperBase)


class Metrics:
    """All metrics of one kproxy."""

    def __init__(
        self,
        mode: ProxyMode = ProxyMode.IPTABLES,
        families: Sequence[IPFamily] = tuple(IPFamily),
        clock: Callable[[], float] = time.time,
        since: float = 0.0,
    ) -> None:
        """Begin at zero. ``since`` is when kproxy started, in Unix time; what was triggered before is not its delay."""
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._families = [family.metric_label for family in families]
        self._clock = clock
        self._since = since
        prometheus_client.ProcessCollector(registry=self._registry)
        self._add_sync_metrics()
        self._add_change_metrics()
        self._add_backend_metrics(mode)
        self._add_server_metrics()
        self._add_own_metrics()
        self._read_connections: Callable[[], ConnectionCounters] | None = None
        self._endpoint_series = True
        self._collecting = threading.Lock()

    # --- set-up ----------------------------------------------------------------------------------------------------

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return self._started(Counter(name, text, labels, registry=self._registry), labels)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return self._started(Histogram(name, text, labels, registry=self._registry, buckets=buckets), labels)

    def _started(self, metric: M, labels: Sequence[str]) -> M:
        """Let series begin at zero, so that the first event of a kind shows up in a rate()."""
        if tuple(labels) == ("ip_family",):
            for family in self._families:
                metric.labels(family)
        return metric

    def _add_sync_metrics(self) -> None:
        self._sync = self._histogram(
            "kubeproxy_sync_proxy_rules_duration_seconds",
            "How long it took to bring the kernel's rules in line, full and partial syncs together",
            SYNC_BUCKETS,
            "ip_family",
        )
        self._sync_full = self._histogram(
            "kubeproxy_sync_full_proxy_rules_duration_seconds",
            "How long syncs took that compared all rules with the kernel's",
            SYNC_BUCKETS,
            "ip_family",
        )
        self._sync_partial = self._histogram(
            "kubeproxy_sync_partial_proxy_rules_duration_seconds",
            "How long syncs took that only touched the rules of changed services",
            SYNC_BUCKETS,
            "ip_family",
        )
        self._programming = self._histogram(
            "kubeproxy_network_programming_duration_seconds",
            "From the change of a pod or Service, as the control plane dates it, to the rules in the kernel",
            PROGRAMMING_BUCKETS,
            "ip_family",
        )
        self._last_sync = self._gauge(
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
            "When the rules were last synced successfully, in Unix time",
            "ip_family",
        )
        self._last_queued = self._gauge(
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
            "When a sync was last asked for, in Unix time; much later than the last sync means that syncing is stuck",
            "ip_family",
        )
        self._no_local_endpoints = self._gauge(
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
            "Service ports with a Local traffic policy (internal or external) that have no endpoint on this node",
            "ip_family",
            "traffic_policy",
        )

    def _add_change_metrics(self) -> None:
        self._endpoint_changes = self._counter(
            "kubeproxy_sync_proxy_rules_endpoint_changes_total", "Changes of EndpointSlices that changed something here"
        )
        self._endpoint_pending = self._gauge(
            "kubeproxy_sync_proxy_rules_endpoint_changes_pending", "Changes of EndpointSlices that wait for a sync"
        )
        self._service_changes = self._counter(
            "kubeproxy_sync_proxy_rules_service_changes_total", "Changes of Services that changed something here"
        )
        self._service_pending = self._gauge(
            "kubeproxy_sync_proxy_rules_service_changes_pending", "Changes of Services that wait for a sync"
        )
        self._conntrack_duration = self._histogram(
            "kubeproxy_conntrack_reconciler_sync_duration_seconds",
            "How long it took to find and release conntrack entries that lead to endpoints no longer in use",
            SYNC_BUCKETS,
            "ip_family",
        )
        self._conntrack_deleted = self._counter(
            "kubeproxy_conntrack_reconciler_deleted_entries_total",
            "Conntrack entries released because they led to endpoints no longer in use",
            "ip_family",
        )

    def _add_backend_metrics(self, mode: ProxyMode) -> None:
        self._rules_last: Gauge | None = None
        if mode is ProxyMode.NFTABLES:
            self._failures = self._counter(
                "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
                "Syncs the kernel refused; the rules of before stayed in force",
                "ip_family",
            )
            self._partial_failures = self._counter(
                "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total",
                "Times that chains no longer in use could not be removed",
                "ip_family",
            )
            self._rules = self._gauge(
                "kproxy_nftables_objects", "Chains, rules and elements of kproxy's in the kernel", "ip_family", "kind"
            )
            return
        self._failures = self._counter(
            "kubeproxy_sync_proxy_rules_iptables_restore_failures_total",
            "Syncs the kernel refused; the rules of before stayed in force",
            "ip_family",
        )
        self._partial_failures = self._counter(
            "kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total",
            "Partial syncs the kernel refused, after which a full one is tried",
            "ip_family",
        )
        self._rules = self._gauge(
            "kubeproxy_sync_proxy_rules_iptables_total", "Rules of kproxy's in the kernel", "ip_family", "table"
        )
        self._rules_last = self._gauge(
            "kubeproxy_sync_proxy_rules_iptables_last",
            "Rules in the chains that the last sync had to see to",
            "ip_family",
            "table",
        )

    def _add_server_metrics(self) -> None:
        self._healthz = self._counter("kubeproxy_proxy_healthz_total", "Answers of /healthz, by status", "code")
        self._livez = self._counter("kubeproxy_proxy_livez_total", "Answers of /livez, by status", "code")
        self._requests = self._counter(
            "rest_client_requests_total",
            "Requests to the API server, by status code (or <error>), method and host",
            "code",
            "method",
            "host",
        )
        self._request_duration = self._histogram(
            "rest_client_request_duration_seconds",
            "How long the API server took to begin its answer, by verb and host",
            REQUEST_BUCKETS,
            "verb",
            "host",
        )
        self._health_ports = self._gauge(
            "kproxy_health_check_node_ports", "Health-check node ports, by whether they could be opened", "state"
        )
        threads = self._gauge(
            "go_goroutines", "Threads; under this name since dashboards for Kubernetes' own programs look for it"
        )
        threads.set_function(threading.active_count)

    def _add_own_metrics(self) -> None:
        build = self._gauge("kproxy_build_info", "Always 1; the labels say what is running", "version", "python")
        build.labels(__version__, platform.python_version()).set(1)
        self._drift = self._counter(
            "kproxy_drift_repairs_total", "Times that rules others had changed or removed were put right", "ip_family"
        )
        self._repaired = self._counter(
            "kproxy_repaired_chains_total", "Chains found changed by others, and put right", "ip_family"
        )
        self._refused = self._gauge(
            "kproxy_refused_service_ports", "Service ports left out because the kernel won't take them", "ip_family"
        )
        self._skipped = self._counter(
            "kproxy_skipped_object_parts_total", "Parts of objects that made no sense and were left out", "kind"
        )
        self._lost = self._gauge(
            "kproxy_lost_frontends",
            "Addresses and ports that a Service names and that do nothing, as they belong to another",
            "ip_family",
        )
        self._lost_info = self._gauge(
            "kproxy_lost_frontend_info",
            "Always 1: which Service lost which address and port, and to whom; 200 of a family at most",
            *("ip_family", "namespace", "service", "port", "address", "owner"),
        )
        self._started(self._lost, ["ip_family"])
        self._shown_losses: dict[IPFamily, set[tuple[str, ...]]] = {}
        self._node_problem = self._gauge(
            "kproxy_node_problem",
            "1 while something is wrong with the node; the log says what, and how to mend it",
            "reason",
        )
        self.node_problems(())
        self._registry.register(FaultCollector())
        self._objects = self._gauge("kproxy_objects", "Objects in force", "kind")
        self._config_warnings = self._gauge(
            "kproxy_config_warnings", "Settings of the configuration that have no effect; the log names them"
        )

    # --- what happens ----------------------------------------------------------------------------------------------

    def changes_seen(self, services: int = 0, endpoints: int = 0) -> None:
        """Count objects that came and changed something."""
        self._service_changes.inc(services)
        self._endpoint_changes.inc(endpoints)

    def changes_pending(self, services: int, endpoints: int) -> None:
        """Say how many changes wait for a sync."""
        self._service_pending.set(services)
        self._endpoint_pending.set(endpoints)

    def queued(self, family: IPFamily | None = None) -> None:
        """A sync is wanted now, of one family or of all."""
        for label in [family.metric_label] if family else self._families:
            self._last_queued.labels(label).set(self._clock())

    def sync_finished(
        self,
        family: IPFamily,
        *,
        full: bool,
        seconds: float,
        rules: Mapping[str, int],
        written: Mapping[str, int] | None = None,
    ) -> None:
        """A sync went well. ``rules`` are those in force by table, ``written`` those in the chains it saw to."""
        label = family.metric_label
        self._sync.labels(label).observe(seconds)
        (self._sync_full if full else self._sync_partial).labels(label).observe(seconds)
        self._last_sync.labels(label).set(self._clock())
        for table, number in rules.items():
            self._rules.labels(label, table).set(number)
        if self._rules_last is not None:
            for table, number in (written or {}).items():
                self._rules_last.labels(label, table).set(number)

    def sync_failed(self, family: IPFamily, *, full: bool, seconds: float) -> None:
        """A sync failed; its time counts, too."""
        label = family.metric_label
        self._sync.labels(label).observe(seconds)
        (self._sync_full if full else self._sync_partial).labels(label).observe(seconds)
        self._failures.labels(label).inc()
        if not full:
            self._partial_failures.labels(label).inc()

    def programmed(self, trigger_times: Iterable[str], families: Iterable[IPFamily] = tuple(IPFamily)) -> None:
        """What changed at these times (RFC 3339, of the control plane's clock) is in the kernel now.

        Changes from before the start don't count, as in kube-proxy: their age is not the time it took to program them.
        """
        now = self._clock()
        moments = map(_unix_time, trigger_times)
        delays = [max(0.0, now - moment) for moment in moments if moment is not None and moment > self._since]
        for family in families:
            for delay in delays:
                self._programming.labels(family.metric_label).observe(delay)

    def no_local_endpoints(self, family: IPFamily, *, internal: int, external: int) -> None:
        """Say how many service ports with a Local policy have no endpoint here."""
        self._no_local_endpoints.labels(family.metric_label, "internal").set(internal)
        self._no_local_endpoints.labels(family.metric_label, "external").set(external)

    def conntrack_reconciled(self, family: IPFamily, *, seconds: float, released: int) -> None:
        """Stale conntrack entries were looked for, and released."""
        self._conntrack_duration.labels(family.metric_label).observe(seconds)
        self._conntrack_deleted.labels(family.metric_label).inc(released)

    def drift_repaired(self, family: IPFamily, chains: int = 0) -> None:
        """Rules that others had changed were put right."""
        self._drift.labels(family.metric_label).inc()
        self._repaired.labels(family.metric_label).inc(chains)

    def refused(self, family: IPFamily, number: int) -> None:
        """Say how many service ports the kernel won't take."""
        self._refused.labels(family.metric_label).set(number)

    def node_problems(self, found: Collection[str]) -> None:
        """Say which reasons there are to call the node ill; see `kproxy.node.problems`."""
        for reason in problems.reasons():
            self._node_problem.labels(reason).set(float(reason in found))

    def contested(self, family: IPFamily, losses: Sequence[Loss]) -> None:
        """Say which frontends do nothing, as others have them."""
        self._lost.labels(family.metric_label).set(len(losses))
        shown: set[tuple[str, ...]] = {
            (family.metric_label, name.namespace, name.name, name.port, str(loss.claim), str(loss.owner.service))
            for loss in losses[:MAX_SHOWN_LOSSES]
            for name in (loss.loser,)
        }
        for labels in self._shown_losses.get(family, set()) - shown:
            self._lost_info.remove(*labels)
        for labels in shown:
            self._lost_info.labels(*labels).set(1)
        self._shown_losses[family] = shown

    def skipped(self, kind: str, number: int = 1) -> None:
        """Parts of an object were left out."""
        self._skipped.labels(kind).inc(number)

    def objects(self, kind: str, number: int) -> None:
        """Say how many of a kind, such as service ports of both families, are in force."""
        self._objects.labels(kind).set(number)

    def config_warnings(self, number: int) -> None:
        """Say how many settings have no effect."""
        self._config_warnings.set(number)

    def request_finished(self, *, method: str, verb: str, host: str, code: int | None, seconds: float) -> None:
        """A request to the API server was answered; ``code`` is None where it was not.

        ``method`` is HTTP's, ``verb`` too in client-go (GET for lists and watches). ``host`` has its port.
        """
        self._requests.labels(str(code) if code else "<error>", method, host).inc()
        self._request_duration.labels(verb, host).observe(seconds)

    def healthz_answered(self, code: int) -> None:
        """/healthz answered."""
        self._healthz.labels(str(code)).inc()

    def livez_answered(self, code: int) -> None:
        """/livez answered."""
        self._livez.labels(str(code)).inc()

    def health_check_node_ports(self, *, serving: int, failed: int) -> None:
        """Say how many health-check node ports are open, and how many could not be opened."""
        self._health_ports.labels("serving").set(serving)
        self._health_ports.labels("failed").set(failed)

    # --- what is asked for at each scrape --------------------------------------------------------------------------

    def watch_statuses(self, read: Callable[[], Collection[WatchStatus]]) -> None:
        """Show how the watches do, by asking ``read`` at each scrape."""
        self._registry.register(WatchCollector(read))

    def connection_counters(self, read: Callable[[], ConnectionCounters], *, endpoints: bool = True) -> None:
        """Show connections per service (and endpoint), by asking ``read`` once at each scrape.

        ``read`` returns the counters, up to date as far as that was possible; it should not raise.
        """
        self._read_connections = read
        self._endpoint_series = endpoints

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format, which is `CONTENT_TYPE`.

        Not OpenMetrics, which kube-proxy does not speak either: it has no gauges that end in ``_total``.
        """
        with self._collecting:
            text = _WHOLE_BUCKET.sub(rb"\1", prometheus_client.generate_latest(self._registry))
            if self._read_connections is None:
                return text
            return text + connection_text(self._read_connections(), endpoints=self._endpoint_series).encode()


def _unix_time(text: str) -> float | None:
    """Read an RFC 3339 time; None where it is none."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo else None
