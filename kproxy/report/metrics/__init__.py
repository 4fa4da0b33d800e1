"""Everything kproxy tells Prometheus.

`registry` is the list of metrics, `setters` sets them (of moments, it makes times) and is asked for the text of
/metrics; `watches` and `faults` are read when it is asked. What counts is `lasting`, over changes of the configuration.
`counters` makes totals of what the rules count for each Service, which has an account in it (`accounts`), `store` keeps
them over a restart, `connections` is their text.
"""

from kproxy.report.metrics.counters import ConnectionCounters, EndpointKey, Reading
from kproxy.report.metrics.lasting import Lasting
from kproxy.report.metrics.setters import CONTENT_TYPE, Metrics
from kproxy.report.metrics.store import Store

__all__ = ["CONTENT_TYPE", "ConnectionCounters", "EndpointKey", "Lasting", "Metrics", "Reading", "Store"]
