"""How the watches do, made into metrics when somebody asks, from what the watches know of themselves anyway."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from kproxy.api.status import WatchStatus
from kproxy.api.watch.relists import Reason

_COUNTED = {
    "lists": ("lists", "Complete sets of objects received"),
    "watches": ("starts", "Watches opened; one every five to ten minutes is normal"),
    "failures": ("failures", "Lists and watches that failed"),
    "events": ("events", "Changes received"),
    "bytes_received": ("received_bytes", "Bytes received, lists and watches together"),
}
"""What a status counts, as which metric."""


class WatchCollector(Collector):
    """How each watch of the API server, or of a folder, is doing. It may follow one set of watches after another."""

    def __init__(self) -> None:
        self._read: Callable[[], Collection[WatchStatus]] = lambda: ()
        self._past: dict[str, Counter[str]] = {}
        """What watches have counted that are no more, by kind."""

    def follow(self, read: Callable[[], Collection[WatchStatus]]) -> None:
        """Tell of other watches from now on; what those before have counted stays counted."""
        self._past = self._totals()
        self._read = read

    def _totals(self) -> dict[str, Counter[str]]:
        totals = {kind: counted.copy() for kind, counted in self._past.items()}
        for status in self._read():
            counted = totals.setdefault(status.kind.value, Counter())
            counted.update({attribute: getattr(status, attribute) for attribute in _COUNTED})
            counted.update({reason.value: status.relists.get(reason, 0) for reason in Reason})
        return totals

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
        counters = {
            attribute: CounterMetricFamily(f"kproxy_watch_{name}", text, labels=("kind",))
            for attribute, (name, text) in _COUNTED.items()
        }
        for name, counted in self._totals().items():
            for attribute, counter in counters.items():
                counter.add_metric((name,), counted[attribute])
            for reason in Reason:
                relists.add_metric((name, reason), counted[reason.value])
        yield from (age, failing, relists, *counters.values())
