"""Text for people: tables and colours. The one door to the libraries for both, which ``kproxy run`` never opens."""

import json
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from tabulate import tabulate
from termcolor import colored

from kproxy.wording import printable

_NARROW = "plain"
_LONGEST = 2000
"""Characters of one text: more is no name and no rule."""

S = TypeVar("S", bound=msgspec.Struct)


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


def harmless(document: S) -> S:
    """Return a document none of whose texts can begin another line or steer a terminal, whoever wrote them."""
    return msgspec.convert(_harmless(msgspec.to_builtins(document)), type(document))


def _harmless(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value, _LONGEST)
    if isinstance(value, dict):
        return {key: _harmless(item) for key, item in value.items()}
    return [_harmless(item) for item in value] if isinstance(value, list | tuple) else value


def as_json(document: msgspec.Struct) -> str:
    """Return a document as JSON for programs, which a terminal can show as well: of ASCII alone."""
    return json.dumps(msgspec.to_builtins(document), indent=2) + "\n"


def one_line(text: str, limit: int = 400) -> str:
    """Return a value that may come from anybody, unable to begin another line or to steer a terminal."""
    return printable(text, limit)
