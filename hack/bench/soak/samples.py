"""What a long run writes down, as lines of JSON, and whether the lines that they make are flat."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec


class Sample(msgspec.Struct, frozen=True, tag=True):
    """How the daemon did at one time. `at` is in seconds since the run began, and so is it below."""

    at: float
    life: int
    """Which daemon: counted from 1."""
    mode: str
    rss_mib: float
    descriptors: int
    threads: int
    cpu_seconds: float
    """Of this daemon, since its start."""


class Counted(msgspec.Struct, frozen=True, tag=True):
    """What a scrape said: totals of this daemon's life."""

    at: float
    life: int
    repairs: float
    relists: float
    failures: float
    """Lists and watches that failed; parts of kproxy that failed."""


class Latency(msgspec.Struct, frozen=True, tag=True):
    """A change and how long it took until packets met it."""

    at: float
    seconds: float


class Event(msgspec.Struct, frozen=True, tag=True):
    """Something that was done to the daemon."""

    at: float
    what: str


class End(msgspec.Struct, frozen=True, tag=True):
    """What a client saw that asked all the time."""

    at: float
    asked: int
    unanswered: int


Line: TypeAlias = Sample | Counted | Latency | Event | End


class Record:
    """All lines of a run; kept in a file as they come, so that a run that breaks off is not lost."""

    def __init__(self, file: Path | None = None) -> None:
        self.lines: list[Line] = []
        self._file = file
        if file:
            file.write_bytes(b"")

    def add(self, line: Line) -> None:
        """Write down."""
        self.lines.append(line)
        if self._file:
            with self._file.open("ab") as kept:
                kept.write(msgspec.json.encode(line) + b"\n")

    @classmethod
    def read(cls, file: Path) -> "Record":
        """Read the file of an earlier run."""
        record = cls()
        record.lines = [msgspec.json.decode(line, type=Line) for line in file.read_bytes().splitlines()]
        return record

    @property
    def samples(self) -> list[Sample]:
        """How it did, in order."""
        return [line for line in self.lines if isinstance(line, Sample)]

    @property
    def counted(self) -> list[Counted]:
        """What scrapes said, in order."""
        return [line for line in self.lines if isinstance(line, Counted)]

    @property
    def latencies(self) -> list[Latency]:
        """How long changes took, in order."""
        return [line for line in self.lines if isinstance(line, Latency)]

    @property
    def events(self) -> list[Event]:
        """What was done, in order."""
        return [line for line in self.lines if isinstance(line, Event)]


class Trend(NamedTuple):
    """The straight line through what was seen of one thing."""

    name: str
    unit: str
    level: float
    """Its mean."""
    rise: float
    """From the beginning of what was looked at to the end."""
    per_hour: float
    allowed: float
    """A rise up to this counts as none: it is what noise makes."""

    @property
    def flat(self) -> bool:
        """Whether nothing grows."""
        return self.rise <= self.allowed


_ALLOWED = {"RSS": ("MiB", "rss_mib", 0.02), "descriptors": ("", "descriptors", 0.0), "threads": ("", "threads", 0.0)}
"""What part of the level a rise may be; for what is counted in pieces, less than one piece."""


def settled(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples of the last daemon from when it had met everything once.

    A daemon that has just started has yet to load what it needs; the first change of mode loads the other engine. What
    grows after that grows for ever. That is after its first return to a mode, or else the latter half of its life.
    """
    life = [sample for sample in samples if sample.life == samples[-1].life]
    seen: list[str] = []
    for number, sample in enumerate(life):
        if not seen or seen[-1] != sample.mode:
            seen.append(sample.mode)
        if len(seen) > 2:
            return life[number:]
    return life[len(life) // 2 :]


def trends(samples: Sequence[Sample]) -> list[Trend]:
    """Fit lines to what the last daemon held, each mode with a level of its own."""
    looked_at = settled(samples)
    return [
        _trend(name, unit, [(s.at, s.mode, float(getattr(s, field))) for s in looked_at], part)
        for name, (unit, field, part) in _ALLOWED.items()
    ]


def _trend(name: str, unit: str, points: Sequence[tuple[float, str, float]], part: float) -> Trend:
    slope = common_slope(points)
    level = statistics.fmean(value for _, _, value in points)
    rise = slope * (points[-1][0] - points[0][0])
    return Trend(name, unit, level, rise, slope * 3600, level * part or 0.99)


def common_slope(points: Iterable[tuple[float, str, float]]) -> float:
    """Return the least-squares slope of (time, group, value), with one slope for all and a level for each group."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for at, group, value in points:
        groups.setdefault(group, []).append((at, value))
    above = below = 0.0
    for members in groups.values():
        middle, mean = (statistics.fmean(member[axis] for member in members) for axis in (0, 1))
        above += sum((at - middle) * (value - mean) for at, value in members)
        below += sum((at - middle) ** 2 for at, _ in members)
    return above / below if below else 0.0
