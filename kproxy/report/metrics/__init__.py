"""Everything kproxy tells Prometheus.

`Metrics` is told what happens and asked for the text of /metrics; `ConnectionCounters` makes totals of what the rules
count.
"""

from kproxy.report.metrics.counters import ConnectionCounters, Reading, Store
from kproxy.report.metrics.registry import CONTENT_TYPE, Metrics

__all__ = ["CONTENT_TYPE", "ConnectionCounters", "Metrics", "Reading", "Store"]
