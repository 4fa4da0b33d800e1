"""The options that all benchmarks take, under the same names and with the same meaning.

Each has its own sizes, modes and number of repeats, and its own choices of modes; one that has no use for an option
takes it all the same, so that ``python -m hack.bench`` can hand everything to everybody.
"""

import argparse
from collections.abc import Sequence
from typing import NamedTuple

from hack.bench.report import OUTPUTS


class Size(NamedTuple):
    """How large a made-up cluster is."""

    services: int
    endpoints: int
    """Of each service."""

    @classmethod
    def parse(cls, text: str) -> "Size":
        """Read ``1000x5``, or ``1000``, which has one endpoint a service.

        Raises:
            ValueError: it is something else.
        """
        services, _, endpoints = text.replace(",", "").partition("x")
        size = cls(int(services), int(endpoints or 1))
        if size.services < 1 or size.endpoints < 0:
            raise ValueError(f"there are no {text} services")
        return size

    @property
    def plain(self) -> str:
        """As it is given: ``1000x5``."""
        return f"{self.services}x{self.endpoints}"

    def __str__(self) -> str:
        return f"{self.services:,} x {self.endpoints}"


class Defaults(NamedTuple):
    """What a benchmark does by itself, and what it does when it shall only be seen to work (``--quick``)."""

    sizes: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    repeats: int = 1
    quick_sizes: tuple[str, ...] = ()
    quick_repeats: int = 2


def parser(bench: str, description: str | None, defaults: Defaults) -> argparse.ArgumentParser:
    """Return a parser with the options of all benchmarks; `bench` is the name of the module, without ``hack.bench``."""
    made = argparse.ArgumentParser(
        prog=f"python -m hack.bench.{bench}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    made.set_defaults(bench=bench, defaults=defaults)
    add("--sizes", nargs="+", type=Size.parse, metavar="NxM", help=_help("services x endpoints each", defaults.sizes))
    add("--modes", nargs="+", choices=defaults.modes or None, help=_help("engines or layouts", defaults.modes))
    add("--repeats", type=int, metavar="N", help=f"how often each thing is measured (default: {defaults.repeats})")
    add("--output", choices=OUTPUTS, default="markdown", help="tables, or a line of JSON for each row of them")
    add("--quick", action="store_true", help="small and few: to see that it works, not for figures")
    return made


def parse(made: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line, and fill in what it leaves open."""
    options = made.parse_args(arguments)
    defaults: Defaults = options.defaults
    sizes = defaults.quick_sizes if options.quick and defaults.quick_sizes else defaults.sizes
    options.sizes = options.sizes or [Size.parse(size) for size in sizes]
    options.modes = options.modes or list(defaults.modes)
    options.repeats = options.repeats or (defaults.quick_repeats if options.quick else defaults.repeats)
    return options


def _help(what: str, values: Sequence[str]) -> str:
    return f"{what} (default: {' '.join(values)})" if values else f"{what}: of no use here"
