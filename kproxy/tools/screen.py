"""Text for people: tables and colours. The one door to the libraries for both, which ``kproxy run`` never opens."""

from collections.abc import Sequence

from tabulate import tabulate
from termcolor import colored

from kproxy.wording import printable

_NARROW = "plain"


def paint(text: str, colour: str, *, bold: bool = False) -> str:
    """Return text in a colour, where output is a terminal that shows it (and NO_COLOR is not set)."""
    return colored(text, colour, attrs=["bold"] if bold else None)


def strong(text: str) -> str:
    """Return text that stands out."""
    return colored(text, attrs=["bold"])


def faint(text: str) -> str:
    """Return text that stands back."""
    return colored(text, attrs=["dark"])


def table(rows: Sequence[Sequence[str]], heads: Sequence[str] = (), *, right: Sequence[int] = ()) -> str:
    """Return rows in columns, each line indented; ``right`` are the numbers of columns that are aligned right."""
    width = max((len(row) for row in rows), default=len(heads))
    align = ["right" if column in right else "left" for column in range(width)]
    text = tabulate(
        rows, headers=[strong(head) for head in heads], tablefmt=_NARROW, colalign=align, disable_numparse=True
    )
    return "\n".join(f"  {line.rstrip()}" for line in text.splitlines())


def one_line(text: str, limit: int = 400) -> str:
    """Return a value that may come from anybody, unable to begin another line or to steer a terminal."""
    return printable(text, limit)
