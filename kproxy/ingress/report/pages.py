"""The pages of the ingress program: the health server's, and the metrics server's."""

import json
from collections.abc import Callable

from kproxy.ingress.report.exporter import Exporter
from kproxy.ingress.report.health import IngressHealth
from kproxy.ingress.report.metrics import CONTENT_TYPE, IngressMetrics
from kproxy.report.health import Verdict
from kproxy.report.http import Routes
from kproxy.report.protocol import Page, Response

_JSON = "application/json"


def health_routes(health: IngressHealth, metrics: IngressMetrics) -> Routes:
    """Return the pages of the health server."""

    def page(name: str, judge: Callable[[], Verdict]) -> Page:
        def answer(_: object) -> Response:
            verdict = judge()
            metrics.health_answered(name, verdict.status)
            return Response(verdict.status, json.dumps(verdict.body), _JSON)

        return answer

    pages = {"healthz": health.healthz, "livez": health.livez, "readyz": health.readyz}
    return {f"/{name}": page(name, judge) for name, judge in pages.items()}


def metrics_routes(metrics: IngressMetrics, exporter: Exporter, page: Routes) -> Routes:
    """Return the pages of the metrics server; ``page`` are those that make the page for people."""
    return {
        **page,
        "/metrics": lambda _: Response(200, metrics.exposition(), CONTENT_TYPE),
        "/metrics/haproxy": exporter.answer,
        "/healthz": lambda _: Response(200, "ok"),
    }
