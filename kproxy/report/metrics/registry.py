"""The list of metrics: their names, types, labels and help. What sets them is in `setters`.

The first kind (``kubeproxy_*``, ``rest_client_*``, ``process_*``) has the names, types, labels and buckets of
kube-proxy v1.36, so that its dashboards and alerts work unchanged; that includes gauges with names that end in
``_total``, which promtool's linter frowns at. The second is ``kproxy_*``.

Counters and histograms are those of the process: a registry that is made for another configuration has those of the
one before, and Prometheus never sees one fall. Gauges are made anew.

Two decisions. ``go_goroutines`` is exported although there are none: the kubernetes-mixin's dashboard has a panel for
it, and Python's threads are what it is about. ``kubernetes_build_info`` is not: kproxy is no part of Kubernetes, and
its version there would set off the mixin's alert about mixed versions; ``kproxy_build_info`` takes its place.
"""

import platform
import threading
from collections.abc import Sequence
from typing import TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from kproxy import __version__
from kproxy.config import ProxyMode
from kproxy.node import problems
from kproxy.report.metrics.faults import FaultCollector
from kproxy.report.metrics.lasting import Lasting
from kproxy.state.model import IPFamily

SYNC_BUCKETS = tuple(0.001 * 2**power for power in range(15))
PROGRAMMING_BUCKETS = (0, 0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30))
"""kube-proxy's, with the bucket for 0 that its way of putting them together adds."""
REQUEST_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)
"""client-go's."""

M = TypeVar("M", bound=MetricWrapperBase)


class Registry:
    """All metrics of one kproxy that somebody sets; `setters` has these, and those that are read when asked for."""

    def __init__(self, mode: ProxyMode, families: Sequence[IPFamily], lasting: Lasting) -> None:
        """Go on from what has been counted so far."""
        self._lasting = lasting
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.collectors = CollectorRegistry()
        self._families = [family.metric_label for family in families]
        prometheus_client.ProcessCollector(registry=self.collectors)
        self._add_sync_metrics()
        self._add_change_metrics()
        self._add_backend_metrics(mode)
        self._add_server_metrics()
        self._add_own_metrics()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return self._started(self._lasting.counter(self.collectors, name, text, labels), labels)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.collectors)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return self._started(self._lasting.histogram(self.collectors, name, text, buckets, labels), labels)

    def _started(self, metric: M, labels: Sequence[str]) -> M:
        """Let series begin at zero, so that the first event of a kind shows up in a rate()."""
        if tuple(labels) == ("ip_family",):
            for family in self._families:
                metric.labels(family)
        return metric

    def _add_sync_metrics(self) -> None:
        self.sync = self._histogram(
            "kubeproxy_sync_proxy_rules_duration_seconds",
            "How long it took to bring the kernel's rules in line, full and partial syncs together",
            SYNC_BUCKETS,
            "ip_family",
        )
        self.sync_full = self._histogram(
            "kubeproxy_sync_full_proxy_rules_duration_seconds",
            "How long syncs took that compared all rules with the kernel's",
            SYNC_BUCKETS,
            "ip_family",
        )
        self.sync_partial = self._histogram(
            "kubeproxy_sync_partial_proxy_rules_duration_seconds",
            "How long syncs took that only touched the rules of changed services",
            SYNC_BUCKETS,
            "ip_family",
        )
        self.programming = self._histogram(
            "kubeproxy_network_programming_duration_seconds",
            "From the change of a pod or Service, as the control plane dates it, to the rules in the kernel",
            PROGRAMMING_BUCKETS,
            "ip_family",
        )
        self.last_sync = self._gauge(
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
            "When the rules were last synced successfully, in Unix time",
            "ip_family",
        )
        self.last_queued = self._gauge(
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
            "When a sync was last asked for, in Unix time; much later than the last sync means that syncing is stuck",
            "ip_family",
        )
        self.no_local_endpoints = self._gauge(
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
            "Service ports with a Local traffic policy (internal or external) that have no endpoint on this node",
            "ip_family",
            "traffic_policy",
        )

    def _add_change_metrics(self) -> None:
        self.endpoint_changes = self._counter(
            "kubeproxy_sync_proxy_rules_endpoint_changes_total", "Changes of EndpointSlices that changed something here"
        )
        self.endpoint_pending = self._gauge(
            "kubeproxy_sync_proxy_rules_endpoint_changes_pending", "Changes of EndpointSlices that wait for a sync"
        )
        self.service_changes = self._counter(
            "kubeproxy_sync_proxy_rules_service_changes_total", "Changes of Services that changed something here"
        )
        self.service_pending = self._gauge(
            "kubeproxy_sync_proxy_rules_service_changes_pending", "Changes of Services that wait for a sync"
        )
        self.conntrack_duration = self._histogram(
            "kubeproxy_conntrack_reconciler_sync_duration_seconds",
            "How long it took to find and release conntrack entries that lead to endpoints no longer in use",
            SYNC_BUCKETS,
            "ip_family",
        )
        self.conntrack_deleted = self._counter(
            "kubeproxy_conntrack_reconciler_deleted_entries_total",
            "Conntrack entries released because they led to endpoints no longer in use",
            "ip_family",
        )

    def _add_backend_metrics(self, mode: ProxyMode) -> None:
        self.rules_last: Gauge | None = None
        if mode is ProxyMode.NFTABLES:
            self.failures = self._counter(
                "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
                "Syncs the kernel refused; the rules of before stayed in force",
                "ip_family",
            )
            self.partial_failures = self._counter(
                "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total",
                "Times that chains no longer in use could not be removed",
                "ip_family",
            )
            self.rules = self._gauge(
                "kproxy_nftables_objects", "Chains, rules and elements of kproxy's in the kernel", "ip_family", "kind"
            )
            return
        self.failures = self._counter(
            "kubeproxy_sync_proxy_rules_iptables_restore_failures_total",
            "Syncs the kernel refused; the rules of before stayed in force",
            "ip_family",
        )
        self.partial_failures = self._counter(
            "kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total",
            "Partial syncs the kernel refused, after which a full one is tried",
            "ip_family",
        )
        self.rules = self._gauge(
            "kubeproxy_sync_proxy_rules_iptables_total", "Rules of kproxy's in the kernel", "ip_family", "table"
        )
        self.rules_last = self._gauge(
            "kubeproxy_sync_proxy_rules_iptables_last",
            "Rules in the chains that the last sync had to see to",
            "ip_family",
            "table",
        )

    def _add_server_metrics(self) -> None:
        self.healthz = self._counter("kubeproxy_proxy_healthz_total", "Answers of /healthz, by status", "code")
        self.livez = self._counter("kubeproxy_proxy_livez_total", "Answers of /livez, by status", "code")
        self.requests = self._counter(
            "rest_client_requests_total",
            "Requests to the API server, by status code (or <error>), method and host",
            "code",
            "method",
            "host",
        )
        self.request_duration = self._histogram(
            "rest_client_request_duration_seconds",
            "How long the API server took to begin its answer, by verb and host",
            REQUEST_BUCKETS,
            "verb",
            "host",
        )
        self.health_ports = self._gauge(
            "kproxy_health_check_node_ports", "Health-check node ports, by whether they could be opened", "state"
        )
        threads = self._gauge(
            "go_goroutines", "Threads; under this name since dashboards for Kubernetes' own programs look for it"
        )
        threads.set_function(threading.active_count)

    def _add_own_metrics(self) -> None:
        build = self._gauge("kproxy_build_info", "Always 1; the labels say what is running", "version", "python")
        build.labels(__version__, platform.python_version()).set(1)
        self.drift = self._counter(
            "kproxy_drift_repairs_total", "Times that rules others had changed or removed were put right", "ip_family"
        )
        self.repaired = self._counter(
            "kproxy_repaired_chains_total", "Chains found changed by others, and put right", "ip_family"
        )
        self.refused = self._gauge(
            "kproxy_refused_service_ports", "Service ports left out because the kernel won't take them", "ip_family"
        )
        self.skipped = self._counter(
            "kproxy_skipped_object_parts_total", "Parts of objects that made no sense and were left out", "kind"
        )
        self.lost = self._gauge(
            "kproxy_lost_frontends",
            "Addresses and ports that a Service names and that do nothing, as they belong to another",
            "ip_family",
        )
        self.lost_info = self._gauge(
            "kproxy_lost_frontend_info",
            "Always 1: which Service lost which address and port, and to whom; 200 of a family at most",
            *("ip_family", "namespace", "service", "port", "address", "owner"),
        )
        self._started(self.lost, ["ip_family"])
        self.node_problem = self._gauge(
            "kproxy_node_problem",
            "1 while something is wrong with the node; the log says what, and how to mend it",
            "reason",
        )
        for reason in problems.reasons():
            self.node_problem.labels(reason)
        self.collectors.register(FaultCollector())
        self.objects = self._gauge("kproxy_objects", "Objects in force", "kind")
        self.config_warnings = self._gauge(
            "kproxy_config_warnings", "Settings of the configuration that have no effect; the log names them"
        )
