"""``python -m hack.tour.page``: makes the page "The whole way of a packet" and its picture from what chapter 6 shows.

The page is `packet`'s steps as they were played: commands, outputs and what was checked, with what is another at each
run replaced by a word. A test makes it again and compares.
"""

import re
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import msgspec

from hack.lab import LabError
from hack.lab.processes import REPOSITORY
from hack.tour import packet, picture, world
from hack.tour.guide import Ran, Told

DOCS = REPOSITORY / "deploy" / "docs"
COLUMNS = 120
PAGE, PICTURE = DOCS / "packet.md", DOCS / "packet.svg"
INTRODUCTION = f"""\
# The whole way of a packet

One request, `http://shop.example.com/order`, from the client's socket to a pod and back. It is followed in the lab of
[hack/tour.sh](../../hack/tour.sh), where all machines are network namespaces and all packets are real; `hack/tour.sh 6`
shows the same on your machine. This page is made of what that printed (`python -m hack.tour.page` makes it anew, and a
test compares), with {packet.CHANGING} in place of what is another each time.

![The way of the request and of its answer, with the addresses of each packet](packet.svg)"""


def record() -> list[Told]:
    """Play chapter 6 and return its last steps, the packet's. Raises LabError if not all was as told."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "told"
        code = world.enter("hack.tour.play", ["host", "--record", str(file)])
        if code or not file.exists():
            raise LabError("chapter 6 did not go as it should; see above")
        told = msgspec.json.decode(file.read_bytes(), type=list[Told])
    titles = [step.title for step in told]
    return told[titles.index(packet.FIRST) :]


def markdown(told: list[Told]) -> str:
    """The page."""
    parts = [INTRODUCTION]
    for number, step in enumerate(told, start=1):
        parts += [f"## {number}. {step.title}", textwrap.fill(step.why, COLUMNS), *_blocks(step)]
    return packet.stable("\n\n".join(parts) + "\n")


def _blocks(step: Told) -> Iterator[str]:
    """Commands with what they printed, as on a terminal, and what was seen in them."""
    for is_terminal, group in groupby(step.shown, lambda shown: isinstance(shown, Ran)):
        lines = [line for shown in group for line in _lines(shown)]
        yield "\n".join(["```console", *lines, "```"] if is_terminal else lines)


def _lines(shown: Ran | str) -> Iterator[str]:
    if isinstance(shown, str):
        yield f"* {shown}"
        return
    if shown.command:
        first, *others = shown.command.splitlines()
        yield from (f"# {first}", *(f"  {line}" for line in others))
    yield from (line.rstrip() for line in shown.output.splitlines())


def packets(told: list[Told]) -> list[picture.Packet]:
    """The packets that tcpdump saw, in the order in which the steps show them."""
    lines = [line for step in told for shown in step.shown if isinstance(shown, Ran) and not shown.command
             for line in shown.output.splitlines()]  # fmt: skip
    found = (re.match(r"(\S+) +IP (\S+) > (\S+): ", packet.stable(line)) for line in lines)
    return [picture.Packet(*one.groups()) for one in found if one]


def main() -> int:
    try:
        told = record()
    except LabError as error:
        print(f"hack.tour.page: {error}", file=sys.stderr)
        return 1
    PAGE.write_text(markdown(told))
    PICTURE.write_text(picture.svg(packets(told)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
