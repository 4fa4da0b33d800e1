"""The pages that kproxy serves, at the paths and in the formats of kube-proxy and of Kubernetes' components at large.

The health server has /healthz, /livez and /readyz; the metrics server /metrics and what helps a person who wonders what
is running here: /proxyMode, /configz, /statusz and /flagz (KEP-4827, KEP-4828).
"""

import datetime
import json
import platform
import re
from collections.abc import Callable, Mapping

from kproxy import __version__
from kproxy.config import Config, ProxyMode, as_document
from kproxy.config.flags import flag_values
from kproxy.logs import mask
from kproxy.report.health import HealthState, Verdict
from kproxy.report.http import Routes
from kproxy.report.metrics import CONTENT_TYPE, Metrics
from kproxy.report.protocol import Page, Request, Response

COMPONENT = "kproxy"
EMULATED_VERSION = "1.36"
"""The version of kube-proxy that kproxy stands in for."""
_JSON = "application/json"
_WARNING = "Warning: This endpoint is not meant to be machine parseable; it is for people, and may change at any time."


def health_routes(health: HealthState, metrics: Metrics) -> Routes:
    """Return the pages of the health server."""
    return {
        "/healthz": lambda _: _verdict(health.healthz(), metrics.healthz_answered),
        "/livez": lambda _: _verdict(health.livez(), metrics.livez_answered),
        "/readyz": lambda _: _verdict(health.readyz(), lambda _: None),
    }


def _verdict(verdict: Verdict, count: Callable[[int], None]) -> Response:
    count(verdict.status)
    return Response(verdict.status, json.dumps(verdict.body), _JSON)


def metrics_routes(
    metrics: Metrics, config: Config, mode: ProxyMode, started: float, page: Routes | None = None
) -> Routes:
    """Return the pages of the metrics server; ``page`` are those that make the one for people.

    ``mode`` is the one in use, ``started`` Unix time.
    """
    pages: dict[str, Page] = {
        "/metrics": lambda _: Response(200, metrics.exposition(), CONTENT_TYPE),
        "/healthz": lambda _: Response(200, "ok"),
        "/proxyMode": lambda _: Response(200, mode.value),
        "/configz": lambda _: Response(200, mask(json.dumps(_configz(config))), _JSON),
        "/flagz": lambda request: _flagz(request, flag_values(config)),
        **(page or {}),
    }
    paths = sorted([*pages, "/statusz"])
    pages["/statusz"] = lambda request: _statusz(request, started, paths)
    return pages


def _configz(config: Config) -> dict[str, object]:
    return {"kubeproxy.config.k8s.io": as_document(config.proxy), "kproxy.dev": as_document(config.kproxy)}


def _statusz(request: Request, started: float, paths: list[str]) -> Response:
    start = datetime.datetime.fromtimestamp(started, datetime.UTC).replace(microsecond=0)
    up = int((datetime.datetime.now(datetime.UTC) - start).total_seconds())
    lines = {
        "Started": f"{start:%a %b %e %H:%M:%S} UTC {start:%Y}",
        "Up": f"{up // 3600} hr {up // 60 % 60:02d} min {up % 60:02d} sec",
        "Python version": platform.python_version(),
        "Binary version": __version__,
        "Emulation version": EMULATED_VERSION,
        "Paths": " ".join(paths),
    }
    fields = {
        "startTime": start.isoformat().replace("+00:00", "Z"),
        "uptimeSeconds": up,
        "binaryVersion": __version__,
        "emulationVersion": EMULATED_VERSION,
        "paths": paths,
    }
    return _zpage(request, "Statusz", f"{COMPONENT} statusz", lines, fields)


def _flagz(request: Request, flags: Mapping[str, str]) -> Response:
    shown = {name: mask(value) for name, value in sorted(flags.items())}
    return _zpage(request, "Flagz", f"{COMPONENT} flagz", shown, {"flags": shown}, separator="=")


def _zpage(
    request: Request,
    kind: str,
    title: str,
    lines: Mapping[str, str],
    fields: Mapping[str, object],
    separator: str = ": ",
) -> Response:
    """Answer as text, or as a structured object where the Accept header asks for one in full."""
    accept = request.accept.replace(" ", "")
    version = re.search(r";v=(v1alpha1|v1beta1)\b", accept)
    if f"as={kind}" in accept and "g=config.k8s.io" in accept and version:
        head = {"kind": kind, "apiVersion": f"config.k8s.io/{version[1]}", "metadata": {"name": COMPONENT}}
        return Response(200, json.dumps({**head, **fields}), _JSON)
    if accept and not re.search(r"text/plain|text/\*|\*/\*", accept):
        wanted = f"application/json;v=v1beta1;g=config.k8s.io;as={kind}"
        return Response(406, f"there is text/plain, and {wanted}\n")
    text = "".join(f"{name}{separator}{value}\n" for name, value in lines.items())
    return Response(200, f"\n{title}\n{_WARNING}\n\n{text}")
