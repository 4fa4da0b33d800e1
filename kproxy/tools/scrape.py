"""The status of another node's kproxy, made of what its health and metrics ports tell anybody.

At the metrics port the page for people has all of it but the rates, which come of the metrics. Where that port answers
nobody from elsewhere, as by default, the health port has the verdict and the watches; where it is something else (an
older kproxy, kube-proxy), metrics and health have much of it. What is lacking then is said, with the reason.
"""

import http.client
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from kproxy.faults.undecodable import UNDECODABLE
from kproxy.report.status import FamilyState, ServiceRate, Status, WatchState
from kproxy.tools.ask import NoAnswerError

_TIMEOUT_SECONDS = 10.0
_APART_SECONDS = 1.0
_UNTOLD = ("service ports, endpoints, how long syncs took: only a kproxy of this version tells, this is another",)
_MOST = 10
_LAST_SYNC = "kubeproxy_sync_proxy_rules_last_timestamp_seconds"
_QUEUED = "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds"
_RULES = ("kubeproxy_sync_proxy_rules_iptables_total", "kproxy_nftables_objects")
_CONNECTIONS = "kproxy_service_connections_total"
_TURNED_AWAY = ("kproxy_service_rejected_packets_total", "kproxy_service_dropped_packets_total")


class Node(NamedTuple):
    """Where another node's kproxy can be asked."""

    address: str
    health_port: int
    metrics_port: int


class _Sample(NamedTuple):
    name: str
    labels: Mapping[str, str]
    value: float


class Scraper:
    """Asks one node. The rates of a first status come of two looks, one second apart; later ones of the last two."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._before: tuple[float, list[_Sample]] | None = None

    def status(self) -> Status:
        """Ask. Raises NoAnswerError where neither port answers."""
        try:
            since, before, until, samples = self._look()
        except NoAnswerError as error:
            return self._by_health(None, (f"version, mode, rules, rates: {error}",))
        told = self._told() or self._by_health(samples, _UNTOLD)
        return msgspec.structs.replace(
            told,
            busiest=_rates(since, until, before, samples, (_CONNECTIONS,)),
            turned_away=_rates(since, until, before, samples, _TURNED_AWAY),
        )

    def _look(self) -> tuple[float, list[_Sample], float, list[_Sample]]:
        if self._before is None:
            self._before = time.monotonic(), self._metrics()
            time.sleep(_APART_SECONDS)
        since, before = self._before
        until, samples = self._before = time.monotonic(), self._metrics()
        return since, before, until, samples

    def _told(self) -> Status | None:
        """Return what kproxy tells of itself at the port of its metrics; None where that is something else."""
        code, text = self._get(self._node.metrics_port, "/page.json?status")
        try:
            return msgspec.json.decode(text, type=Status) if code == http.client.OK else None
        except UNDECODABLE:
            return None

    def _by_health(self, samples: list[_Sample] | None, untold: tuple[str, ...]) -> Status:
        """Make a status of the health port, and of metrics where they are to be had. Raises NoAnswerError."""
        try:
            (healthy, health), (ready, readiness) = self._health("/healthz"), self._health("/readyz")
        except NoAnswerError as error:
            if samples is None:
                raise NoAnswerError(f"{untold[0].partition(': ')[2]}; {error}") from None
            healthy, ready, health, readiness = None, None, {}, {}
            untold = (*untold, f"health and watches: {error}")
        started = _first(samples or [], "process_start_time_seconds")
        info = next((sample.labels for sample in samples or [] if sample.name == "kproxy_build_info"), {})
        return Status(
            node=self._node.address,
            version=info.get("version"),
            mode=self._get(self._node.metrics_port, "/proxyMode")[1].strip() if samples is not None else None,
            since=_timestamp(started) if started else None,
            uptime_seconds=round(max(0.0, time.time() - started), 1) if started else None,
            healthy=healthy,
            ready=ready,
            reasons=(*_texts(health.get("reasons")), *_texts(readiness.get("reasons"))),
            watches=tuple(_watches(health.get("watches"))),
            families=tuple(_families(samples) if samples is not None else _families_by_health(health.get("status"))),
            problems=tuple(_problems(samples or [])),
            untold=untold,
        )

    def _metrics(self) -> list[_Sample]:
        code, text = self._get(self._node.metrics_port, "/metrics")
        if code != http.client.OK:
            raise NoAnswerError(f"{self._node.address}: /metrics at port {self._node.metrics_port} says {code}")
        try:
            return [
                _Sample(sample.name, sample.labels, sample.value)
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            ]
        except ValueError:
            where = f"{self._node.address} port {self._node.metrics_port}"
            raise NoAnswerError(f"{where}: what /metrics says there are no metrics") from None

    def _health(self, path: str) -> tuple[bool, dict[str, Any]]:
        code, text = self._get(self._node.health_port, path)
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            body = {}
        return code == http.client.OK, body if isinstance(body, dict) else {}

    def _get(self, port: int, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self._node.address, port, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            hint = "; metrics are served to the node itself unless metricsBindAddress says otherwise"
            told = f"{self._node.address} port {port}: {reason}"
            raise NoAnswerError(told + (hint if port == self._node.metrics_port else "")) from None
        finally:
            connection.close()


def _first(samples: list[_Sample], name: str) -> float:
    return next((sample.value for sample in samples if sample.name == name), 0.0)


def _by_family(samples: list[_Sample], name: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for sample in samples:
        if sample.name == name and "ip_family" in sample.labels:
            family = sample.labels["ip_family"]
            found[family] = found.get(family, 0.0) + sample.value
    return found


def _families(samples: list[_Sample]) -> Iterator[FamilyState]:
    last, queued = _by_family(samples, _LAST_SYNC), _by_family(samples, _QUEUED)
    rules = {family: total for name in _RULES for family, total in _by_family(samples, name).items()}
    for family, at in sorted(last.items()):
        yield FamilyState(
            family=family,
            rules=int(rules[family]) if family in rules else None,
            last_sync=_timestamp(at) if at else None,
            pending=queued.get(family, 0.0) > at,
        )


def _families_by_health(status: object) -> Iterator[FamilyState]:
    for family, state in status.items() if isinstance(status, dict) else ():
        at = state.get("lastUpdated") if isinstance(state, dict) else None
        yield FamilyState(family=family, last_sync=at if isinstance(at, str) else None)


def _watches(watches: object) -> Iterator[WatchState]:
    for kind, state in watches.items() if isinstance(watches, dict) else ():
        if isinstance(state, dict):
            age, error = state.get("ageSeconds"), state.get("error")
            yield WatchState(
                kind=kind,
                synced=bool(state.get("synced")),
                age_seconds=float(age) if isinstance(age, int | float) else 0.0,
                error=str(error) if error else None,
            )


def _texts(said: object) -> Iterator[str]:
    yield from map(str, said if isinstance(said, list) else ())


def _problems(samples: list[_Sample]) -> Iterator[str]:
    for sample in samples:
        if sample.name == "kproxy_node_problem" and sample.value:
            yield sample.labels.get("reason", "something is wrong with the node")


def _rates(
    since: float, until: float, before: list[_Sample], now: list[_Sample], names: tuple[str, ...]
) -> tuple[ServiceRate, ...]:
    earlier, later = _totals(before, names), _totals(now, names)
    seconds = max(until - since, 1e-3)
    rates = [
        ServiceRate(
            service=service,
            protocol=protocol,
            per_second=round(max(0.0, total - earlier.get((service, protocol), total)) / seconds, 2),
            total=int(total),
        )
        for (service, protocol), total in later.items()
        if total
    ]
    return tuple(sorted(rates, key=lambda rate: (-rate.per_second, -rate.total, rate.service))[:_MOST])


def _totals(samples: list[_Sample], names: tuple[str, ...]) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for sample in samples:
        if sample.name in names:
            labels = sample.labels
            port = f":{labels['port']}" if labels.get("port") else ""
            key = f"{labels.get('namespace', '')}/{labels.get('service', '')}{port}", labels.get("protocol", "")
            found[key] = found.get(key, 0.0) + sample.value
    return found


def _timestamp(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
