"""Requests by route, out of what HAProxy counts by itself, over its reloads and restarts.

HAProxy counts from zero in each new process, and by slot. Here the differences between two readings are added up, by
the route and the backend that the slot served at the time: a slot never serves another one in the same process. What
was counted between the last reading and a reload is lost; there is a reading every few seconds.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kproxy.ingress.haproxy.text.counts import BUCKETS, SAMPLE, SAMPLED
from kproxy.ingress.haproxy.text.model import EXPORTER, NO_BACKEND, NO_ROUTE, Slot

CODES = ("1xx", "2xx", "3xx", "4xx", "5xx")
ERRORS = ("connect", "response", "retry", "redispatch")
_ERROR_FIELDS = ("econ", "eresp", "wretr", "wredis")
_BUCKET = re.compile(r"\bgpc(\d+)=(\d+)")
_KEY = re.compile(r"\bkey=(\S+)")
GONE_SECONDS = 900.0
"""How long the figures of a route are shown that is no longer there."""


class Way(NamedTuple):
    """A route and the backend that its requests went to."""

    route: str
    """As the plan writes its rule; ``none`` where no rule matched, ``invalid`` where one leads to no valid backend."""
    backend: str


class Reading(NamedTuple):
    """What one process has counted of one slot since its start."""

    codes: tuple[int, ...]
    errors: tuple[int, ...]
    buckets: tuple[int, ...]

    def since(self, before: "Reading | None") -> "Reading":
        """Return what came after another reading."""
        if before is None:
            return self
        parts = zip(self, before, strict=True)
        return Reading(*(tuple(max(0, a - b) for a, b in zip(*pair, strict=True)) for pair in parts))

    def __bool__(self) -> bool:
        return any(any(part) for part in self)


def nothing() -> Reading:
    """Return a reading of zeros."""
    return Reading((0,) * len(CODES), (0,) * len(ERRORS), (0,) * (len(BUCKETS) + 1))


@dataclass(slots=True)
class Total:
    """What has been counted of one way, ever since."""

    seen: float
    """When its slot was last there."""
    reading: Reading = field(default_factory=nothing)

    def add(self, fresh: Reading) -> None:
        """Add what is new."""
        parts = zip(self.reading, fresh, strict=True)
        self.reading = Reading(*(tuple(a + b for a, b in zip(*pair, strict=True)) for pair in parts))


class Traffic:
    """Adds readings up. It has one owner."""

    def __init__(self) -> None:
        self.totals: dict[Way, Total] = {}
        self._worker: tuple[str, str] | None = None
        self._last: dict[str, Reading] = {}
        self._ways: dict[str, Way] = {}

    def take(
        self, worker: tuple[str, str], readings: Mapping[str, Reading], slots: Mapping[str, Slot], now: float
    ) -> None:
        """Take the readings of a process, by slot, given what its slots serve."""
        if worker != self._worker:
            self._worker, self._last, self._ways = worker, {}, {}
        self._ways |= {name: Way(slot.rule, slot.backend) for name, slot in slots.items() if slot.rule}
        self._ways |= {NO_ROUTE: Way("none", ""), NO_BACKEND: Way("invalid", "")}
        for name, reading in readings.items():
            way = self._ways.get(name)
            if way is None:
                continue
            fresh = reading.since(self._last.get(name))
            self._last[name] = reading
            if way in self.totals or fresh:
                self.totals.setdefault(way, Total(now)).add(fresh)
        present = {Way(slot.rule, slot.backend) for slot in slots.values()}
        for way, total in list(self.totals.items()):
            if way in present or not way.backend:
                total.seen = now
            elif now - total.seen > GONE_SECONDS:
                del self.totals[way]


class Clients(NamedTuple):
    """What a process has counted of a frontend."""

    name: str
    connections: int
    """Open now."""


def parse_stats(text: str) -> tuple[dict[str, Reading], list[Clients]]:
    """Read the answer to ``show stat``: slots without their buckets, and frontends (management manual, 9.1)."""
    readings: dict[str, Reading] = {}
    frontends: list[Clients] = []
    for row in csv.DictReader(text.removeprefix("# ").splitlines()):
        name = row["pxname"]
        if name == EXPORTER:
            continue
        if row["svname"] == "FRONTEND":
            frontends.append(Clients(name, _number(row["scur"])))
        elif row["svname"] == "BACKEND":
            codes = tuple(_number(row[f"hrsp_{code}"]) for code in CODES)
            errors = tuple(_number(row[name_of_error]) for name_of_error in _ERROR_FIELDS)
            readings[name] = Reading(codes, errors, nothing().buckets)
    return readings, frontends


def parse_latency(text: str) -> dict[str, tuple[int, ...]]:
    """Read the answer to ``show table latency``: requests by slot and bucket, each of a sample for as many as it is."""
    found: dict[str, tuple[int, ...]] = {}
    for line in text.splitlines():
        key = _KEY.search(line)
        if key:
            name, times = key[1].removesuffix(SAMPLED), SAMPLE if key[1].endswith(SAMPLED) else 1
            counts = {int(number): int(count) * times for number, count in _BUCKET.findall(line)}
            before = found.get(name, nothing().buckets)
            found[name] = tuple(count + counts.get(number, 0) for number, count in enumerate(before))
    return found


def parse_info(text: str) -> dict[str, str]:
    """Read the answer to ``show info``."""
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)


def with_latency(readings: Mapping[str, Reading], latency: Mapping[str, tuple[int, ...]]) -> dict[str, Reading]:
    """Return readings with their buckets."""
    return {name: one._replace(buckets=latency.get(name, one.buckets)) for name, one in readings.items()}


def cumulative(buckets: Sequence[int]) -> Iterator[tuple[str, int]]:
    """Yield a histogram's buckets as Prometheus has them: upper bounds in seconds, each with all below it."""
    bounds: Iterable[str] = [*(f"{bound / 1000:g}" for bound in BUCKETS), "+Inf"]
    total = 0
    for bound, count in zip(bounds, buckets, strict=True):
        total += count
        yield bound, total


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0
