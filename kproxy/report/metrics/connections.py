"""Connections per service and endpoint in Prometheus' text format.

There can be tens of thousands of these series. The metrics library would take a second for what takes a few hundredths
here, so this text is put together by hand.
"""

from collections.abc import Iterable, Iterator, Mapping

from kproxy.report.metrics.counters import ConnectionCounters, EndpointKey
from kproxy.state.model import ServicePortName

_SERVICE_FAMILIES = (
    ("kproxy_service_connections_total", "New connections to a service port", "services"),
    (
        "kproxy_service_rejected_packets_total",
        "Packets (connection attempts, mostly) refused as the service port has no endpoint",
        "rejected",
    ),
    (
        "kproxy_service_dropped_packets_total",
        "Packets dropped as no endpoint is on this node (Local policy) or the source is not allowed",
        "dropped",
    ),
)
_PACKET_FAMILIES = (
    (
        "kubeproxy_iptables_ct_state_invalid_dropped_packets_total",
        "Packets dropped because conntrack could not place them, lest the node reset a good connection",
        "invalid_dropped",
    ),
    (
        "kubeproxy_iptables_localhost_nodeports_accepted_packets_total",
        "Connections to node ports of 127.0.0.1, which there are in mode iptables alone",
        "localhost_accepted",
    ),
)
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def connection_text(counters: ConnectionCounters, *, endpoints: bool) -> str:
    """Return all series that the counters make, with their HELP and TYPE lines."""
    parts: list[str] = []
    for name, help_text, attribute in _SERVICE_FAMILIES:
        totals: Mapping[ServicePortName, int] = getattr(counters, attribute)
        parts += _family(name, "counter", help_text, ((_service(key), total) for key, total in totals.items()))
    if endpoints:
        parts += _family(
            "kproxy_endpoint_connections_total",
            "counter",
            "New connections handed to an endpoint of a service port",
            ((_endpoint(key), total) for key, total in counters.endpoints.items()),
        )
    parts += _family(
        "kproxy_connection_series_omitted",
        "gauge",
        "Services and endpoints left out of the series above, as there are more than the configured maximum",
        ((f'{{of="{what}"}}', number) for what, number in counters.omitted.items()),
    )
    if counters.age is not None:
        parts += _family(
            "kproxy_connection_counters_age_seconds",
            "gauge",
            "Since the rules' counters were read for the series above; where that is dear, not at each scrape",
            [("", round(counters.age, 3))],
        )
    for name, help_text, counter in _PACKET_FAMILIES:
        packets = counters.packets(counter)
        if packets is not None:
            parts += _family(name, "counter", help_text, [("", packets)])
    return "".join(parts)


def _family(name: str, kind: str, help_text: str, samples: Iterable[tuple[str, float]]) -> Iterator[str]:
    yield f"# HELP {name} {help_text}\n# TYPE {name} {kind}\n"
    for labels, value in samples:
        yield f"{name}{labels} {value}\n"


def _service(name: ServicePortName) -> str:
    return f"{{{_service_labels(name)}}}"


def _endpoint(key: EndpointKey) -> str:
    service, endpoint = key
    return f'{{{_service_labels(service)},endpoint="{_escape(endpoint)}"}}'


def _service_labels(name: ServicePortName) -> str:
    return (
        f'namespace="{_escape(name.namespace)}",service="{_escape(name.name)}",'
        f'port="{_escape(name.port)}",protocol="{name.protocol.value.upper()}"'
    )


def _escape(text: str) -> str:
    """Escape a label's value. Names are DNS labels, which need none: this is for the day when one is not."""
    return (
        text
        if text.isascii() and '"' not in text and "\\" not in text and "\n" not in text
        else text.translate(_ESCAPES)
    )
