"""Everything kproxy tells Prometheus.

`catalogue` is the list of metrics, `registry` sets them and is asked for the text of /metrics; `watches` and `faults`
are read when it is asked. `counters` makes totals of what the rules count for each Service, `connections` their text.
"""

from kproxy.report.metrics.counters import ConnectionCounters, EndpointKey, Reading, Store
from kproxy.report.metrics.registry import CONTENT_TYPE, Metrics

__all__ = ["CONTENT_TYPE", "ConnectionCounters", "EndpointKey", "Metrics", "Reading", "Store"]
