"""A real Prometheus (Debian's package) in a network namespace of the lab, and the questions tests put to it."""

import http.client
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from hack.lab import Host, LabError, Process, until
from tests.kit.netns import need

PORT = 9090
INTERVAL_SECONDS = 1

_CONFIG = """\
global:
  scrape_interval: {interval}s
  evaluation_interval: {interval}s
rule_files: [{rules}]
scrape_configs:
  - job_name: kube-proxy
    static_configs:
      - targets: {targets}
        labels: {{cluster: lab}}
"""
"""The job has the name that the operator gives it (see deploy/components), and a cluster, as the mixin wants it."""


class Sample(NamedTuple):
    """One series of an answer."""

    labels: Mapping[str, str]
    value: float


class Prometheus:
    """Scrapes ``targets`` once a second, on a host of the lab."""

    def __init__(self, host: Host, folder: Path, targets: Sequence[str], rules: Path) -> None:
        need("prometheus", "promtool")
        config = folder / "prometheus.yml"
        config.write_text(
            _CONFIG.format(interval=INTERVAL_SECONDS, rules=json.dumps(str(rules)), targets=json.dumps(list(targets)))
        )
        self._host = host
        self.process: Process = host.start(
            [
                "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={host.ip}:{PORT}", "--log.level=warn",
            ]
        )  # fmt: skip
        until(self._is_ready, 30, "Prometheus to be ready")

    def query(self, expression: str) -> list[Sample]:
        """The result of an instant query. Raises LabError where Prometheus finds it wrong."""
        answer = self._get(f"/api/v1/query?{urlencode({'query': expression})}")
        if answer["status"] != "success":
            raise LabError(f"{expression}: {answer['error']}")
        result = answer["data"]["result"]
        if answer["data"]["resultType"] == "scalar":
            return [Sample({}, float(result[1]))]
        return [Sample(one["metric"], float(one["value"][1])) for one in result]

    def wait_for(self, expression: str, timeout: float = 30) -> list[Sample]:
        """Wait until a query has a result that is a number, and return it."""

        def numbers() -> list[Sample]:
            return [sample for sample in self.query(expression) if not math.isnan(sample.value)]

        return until(numbers, timeout, f"a result of {expression}")

    def alerts(self) -> dict[str, str]:
        """The state of each alert that is pending or firing."""
        return {one["labels"]["alertname"]: one["state"] for one in self._get("/api/v1/alerts")["data"]["alerts"]}

    def targets(self) -> list[Any]:
        """What it scrapes, and how that goes."""
        found: list[Any] = self._get("/api/v1/targets")["data"]["activeTargets"]
        return found

    def _is_ready(self) -> bool:
        if self.process.exit_code is not None:
            raise LabError(f"prometheus ended: {self.process.log()}")
        try:
            return self._request("/-/ready")[0] == http.client.OK
        except OSError:
            return False

    def _get(self, path: str) -> Any:
        return json.loads(self._request(path)[1])

    def _request(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._host.ip, PORT, timeout=30)
        try:
            with self._host.namespace.entered():
                connection.connect()
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def dashboard_queries(dashboard: Any) -> Iterator[tuple[str, str]]:
    """Every query of a Grafana dashboard with its panel's title; variables stand for everything, as All does."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], with_variables(target["expr"])


def with_variables(expression: str) -> str:
    """Put values in place of Grafana's variables."""
    expression = expression.replace("$__rate_interval", f"{8 * INTERVAL_SECONDS}s")
    return re.sub(r"\$(\{)?\w+(?(1)\})", ".*", expression)
