"""A picture of a long run: one small diagram under the other, all over the same time. SVG, written by hand."""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from hack.bench.report import percentile
from hack.bench.soak.samples import Event, Record, Sample

WIDTH, LEFT, RIGHT, HEIGHT, GAP, TOP = 860, 64, 16, 84, 26, 44
BIN_SECONDS = 60.0
"""Latencies are put together over so long, in runs of an hour; in shorter ones over a sixtieth."""
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #444 } .title { font-weight: 600; fill: #111 }
.grid { stroke: #ddd; stroke-width: 1 } .event { stroke: #b33; stroke-width: 1; stroke-dasharray: 2 3 }
.line { fill: none; stroke-width: 1.5; stroke-linejoin: round } .iptables { fill: #f2f6fc } .nftables { fill: #fdf6ea }
"""
_COLOURS = ("#1a5fb4", "#c64600", "#777")
_LOUD = ("kill", "restart")
"""Events that get a line through all diagrams; others get a tick."""

Points = Sequence[tuple[float, float]]


class Diagram(NamedTuple):
    """One diagram: lines by name, each of stretches that are not joined, as the daemon was another one between."""

    title: str
    lines: dict[str, Sequence[Points]]
    log: bool = False


def plot(record: Record, title: str) -> str:
    """Return the picture of a run."""
    end = max(line.at for line in record.lines)
    diagrams = _diagrams(record, end)
    height = TOP + len(diagrams) * (HEIGHT + GAP) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img"><title>{escape(title)}</title><style>{_STYLE}</style>',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT}" y="18" class="title">{escape(title)}</text>',
    ]
    across = _scale(0, end, LEFT, WIDTH - RIGHT)
    for number, diagram in enumerate(diagrams):
        top = TOP + number * (HEIGHT + GAP)
        parts += _modes(record.samples, across, top, end)
        parts += _draw(diagram, across, top)
        parts += _events(record.events, across, top)
    parts += _time_axis(across, end, TOP + len(diagrams) * (HEIGHT + GAP))
    return "\n".join([*parts, "</svg>", ""])


def _diagrams(record: Record, end: float) -> list[Diagram]:
    lives = [list(life) for _, life in itertools.groupby(record.samples, lambda sample: sample.life)]

    def held(what: Callable[[Sample], float]) -> list[Points]:
        return [[(sample.at, what(sample)) for sample in life] for life in lives]

    counted = [list(life) for _, life in itertools.groupby(record.counted, lambda one: one.life)]
    latencies = _latencies(record, end)
    return [
        Diagram("memory (RSS), MiB", {"": held(lambda sample: sample.rss_mib)}),
        Diagram("open descriptors", {"": held(lambda sample: sample.descriptors)}),
        Diagram("threads", {"": held(lambda sample: sample.threads)}),
        Diagram("processor time, % of a core", {"": [_cpu(life) for life in lives]}),
        Diagram("from a change to the first packet, ms", {name: [points] for name, points in latencies.items()}, True),
        Diagram(
            "since the start",
            {
                "repairs of rules": [[(one.at, one.repairs) for one in life] for life in counted],
                "lists read again": [[(one.at, one.relists) for one in life] for life in counted],
                "failures survived": [[(one.at, one.failures) for one in life] for life in counted],
            },
        ),
    ]


def _cpu(life: Sequence[Sample]) -> list[tuple[float, float]]:
    steps = itertools.pairwise(life[::3])
    return [(b.at, 100 * (b.cpu_seconds - a.cpu_seconds) / (b.at - a.at)) for a, b in steps if b.at > a.at]


def _latencies(record: Record, end: float) -> dict[str, list[tuple[float, float]]]:
    width = min(BIN_SECONDS, end / 60)
    bins: dict[int, list[float]] = {}
    for one in record.latencies:
        bins.setdefault(int(one.at / width), []).append(one.seconds * 1e3)
    return {
        name: [
            (min((number + 0.5) * width, end), percentile(values, percent)) for number, values in sorted(bins.items())
        ]
        for name, percent in (("median", 50), ("95 of 100", 95))
    }


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: round(start + (value - low) / (high - low or 1) * (end - start), 1)


def _draw(diagram: Diagram, across: Callable[[float], float], top: float) -> Iterable[str]:
    values = [value for line in diagram.lines.values() for stretch in line for _, value in stretch] or [0.0]
    ticks = log_ticks(min(values), max(values)) if diagram.log else even_ticks(max(values))
    shown: Callable[[float], float] = (lambda value: math.log10(max(value, 1e-3))) if diagram.log else (lambda v: v)
    down = _scale(shown(ticks[0]), shown(ticks[-1]), top + HEIGHT, top)
    yield f'<text x="{LEFT}" y="{top - 5}" class="title">{escape(diagram.title)}</text>'
    for tick in ticks:
        y = down(shown(tick))
        yield f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{tick:g}</text>'
    for number, (name, line) in enumerate(diagram.lines.items()):
        colour = _COLOURS[number]
        for stretch in line:
            if stretch:
                path = "L".join(f"{across(at)} {down(shown(value))}" for at, value in stretch)
                yield f'<path class="line" stroke="{colour}" d="M{path}"/>'
        if name:
            x = WIDTH - RIGHT - 130 * (len(diagram.lines) - number - 1)
            yield f'<text x="{x}" y="{top - 5}" text-anchor="end" style="fill:{colour}">{escape(name)}</text>'


def even_ticks(most: float) -> list[float]:
    """Return three to six round values from 0 to at least the highest."""
    if most <= 0:
        return [0.0, 1.0]
    rough = most / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [step * number for number in range(math.ceil(most / step - 1e-9) + 1)]


def log_ticks(least: float, most: float) -> list[float]:
    """Return powers of ten around the values, two at least."""
    low = math.floor(math.log10(max(least, 0.1)))
    high = max(low + 1, math.ceil(math.log10(max(most, 0.1))))
    return [10.0**power for power in range(low, high + 1)]


def _modes(samples: Sequence[Sample], across: Callable[[float], float], top: float, end: float) -> Iterable[str]:
    """Shade the background by the mode that was in force."""
    stretches = [list(group) for _, group in itertools.groupby(samples, lambda sample: sample.mode)]
    for number, stretch in enumerate(stretches):
        begins = stretch[0].at if number else 0.0
        ends = stretches[number + 1][0].at if number + 1 < len(stretches) else end
        x, width = across(begins), round(across(ends) - across(begins), 1)
        yield f'<rect class="{stretch[0].mode}" x="{x}" y="{top}" width="{width}" height="{HEIGHT}"/>'


def _events(events: Sequence[Event], across: Callable[[float], float], top: float) -> Iterable[str]:
    for event in events:
        if event.what.startswith("mode"):
            continue
        x, loud = across(event.at), event.what.startswith(_LOUD)
        length = HEIGHT if loud else 5
        yield f'<path class="event" d="M{x} {top}v{length}"><title>{escape(event.what)}</title></path>'
        if loud and top == TOP:
            yield f'<text x="{x + 3}" y="{top + 12}" style="fill:#b33">{escape(event.what)}</text>'


def _time_axis(across: Callable[[float], float], end: float, y: float) -> Iterable[str]:
    minutes = even_ticks(end / 60)
    for minute in minutes:
        if minute * 60 <= end + 1:
            yield f'<text x="{across(minute * 60)}" y="{y}" text-anchor="middle">{minute:g}</text>'
    yield f'<text x="{WIDTH - RIGHT}" y="{y + 18}" text-anchor="end">minutes</text>'
    for number, mode in enumerate(("iptables", "nftables")):
        x = LEFT + 130 * number
        yield f'<rect class="{mode}" x="{x}" y="{y + 8}" width="14" height="12" stroke="#ccc"/>'
        yield f'<text x="{x + 20}" y="{y + 18}">mode {mode}</text>'
    yield f'<text x="{LEFT + 270}" y="{y + 18}">ticks above: watches ended, cut, or told 410 Gone</text>'
