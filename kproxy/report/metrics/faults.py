"""What went wrong that nobody foresaw, made into a metric when somebody asks."""

from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from kproxy.faults import containment

_ALWAYS = ("loop", "sync", "report")
"""Parts that show from the start, so that their first failure is a rise."""


class FaultCollector(Collector):
    """How often each part of kproxy has failed; see `kproxy.faults.containment`."""

    def describe(self) -> list[Metric]:
        """Say nothing in advance."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metric."""
        failed = CounterMetricFamily(
            "kproxy_part_failures", "Failures of a part of kproxy that all others have survived", labels=("part",)
        )
        for part, number in sorted({**dict.fromkeys(_ALWAYS, 0), **containment.counts()}.items()):
            failed.add_metric((part,), number)
        yield failed
