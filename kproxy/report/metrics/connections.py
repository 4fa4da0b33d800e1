"""Connections per service and endpoint in Prometheus' text format.

There can be tens of thousands of these series. The metrics library would take a second for what takes a few hundredths
here, so this text is put together by hand.
"""

from collections.abc import Iterable, Iterator, Mapping

from kproxy.report.metrics.counters import ConnectionCounters
from kproxy.state.model import Protocol, ServicePortName

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
_PROTOCOLS = {protocol: protocol.value.upper() for protocol in Protocol}
_QUOTES = 8
"""In the labels of a service port, if there are none in its names."""
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def connection_text(counters: ConnectionCounters, *, endpoints: bool) -> str:
    """Return all series that the counters make, with their HELP and TYPE lines."""
    parts: list[str] = []
    labels: dict[ServicePortName, str] = {}
    for name, help_text, attribute in _SERVICE_FAMILIES:
        totals: Mapping[ServicePortName, int] = getattr(counters, attribute)
        for key in totals.keys() - labels.keys():
            labels[key] = _service_labels(key)
        parts.append(_head(name, "counter", help_text))
        parts += [f"{name}{{{labels[key]}}} {total}\n" for key, total in totals.items()]
    if endpoints:
        name = "kproxy_endpoint_connections_total"
        parts.append(_head(name, "counter", "New connections handed to an endpoint of a service port"))
        parts += [
            f'{name}{{{labels.get(key) or _service_labels(key)},endpoint="{_escape(endpoint)}"}} {total}\n'
            for (key, endpoint), total in counters.endpoints.items()
        ]
        parts += _family(
            "kproxy_endpoint_counters_waiting",
            "gauge",
            "Service ports whose endpoints may have been given connections that the series above are yet to tell of",
            [("", counters.waiting)],
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
    yield _head(name, kind, help_text)
    for labels, value in samples:
        yield f"{name}{labels} {value}\n"


def _head(name: str, kind: str, help_text: str) -> str:
    return f"# HELP {name} {help_text}\n# TYPE {name} {kind}\n"


def _service_labels(name: ServicePortName) -> str:
    protocol = _PROTOCOLS[name.protocol]
    text = f'namespace="{name.namespace}",service="{name.name}",port="{name.port}",protocol="{protocol}"'
    if text.count('"') == _QUOTES and "\\" not in text and "\n" not in text:
        return text
    return (
        f'namespace="{_escape(name.namespace)}",service="{_escape(name.name)}",'
        f'port="{_escape(name.port)}",protocol="{protocol}"'
    )


def _escape(text: str) -> str:
    """Escape a label's value. Names are DNS labels, which need none: this is for the day when one is not."""
    return (
        text
        if text.isascii() and '"' not in text and "\\" not in text and "\n" not in text
        else text.translate(_ESCAPES)
    )
