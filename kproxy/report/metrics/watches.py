"""How the watches do, made into metrics when somebody asks, from what the watches know of themselves anyway."""

from collections.abc import Callable, Collection, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from kproxy.api.status import WatchStatus
from kproxy.api.watch.relists import Reason


class WatchCollector(Collector):
    """How each watch of the API server, or of a folder, is doing."""

    def __init__(self, read: Callable[[], Collection[WatchStatus]]) -> None:
        self._read = read

    def describe(self) -> list[Metric]:
        """Say nothing in advance: the library would ask for all values otherwise."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        age = GaugeMetricFamily(
            "kproxy_watch_age_seconds",
            "Since the watch last gave a sign of life; the API server gives one a minute at least",
            labels=("kind",),
        )
        failing = GaugeMetricFamily(
            "kproxy_watch_failing", "1 while the watch can't be restored, and nothing new comes in", labels=("kind",)
        )
        counters = {
            "lists": CounterMetricFamily("kproxy_watch_lists", "Complete sets of objects received", labels=("kind",)),
            "watches": CounterMetricFamily(
                "kproxy_watch_starts", "Watches opened; one every five to ten minutes is normal", labels=("kind",)
            ),
            "failures": CounterMetricFamily("kproxy_watch_failures", "Lists and watches that failed", labels=("kind",)),
            "events": CounterMetricFamily("kproxy_watch_events", "Changes received", labels=("kind",)),
            "bytes_received": CounterMetricFamily(
                "kproxy_watch_received_bytes", "Bytes received, lists and watches together", labels=("kind",)
            ),
        }
        relists = CounterMetricFamily(
            "kproxy_watch_relists",
            "Complete sets received again, by reason: expired (the server had forgotten where the watch was), history "
            "(time ran backwards there: a backup was restored), silence (a watch that was opened again brought "
            "nothing), refused (it failed again and again), outage (some time after one, to be sure), requested "
            "(SIGHUP)",
            labels=("kind", "reason"),
        )
        for status in self._read():
            kind = (status.kind.value,)
            age.add_metric(kind, status.age())
            failing.add_metric(kind, float(status.failing_since is not None))
            for attribute, counter in counters.items():
                counter.add_metric(kind, getattr(status, attribute))
            for reason in Reason:
                relists.add_metric((*kind, reason), status.relists.get(reason, 0))
        yield from (age, failing, relists, *counters.values())
