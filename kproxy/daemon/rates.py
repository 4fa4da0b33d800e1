"""Connections a second, from two readings of the totals."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from kproxy.report.metrics import ConnectionCounters
from kproxy.report.status import ServiceRate
from kproxy.state.model import ServicePortName

_STALE_SECONDS = 60.0
"""A reading older than this says nothing of the present."""
_APART_SECONDS = 1.0
"""How long to wait between two readings where there is no earlier one."""
_MOST = 10


class _Reading(NamedTuple):
    at: float
    connections: Mapping[ServicePortName, int]
    turned_away: Mapping[ServicePortName, int]


class Rates:
    """Reads totals when asked, and compares them with those of the time before."""

    def __init__(self, read: Callable[[], ConnectionCounters]) -> None:
        self._read = read
        self._before: _Reading | None = None
        self._lock = threading.Lock()

    def read(self) -> tuple[tuple[ServiceRate, ...], tuple[ServiceRate, ...]]:
        """Return the busiest service ports, and those whose clients are refused or dropped."""
        with self._lock:
            before = self._before
            if before is None or time.monotonic() - before.at > _STALE_SECONDS:
                before = self._take()
            if (early := before.at + _APART_SECONDS - time.monotonic()) > 0:
                time.sleep(early)
            now = self._before = self._take()
        return (
            tuple(_busiest(before.at, now.at, before.connections, now.connections)),
            tuple(_busiest(before.at, now.at, before.turned_away, now.turned_away)),
        )

    def _take(self) -> _Reading:
        counters = self._read()
        turned_away = dict(counters.rejected)
        for name, total in counters.dropped.items():
            turned_away[name] = turned_away.get(name, 0) + total
        return _Reading(time.monotonic(), counters.services, turned_away)


def _busiest(
    since: float, until: float, before: Mapping[ServicePortName, int], now: Mapping[ServicePortName, int]
) -> list[ServiceRate]:
    seconds = max(until - since, 1e-3)
    rates = [
        ServiceRate(
            service=str(name),
            protocol=str(name.protocol),
            per_second=round(max(0, total - before.get(name, total)) / seconds, 2),
            total=total,
        )
        for name, total in now.items()
        if total
    ]
    return sorted(rates, key=lambda rate: (-rate.per_second, -rate.total, rate.service))[:_MOST]
