"""Draws the way of a packet: a column for each place, an arrow for each packet, labelled with its addresses."""

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

COLUMNS = {"client": "client", "node-a": "node-a", "pod-ingress": "pod ingress", "pod-order-1": "pod order-1"}
NOTES = {"node-a": "kproxy's rules, conntrack", "pod-ingress": "HAProxy: host and path", "client": "curl",
         "pod-order-1": "the server"}  # fmt: skip
STEP, TOP, LEFT, ROW = 270, 90, 90, 46
STYLE = """\
  text { font: 13px sans-serif; fill: #24292f; text-anchor: middle }
  .place { font-weight: bold; font-size: 15px }
  .note { fill: #57606a }
  .address { font: 12px monospace }
  .changed { font-weight: bold; fill: #0969da }
  line { stroke: #8c959f; stroke-width: 1.5 }
  .arrow { stroke: #24292f; marker-end: url(#head) }
  rect { fill: #ffffff }"""


class Packet(NamedTuple):
    """A packet as it was seen at a place."""

    place: str
    source: str
    target: str


class Arrow(NamedTuple):
    """A packet on its way from one column to another. What is another than on the arrow before is emphasized."""

    start: int
    end: int
    source: str
    target: str


def arrows(packets: Sequence[Packet]) -> list[Arrow]:
    """From each place to the next. On the way out a packet is labelled as it arrived, on the way back as it left."""
    places = list(COLUMNS)
    found = []
    for before, after in pairwise(packets):
        start, end = places.index(before.place), places.index(after.place)
        label = after if end > start else before
        if start != end:
            found.append(Arrow(start, end, label.source, label.target))
    return found


def svg(packets: Sequence[Packet]) -> str:
    """The drawing."""
    drawn = arrows(packets)
    width, height = 2 * LEFT + STEP * (len(COLUMNS) - 1), TOP + ROW * len(drawn) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        "<title>The way of a request and of its answer</title>",
        f"<style>\n{STYLE}\n</style>",
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L10 5L0 10z" fill="#24292f"/></marker></defs>',
        f'<rect width="{width}" height="{height}"/>',
    ]
    for number, (place, label) in enumerate(COLUMNS.items()):
        x = LEFT + STEP * number
        parts += [
            f'<text class="place" x="{x}" y="28">{escape(label)}</text>',
            f'<text class="note" x="{x}" y="48">{escape(NOTES[place])}</text>',
            f'<line x1="{x}" y1="60" x2="{x}" y2="{height - 10}"/>',
        ]
    previous: Arrow | None = None
    for row, arrow in enumerate(drawn):
        parts += _arrow(arrow, TOP + ROW * row, previous)
        previous = arrow
    return "\n".join([*parts, "</svg>"]) + "\n"


def _arrow(arrow: Arrow, y: int, previous: Arrow | None) -> list[str]:
    start, end = LEFT + STEP * arrow.start, LEFT + STEP * arrow.end
    known = {previous.source, previous.target} if previous else {arrow.source, arrow.target}
    parts = [
        f'<tspan class="{"address" if text in known else "changed"}">{escape(text)}</tspan>'
        for text in (arrow.source, arrow.target)
    ]
    return [
        f'<text class="address" x="{(start + end) // 2}" y="{y - 8}">{" &gt; ".join(parts)}</text>',
        f'<line class="arrow" x1="{start}" y1="{y}" x2="{end}" y2="{y}"/>',
    ]
