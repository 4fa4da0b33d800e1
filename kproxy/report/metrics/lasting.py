"""What has been counted, and outlives the configuration that it was counted for.

A daemon that takes up another configuration makes its metrics anew, for others may be to be shown; but to Prometheus it
is the same process, whose totals never fall.
"""

from collections.abc import Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram

from kproxy.report.metrics.watches import WatchCollector

M = TypeVar("M", Counter, Histogram)


class Lasting:
    """The counters and histograms of a process; those as well that it does not show just now: they may come back."""

    def __init__(self) -> None:
        self.watches = WatchCollector()
        self._made: dict[str, Counter | Histogram] = {}

    def counter(self, registry: CollectorRegistry, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """Return the counter of that name, at zero if it is new, and show it in a registry."""
        return self._shown(registry, name, Counter(name, text, labels, registry=None))

    def histogram(
        self, registry: CollectorRegistry, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()
    ) -> Histogram:
        """Return the histogram of that name, and show it in a registry."""
        return self._shown(registry, name, Histogram(name, text, labels, registry=None, buckets=buckets))

    def _shown(self, registry: CollectorRegistry, name: str, new: M) -> M:
        metric = self._made.setdefault(name, new)
        assert isinstance(metric, type(new))  # noqa: S101 - for the type checker
        registry.register(metric)
        return metric
