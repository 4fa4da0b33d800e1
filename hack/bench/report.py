"""What a benchmark prints: Markdown tables for the docs, or the same rows as JSON, one a line, for programs.

Rows are printed as they are measured: a run of many minutes shows how far it is, and one that breaks off keeps what it
has.
"""

import argparse
import json
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

OUTPUTS = ("markdown", "json")


class Figure(NamedTuple):
    """A measured value, in seconds, bytes or whatever `unit` is a part or a multiple of after `scale`."""

    value: float
    unit: str
    digits: int = 0

    def __str__(self) -> str:
        return f"{self.value:,.{self.digits}f} {self.unit}".strip()


Cell: TypeAlias = str | int | Figure


def seconds(value: float, digits: int = 1) -> Figure:
    """Return a time in seconds."""
    return Figure(value, "s", digits)


def ms(value: float, digits: int = 0) -> Figure:
    """Return a time, given in seconds, in milliseconds."""
    return Figure(value * 1e3, "ms", digits)


def us(value: float, digits: int = 1) -> Figure:
    """Return a time, given in seconds, in microseconds."""
    return Figure(value * 1e6, "µs", digits)


def mib(value: float, digits: int = 0) -> Figure:
    """Return a size, given in MiB."""
    return Figure(value, "MiB", digits)


def ratio(value: float, yardstick: float) -> Figure | str:
    """Return how many times the yardstick a value is; nothing where there is no yardstick."""
    if not yardstick:
        return ""
    found = value / yardstick
    return Figure(found, "", 2 if found >= 0.1 else 4)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile of some values, in their unit."""
    return sorted(values)[round((len(values) - 1) * percent / 100)]


class Report:
    """Prints tables row by row."""

    def __init__(self, bench: str, output: str = "markdown") -> None:
        self._bench = bench
        self._json = output == "json"
        self._title = ""
        self._columns: tuple[str, ...] = ()

    def table(self, title: str, *columns: str) -> None:
        """Begin a table."""
        self._title, self._columns = title, columns
        if not self._json:
            print(f"\n{title}\n\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|", flush=True)

    def row(self, *cells: Cell) -> None:
        """Print one row of it."""
        assert len(cells) == len(self._columns)
        if not self._json:
            shown = (f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells)
            print(f"| {' | '.join(shown)} |", flush=True)
            return
        values = (cell._asdict() if isinstance(cell, Figure) else cell for cell in cells)
        row = {"bench": self._bench, "table": self._title, **dict(zip(self._columns, values, strict=True))}
        print(json.dumps(row, ensure_ascii=False), flush=True)

    def note(self, text: str) -> None:
        """Say something below a table; not in JSON, which is for figures."""
        if not self._json:
            print(f"\n{text}", flush=True)


def report_of(options: argparse.Namespace) -> Report:
    """Return the report that the options ask for."""
    return Report(options.bench, options.output)
