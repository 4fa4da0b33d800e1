"""What Prometheus sees of the ingress program.

Figures of requests are HAProxy's own: it counts them anyway, and is asked at each scrape. All methods may be called
from any thread; no type of the metrics library leaves this module.
"""

import platform
import threading
from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from kproxy import __version__
from kproxy.api.status import WatchStatus
from kproxy.ingress.haproxy.engine import Totals
from kproxy.ingress.haproxy.text.model import Slot
from kproxy.ingress.plan.action import BackendKey
from kproxy.ingress.plan.model import Backend, Frontend, Plan
from kproxy.ingress.report.traffic import CODES, ERRORS, Clients, Reading, Way, cumulative
from kproxy.report.metrics.faults import FaultCollector
from kproxy.report.metrics.lasting import Lasting

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SYNC_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_REQUEST_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)


class Scraped(NamedTuple):
    """What is asked of the running program at each scrape."""

    ways: Mapping[Way, Reading]
    frontends: Collection[Clients]
    serving: bool
    totals: Totals
    writes: bool
    failed_writes: int
    slots: Mapping[str, Slot] = {}
    """By the names that HAProxy gives them."""


class IngressMetrics:
    """All metrics of one ingress program."""

    def __init__(self, lasting: Lasting | None = None) -> None:
        """Begin at zero, or go on from what this process has counted before."""
        self._lasting = lasting or Lasting()
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._collecting = threading.Lock()
        prometheus_client.ProcessCollector(registry=self._registry)
        self._sync = self._histogram("sync_duration_seconds", "How long it took to bring HAProxy in line")
        self._change = self._histogram(
            "change_duration_seconds", "From the arrival of a change to HAProxy doing what it says"
        )
        self._failures = self._counter("sync_failures", "Times that HAProxy could not be brought in line")
        self._problems = self._gauge("problems", "What is wrong with objects now: parts left out", "kind")
        self._refused = self._gauge("refused", "Parts of the plan that HAProxy would not take", "kind")
        self._objects = self._gauge("objects", "What HAProxy has been told", "kind")
        self._endpoints = self._gauge(
            "endpoints",
            "Endpoints of a Service's port, and whether they get new requests",
            "backend",
            "state",
        )
        self._shown: Mapping[BackendKey, Backend] = {}
        self._frontends: tuple[Frontend, ...] = ()
        self._health = self._counter("health_answers", "Answers of the health server", "page", "code")
        self._requests = self._lasting.counter(
            self._registry, "rest_client_requests", "Requests to the API server", ("code", "method", "host")
        )
        self._request_seconds = self._lasting.histogram(
            self._registry,
            "rest_client_request_duration_seconds",
            "How long the API server took to answer",
            _REQUEST_BUCKETS,
            ("verb", "host"),
        )
        info = Gauge("kproxy_build_info", "What runs here", ("version", "python_version"), registry=self._registry)
        info.labels(__version__, platform.python_version()).set(1)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return self._lasting.counter(self._registry, f"kproxy_ingress_{name}", text, labels)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"kproxy_ingress_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return self._lasting.histogram(self._registry, f"kproxy_ingress_{name}", text, _SYNC_BUCKETS)

    # --- what happens ----------------------------------------------------------------------------------------------

    def applied(self, seconds: float, since_arrival: float | None) -> None:
        """HAProxy was brought in line in so many seconds, so long after the oldest change came."""
        self._sync.observe(seconds)
        if since_arrival is not None:
            self._change.observe(since_arrival)

    def failed(self, seconds: float) -> None:
        """That went wrong; the time counts, too."""
        self._sync.observe(seconds)
        self._failures.inc()

    def problems(self, kinds: Iterable[str]) -> None:
        """Say what is wrong now, a kind for each problem."""
        self._set(self._problems, kinds)

    def refused(self, kinds: Iterable[str]) -> None:
        """Say what HAProxy refuses now, a kind for each part."""
        self._set(self._refused, kinds)

    def _set(self, gauge: Gauge, kinds: Iterable[str]) -> None:
        gauge.clear()
        for kind, number in Tally(kinds).items():
            gauge.labels(kind).set(number)

    def planned(self, plan: Plan) -> None:
        """Say what is in a plan that HAProxy has."""
        if plan.frontends is not self._frontends:
            self._frontends = plan.frontends
            listeners = [listener for frontend in plan.frontends for listener in frontend.listeners]
            hosts = {host.pattern for listener in listeners for host in listener.hosts}
            parts = {"host": hosts, "rule": plan.rules, "backend": plan.backends, "certificate": plan.certificates}
            for name, found in parts.items():
                self._objects.labels(name).set(len(found))
        for key in self._shown.keys() - plan.backends.keys():
            for state in ("ready", "draining"):
                self._endpoints.remove(str(key), state)
        for key, backend in plan.backends.items():
            if backend is self._shown.get(key):
                continue
            draining = sum(endpoint.draining for endpoint in backend.endpoints)
            self._endpoints.labels(str(key), "ready").set(len(backend.endpoints) - draining)
            self._endpoints.labels(str(key), "draining").set(draining)
        self._shown = plan.backends

    def health_answered(self, page: str, code: int) -> None:
        """A page of the health server was asked for."""
        self._health.labels(page, str(code)).inc()

    def finished(self, verb: str, host: str, code: str, seconds: float) -> None:
        """A request to the API server was answered; see `kproxy.api.transport.client.Observer`."""
        self._requests.labels(code, verb, host).inc()
        self._request_seconds.labels(verb, host).observe(seconds)

    # --- what is asked for at each scrape --------------------------------------------------------------------------

    def read_from(self, scrape: Callable[[], Scraped], watches: Callable[[], Collection[WatchStatus]]) -> None:
        """Ask these at each scrape. Neither should raise."""
        self._lasting.watches.follow(watches)
        self._registry.register(self._lasting.watches)
        self._registry.register(_Haproxy(scrape))
        self._registry.register(FaultCollector())

    def let_go(self) -> None:
        """Follow no watches any more; what they have counted is there for whoever goes on from here."""
        self._lasting.watches.follow(lambda: ())

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format, which is `CONTENT_TYPE`."""
        with self._collecting:
            return prometheus_client.generate_latest(self._registry)


class _Haproxy(Collector):
    """What HAProxy says of itself."""

    def __init__(self, scrape: Callable[[], Scraped]) -> None:
        self._scrape = scrape

    def describe(self) -> list[Metric]:
        """Say nothing in advance: the library would ask for all values otherwise."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        scraped = self._scrape()
        yield from _requests(scraped.ways)
        connections = GaugeMetricFamily(
            "kproxy_ingress_connections", "Open connections of clients", labels=("frontend",)
        )
        for frontend in scraped.frontends:
            connections.add_metric((frontend.name,), frontend.connections)
        yield connections
        yield _slots(scraped.slots)
        yield GaugeMetricFamily("kproxy_ingress_haproxy_up", "1 while HAProxy answers", value=float(scraped.serving))
        yield GaugeMetricFamily("kproxy_ingress_writes_status", "1 if this replica writes", value=float(scraped.writes))
        yield CounterMetricFamily(
            "kproxy_ingress_failed_writes", "Statuses and Services that were refused", value=scraped.failed_writes
        )
        reloads = CounterMetricFamily("kproxy_ingress_reloads", "Reloads of HAProxy", labels=("result",))
        reloads.add_metric(("ok",), scraped.totals.reloads)
        reloads.add_metric(("failed",), scraped.totals.failed_reloads)
        yield reloads
        yield CounterMetricFamily(
            "kproxy_ingress_restarts", "Times that HAProxy had died", value=scraped.totals.restarts
        )
        yield CounterMetricFamily(
            "kproxy_ingress_runtime_changes",
            "Times that HAProxy was brought in line without a reload",
            value=scraped.totals.runtime_changes,
        )


def _slots(slots: Mapping[str, Slot]) -> Metric:
    info = GaugeMetricFamily(
        "kproxy_ingress_slot_info",
        "What a backend of HAProxy's serves, to be joined with the metrics of its exporter; always 1",
        labels=("proxy", "route", "backend"),
    )
    for name, slot in slots.items():
        if slot.rule:
            info.add_metric((name, slot.rule, slot.backend), 1)
    return info


def _requests(ways: Mapping[Way, Reading]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "kproxy_ingress_requests", "Answers, by route and class of their code", labels=("route", "backend", "code")
    )
    errors = CounterMetricFamily(
        "kproxy_ingress_backend_errors",
        "Connections and answers of endpoints that failed, and requests that were tried again",
        labels=("route", "backend", "error"),
    )
    latency = HistogramMetricFamily(
        "kproxy_ingress_response_duration_seconds",
        "From a request to the beginning of its answer; HAProxy keeps no sum",
        labels=("route", "backend"),
    )
    for way, reading in sorted(ways.items()):
        for code, number in zip(CODES, reading.codes, strict=True):
            if number:
                requests.add_metric((*way, code), number)
        for error, number in zip(ERRORS, reading.errors, strict=True):
            if number:
                errors.add_metric((*way, error), number)
        if any(reading.buckets):
            _add_buckets(latency, way, reading)
    yield from (requests, errors, latency)


def _add_buckets(latency: HistogramMetricFamily, way: Way, reading: Reading) -> None:
    labels = {"route": way.route, "backend": way.backend}
    for bound, number in cumulative(reading.buckets):
        latency.add_sample(f"{latency.name}_bucket", {**labels, "le": bound}, number)
    latency.add_sample(f"{latency.name}_count", labels, sum(reading.buckets))
