"""Reads HAProxy's own counters (``show stat``, ``show table``) as figures of rules and endpoints.

HAProxy counts by backend section, which here is a slot: one rule with one of its backends. Each worker counts from
zero: the figures of those before it are `added`.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from kproxy.ingress.haproxy.text.model import NO_BACKEND, NO_ROUTE, Configuration

BUCKETS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)
"""Upper bounds of the histogram's buckets, in milliseconds; there is one more above."""
BUSY = 200
"""Requests a second at a frontend from which on not every one is timed, but one of `SAMPLE`."""
SAMPLE = 16
SAMPLED = "*"
"""Behind a slot's name: its times are of a sample."""
CODES = ("1xx", "2xx", "3xx", "4xx", "5xx", "other")
_TABLE_KEY = re.compile(r"\bkey=(\S+)")
_TABLE_COUNT = re.compile(r"\bgpc(\d+)=(\d+)")


class Use(NamedTuple):
    """What is counted: a rule with a backend; for the two answers of the engine's own, `NO_ROUTE` and `NO_BACKEND`."""

    rule: str
    backend: str = ""


class Count(msgspec.Struct, frozen=True):
    """Requests of one use since the first worker of this kproxy's."""

    codes: Mapping[str, int]
    """By class of the answer's code: `CODES`."""
    bytes_in: int = 0
    bytes_out: int = 0
    connect_errors: int = 0
    response_errors: int = 0
    retries: int = 0
    redispatches: int = 0
    buckets: tuple[int, ...] = ()
    """Answers of pods by the time that their heads took: one figure for each of `BUCKETS`, and those above. An estimate
    where there are many requests, so that the sum need not be `requests`."""

    @property
    def requests(self) -> int:
        """Return all of them."""
        return sum(self.codes.values())


class EndpointState(msgspec.Struct, frozen=True):
    """One endpoint of one use."""

    use: Use
    server: str
    status: str
    """HAProxy's word: ``no check`` takes requests, ``DRAIN`` and ``MAINT`` do not."""
    requests: int
    current: int
    """Requests under way."""


class Figures(msgspec.Struct, frozen=True):
    """Everything that is counted."""

    counts: Mapping[Use, Count]
    endpoints: tuple[EndpointState, ...] = ()
    connections: int = 0
    """Client connections open now."""


NOTHING_COUNTED = Figures({})


def figures(configuration: Configuration, stat: str, table: str) -> Figures:
    """Return what a worker with some configuration says."""
    uses = {name: Use(slot.rule, slot.backend) for name, slot in configuration.slots.items() if slot.rule}
    uses |= {NO_ROUTE: Use(NO_ROUTE), NO_BACKEND: Use(NO_BACKEND)}
    buckets: dict[str, tuple[int, ...]] = {}
    for name, times in _table(table):
        buckets[name] = tuple(a + b for a, b in zip(times, buckets[name], strict=True)) if name in buckets else times
    counts: dict[Use, Count] = {}
    endpoints: list[EndpointState] = []
    connections = 0
    for row in _rows(stat):
        name, server = row["pxname"], row["svname"]
        if server == "FRONTEND":
            connections += _number(row, "scur")
        elif name in uses and server == "BACKEND":
            counts[uses[name]] = _count(row, buckets.get(name, ()))
        elif name in uses:
            found = EndpointState(uses[name], server, row["status"], _number(row, "stot"), _number(row, "scur"))
            endpoints.append(found)
    return Figures(counts, tuple(endpoints), connections)


def added(first: Figures, second: Figures) -> Figures:
    """Return the figures of two workers, of which the second one is the present."""
    counts = dict(first.counts)
    for use, count in second.counts.items():
        counts[use] = _sum(counts[use], count) if use in counts else count
    return Figures(counts, second.endpoints, second.connections)


def only(found: Figures, configuration: Configuration) -> Figures:
    """Return the counts of uses that a configuration still has."""
    uses = {Use(NO_ROUTE), Use(NO_BACKEND), *(Use(slot.rule, slot.backend) for slot in configuration.slots.values())}
    return Figures({use: count for use, count in found.counts.items() if use in uses})


def _sum(one: Count, other: Count) -> Count:
    buckets = tuple(a + b for a, b in zip(one.buckets, other.buckets, strict=False))
    return Count(
        codes={code: one.codes.get(code, 0) + other.codes.get(code, 0) for code in CODES},
        bytes_in=one.bytes_in + other.bytes_in,
        bytes_out=one.bytes_out + other.bytes_out,
        connect_errors=one.connect_errors + other.connect_errors,
        response_errors=one.response_errors + other.response_errors,
        retries=one.retries + other.retries,
        redispatches=one.redispatches + other.redispatches,
        buckets=buckets or one.buckets or other.buckets,
    )


def _count(row: Mapping[str, str], buckets: tuple[int, ...]) -> Count:
    return Count(
        codes={code: _number(row, f"hrsp_{code}") for code in CODES},
        bytes_in=_number(row, "bin"),
        bytes_out=_number(row, "bout"),
        connect_errors=_number(row, "econ"),
        response_errors=_number(row, "eresp"),
        retries=_number(row, "wretr"),
        redispatches=_number(row, "wredis"),
        buckets=buckets,
    )


def _number(row: Mapping[str, str], column: str) -> int:
    return int(row.get(column) or 0)


def _rows(stat: str) -> Iterator[Mapping[str, str]]:
    return iter(csv.DictReader(stat.removeprefix("# ").splitlines()))


def _table(text: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    for line in text.splitlines():
        key = _TABLE_KEY.search(line)
        if key is not None:
            times = SAMPLE if key[1].endswith(SAMPLED) else 1
            found = {int(number): int(value) * times for number, value in _TABLE_COUNT.findall(line)}
            yield key[1].removesuffix(SAMPLED), tuple(found.get(number, 0) for number in range(len(BUCKETS) + 1))
