"""Draws the way of a packet: a column for each place, an arrow for each packet, labelled with its addresses."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

COLUMNS = {"client": "client", "node-a": "node-a", "pod-ingress": "pod ingress", "pod-order-1": "pod order-1"}
NOTES = {"node-a": "kproxy's rules, conntrack", "pod-ingress": "HAProxy: host and path", "client": "curl",
         "pod-order-1": "the server"}  # fmt: skip
STEP, TOP, LEFT, ROW = 250, 90, 90, 52
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
    """From each place to the next: the packet as it was seen where it arrived, or where it left if nobody saw that."""
    places = list(COLUMNS)
    at = [places.index(packet.place) for packet in packets]
    found = []
    for position, (packet, column) in enumerate(zip(packets, at, strict=True)):
        before = at[position - 1] if position else column
        if column != before:
            found.append(Arrow(before, column, packet.source, packet.target))
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
    parts = [
        f'<tspan class="{_emphasis(text, known)}">{escape(text)}</tspan>'
        for text, known in ((arrow.source, previous and previous.source), (arrow.target, previous and previous.target))
    ]
    return [
        f'<text class="address" x="{(start + end) // 2}" y="{y - 8}">{" &gt; ".join(parts)}</text>',
        f'<line class="arrow" x1="{start}" y1="{y}" x2="{end}" y2="{y}"/>',
    ]


def _emphasis(text: str, known: str | None) -> str:
    return "address" if known in (None, text) else "changed"
