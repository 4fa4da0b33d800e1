"""Run all benchmarks, one after the other, and print the tables for deploy/docs/performance.md.

    python -m hack.bench --quick                    does all of it work? some minutes
    python -m hack.bench > tables.md                an hour and more; as root, on a machine with nothing else to do
    python -m hack.bench --only connect load --output json --repeats 5

Options of all benchmarks are handed on: --sizes, --modes, --repeats, --output, --quick. A benchmark that is given sizes
or modes takes those that it knows. One that fails is said so, and the others run all the same; exit code 1 then. The
soak, which takes an hour by itself, runs with --quick, or if it is named.
"""

import argparse
import importlib
import pkgutil
import subprocess
import sys
import time
from collections.abc import Sequence

import hack.bench
from hack.bench import options as common
from hack.bench.report import OUTPUTS

LONG = ("soak",)


def benchmarks() -> dict[str, common.Defaults]:
    """Return all benchmarks by name, with their defaults: the modules of this package that have some."""
    found: dict[str, common.Defaults] = {}
    for module in pkgutil.iter_modules(hack.bench.__path__):
        if module.name.startswith("_"):
            continue
        name = f"hack.bench.{module.name}" + (".__main__" if module.ispkg else "")
        defaults = getattr(importlib.import_module(name), "DEFAULTS", None)
        if defaults is not None:
            found[module.name] = defaults
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them; return the exit code."""
    every = benchmarks()
    parser = argparse.ArgumentParser(
        prog="python -m hack.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=every, help="these, in this order")
    parser.add_argument("--sizes", nargs="+", metavar="NxM")
    parser.add_argument("--modes", nargs="+")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--output", choices=OUTPUTS, default="markdown")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    chosen = options.only or [name for name in every if options.quick or name not in LONG]
    failed = []
    for name in chosen:
        began = time.monotonic()
        code = subprocess.run(command(name, every[name], options), check=False).returncode
        sys.stderr.write(f"{name}: {'exit code ' + str(code) if code else 'done'}, {time.monotonic() - began:.0f} s\n")
        if code:
            failed.append(name)
    if failed:
        sys.stderr.write(f"not all went well: {' '.join(failed)}\n")
    return 1 if failed else 0


def command(name: str, defaults: common.Defaults, options: argparse.Namespace) -> list[str]:
    """Return the command line of a benchmark, with what it knows of the options given."""
    line = [sys.executable, "-m", f"hack.bench.{name}", "--output", options.output]
    if options.output == "markdown":
        print(f"\n## {name}", flush=True)
    if options.sizes and defaults.sizes:
        line += ["--sizes", *options.sizes]
    if modes := [mode for mode in options.modes or () if mode in defaults.modes]:
        line += ["--modes", *modes]
    if options.repeats:
        line += ["--repeats", str(options.repeats)]
    return [*line, "--quick"] if options.quick else line


if __name__ == "__main__":
    sys.exit(main())
