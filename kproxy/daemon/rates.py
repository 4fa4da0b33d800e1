"""Connections a second, from two readings of the totals."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from kproxy.report.metrics import ConnectionCounters
from kproxy.report.status import ServiceRate
from kproxy.state.model import ServicePortName

_STALE_SECONDS = 120.0
"""A reading so much older than the next says nothing of the present."""
_APART_SECONDS = 1.0
"""How long to wait between two readings where there is no earlier one; half of it makes a reading another one."""
_MOST = 10


class _Reading(NamedTuple):
    at: float
    connections: Mapping[ServicePortName, int]
    turned_away: Mapping[ServicePortName, int]


class Rates:
    """Reads totals when asked, and compares those of the last two readings."""

    def __init__(
        self,
        read: Callable[[], ConnectionCounters],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``read`` returns totals, and where reading them is dear those of lately: they tell their age."""
        self._read = read
        self._clock = clock
        self._sleep = sleep
        self._before: _Reading | None = None
        self._now: _Reading | None = None
        self._lock = threading.Lock()

    def read(self) -> tuple[tuple[ServiceRate, ...], tuple[ServiceRate, ...]]:
        """Return the busiest service ports, and those whose clients are refused or dropped."""
        with self._lock:
            now = self._take()
            if self._before is None:
                self._sleep(_APART_SECONDS)
                now = self._take()
            before = self._before or now
        return (
            tuple(_busiest(before.at, now.at, before.connections, now.connections)),
            tuple(_busiest(before.at, now.at, before.turned_away, now.turned_away)),
        )

    def _take(self) -> _Reading:
        """Read; a reading hardly later than the last one, or that very one, is none."""
        counters = self._read()
        at = self._clock() - (counters.age or 0.0)
        if self._now is not None and at - self._now.at < _APART_SECONDS / 2:
            return self._now
        turned_away = dict(counters.rejected)
        for name, total in counters.dropped.items():
            turned_away[name] = turned_away.get(name, 0) + total
        last, self._now = self._now, _Reading(at, dict(counters.services), turned_away)
        self._before = last if last is not None and at - last.at < _STALE_SECONDS else None
        return self._now


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
