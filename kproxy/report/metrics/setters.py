"""What Prometheus sees of kproxy: sets the metrics that `registry` lists, and writes them out.

Buckets are written as Go writes them (``le="1"``), as kube-proxy's are. Callers use plain methods; no type of the
metrics library leaves this package. All methods may be called from any thread.
"""

import datetime
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import prometheus_client

from kproxy.api.status import WatchStatus
from kproxy.config import ProxyMode
from kproxy.node import problems
from kproxy.plan.claims import Loss
from kproxy.report.metrics.connections import connection_text
from kproxy.report.metrics.counters import ConnectionCounters
from kproxy.report.metrics.lasting import Lasting
from kproxy.report.metrics.registry import Registry
from kproxy.state.model import IPFamily

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_SHOWN_LOSSES = 200
"""Anybody can make Services that name others' addresses, and so many series."""
_WHOLE_BUCKET = re.compile(rb'(?<=[{,]le=")(\d+)\.0(?=")')


class Metrics:
    """Sets the metrics of one kproxy, as what they tell of happens."""

    def __init__(
        self,
        mode: ProxyMode = ProxyMode.IPTABLES,
        families: Sequence[IPFamily] = tuple(IPFamily),
        clock: Callable[[], float] = time.time,
        since: float = 0.0,
        lasting: Lasting | None = None,
    ) -> None:
        """Begin at zero, or go on from what this process has counted before.

        ``since`` is when kproxy took up its configuration, in Unix time; what was triggered before is not its delay.
        """
        lasting = lasting or Lasting()
        self._watches = lasting.watches
        self._all = Registry(mode, families, lasting)
        self._families = [family.metric_label for family in families]
        self._clock = clock
        self._since = since
        self._shown_losses: dict[IPFamily, set[tuple[str, ...]]] = {}
        self._read_connections: Callable[[], ConnectionCounters] | None = None
        self._endpoint_series = True
        self._collecting = threading.Lock()

    # --- what happens ----------------------------------------------------------------------------------------------

    def changes_seen(self, services: int = 0, endpoints: int = 0) -> None:
        """Count objects that came and changed something."""
        self._all.service_changes.inc(services)
        self._all.endpoint_changes.inc(endpoints)

    def changes_pending(self, services: int, endpoints: int) -> None:
        """Say how many changes wait for a sync."""
        self._all.service_pending.set(services)
        self._all.endpoint_pending.set(endpoints)

    def queued(self, family: IPFamily | None = None) -> None:
        """A sync is wanted now, of one family or of all."""
        for label in [family.metric_label] if family else self._families:
            self._all.last_queued.labels(label).set(self._clock())

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
        self._all.sync.labels(label).observe(seconds)
        (self._all.sync_full if full else self._all.sync_partial).labels(label).observe(seconds)
        self._all.last_sync.labels(label).set(self._clock())
        for table, number in rules.items():
            self._all.rules.labels(label, table).set(number)
        if self._all.rules_last is not None:
            for table, number in (written or {}).items():
                self._all.rules_last.labels(label, table).set(number)

    def sync_failed(self, family: IPFamily, *, full: bool, seconds: float) -> None:
        """A sync failed; its time counts, too."""
        label = family.metric_label
        self._all.sync.labels(label).observe(seconds)
        (self._all.sync_full if full else self._all.sync_partial).labels(label).observe(seconds)
        self._all.failures.labels(label).inc()
        if not full:
            self._all.partial_failures.labels(label).inc()

    def programmed(self, trigger_times: Iterable[str], families: Iterable[IPFamily] = tuple(IPFamily)) -> None:
        """What changed at these times (RFC 3339, of the control plane's clock) is in the kernel now.

        Changes from before the start don't count, as in kube-proxy: their age is not the time it took to program them.
        """
        now = self._clock()
        moments = map(_unix_time, trigger_times)
        delays = [max(0.0, now - moment) for moment in moments if moment is not None and moment > self._since]
        for family in families:
            for delay in delays:
                self._all.programming.labels(family.metric_label).observe(delay)

    def no_local_endpoints(self, family: IPFamily, *, internal: int, external: int) -> None:
        """Say how many service ports with a Local policy have no endpoint here."""
        self._all.no_local_endpoints.labels(family.metric_label, "internal").set(internal)
        self._all.no_local_endpoints.labels(family.metric_label, "external").set(external)

    def conntrack_reconciled(self, family: IPFamily, *, seconds: float, released: int) -> None:
        """Stale conntrack entries were looked for, and released."""
        self._all.conntrack_duration.labels(family.metric_label).observe(seconds)
        self._all.conntrack_deleted.labels(family.metric_label).inc(released)

    def drift_repaired(self, family: IPFamily, chains: int = 0) -> None:
        """Rules that others had changed were put right."""
        self._all.drift.labels(family.metric_label).inc()
        self._all.repaired.labels(family.metric_label).inc(chains)

    def refused(self, family: IPFamily, number: int) -> None:
        """Say how many service ports the kernel won't take."""
        self._all.refused.labels(family.metric_label).set(number)

    def node_problems(self, found: Collection[str]) -> None:
        """Say which reasons there are to call the node ill; see `kproxy.node.problems`."""
        for reason in problems.reasons():
            self._all.node_problem.labels(reason).set(float(reason in found))

    def contested(self, family: IPFamily, losses: Sequence[Loss]) -> None:
        """Say which frontends do nothing, as others have them."""
        self._all.lost.labels(family.metric_label).set(len(losses))
        shown: set[tuple[str, ...]] = {
            (family.metric_label, name.namespace, name.name, name.port, str(loss.claim), str(loss.owner.service))
            for loss in losses[:MAX_SHOWN_LOSSES]
            for name in (loss.loser,)
        }
        for labels in self._shown_losses.get(family, set()) - shown:
            self._all.lost_info.remove(*labels)
        for labels in shown:
            self._all.lost_info.labels(*labels).set(1)
        self._shown_losses[family] = shown

    def skipped(self, kind: str, number: int = 1) -> None:
        """Parts of an object were left out."""
        self._all.skipped.labels(kind).inc(number)

    def objects(self, kind: str, number: int) -> None:
        """Say how many of a kind, such as service ports of both families, are in force."""
        self._all.objects.labels(kind).set(number)

    def config_warnings(self, number: int) -> None:
        """Say how many settings have no effect."""
        self._all.config_warnings.set(number)

    def request_finished(self, *, method: str, verb: str, host: str, code: int | None, seconds: float) -> None:
        """A request to the API server was answered; ``code`` is None where it was not.

        ``method`` is HTTP's, ``verb`` too in client-go (GET for lists and watches). ``host`` has its port.
        """
        self._all.requests.labels(str(code) if code else "<error>", method, host).inc()
        self._all.request_duration.labels(verb, host).observe(seconds)

    def healthz_answered(self, code: int) -> None:
        """/healthz answered."""
        self._all.healthz.labels(str(code)).inc()

    def livez_answered(self, code: int) -> None:
        """/livez answered."""
        self._all.livez.labels(str(code)).inc()

    def health_check_node_ports(self, *, serving: int, failed: int) -> None:
        """Say how many health-check node ports are open, and how many could not be opened."""
        self._all.health_ports.labels("serving").set(serving)
        self._all.health_ports.labels("failed").set(failed)

    # --- what is asked for at each scrape --------------------------------------------------------------------------

    def watch_statuses(self, read: Callable[[], Collection[WatchStatus]]) -> None:
        """Show how the watches do, by asking ``read`` at each scrape."""
        self._watches.follow(read)
        self._all.collectors.register(self._watches)

    def connection_counters(self, read: Callable[[], ConnectionCounters], *, endpoints: bool = True) -> None:
        """Show connections per service (and endpoint), by asking ``read`` once at each scrape.

        ``read`` returns the counters, up to date as far as that was possible; it should not raise.
        """
        self._read_connections = read
        self._endpoint_series = endpoints

    def let_go(self) -> None:
        """Ask nobody any more; what has been counted is there for whoever goes on from here."""
        self._read_connections = None
        self._watches.follow(lambda: ())

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format, which is `CONTENT_TYPE`.

        Not OpenMetrics, which kube-proxy does not speak either: it has no gauges that end in ``_total``.
        """
        with self._collecting:
            text = _WHOLE_BUCKET.sub(rb"\1", prometheus_client.generate_latest(self._all.collectors))
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
