"""kproxy with its memory traced: ``python -m hack.bench.traced FILE run ...``; at SIGUSR1 it writes who holds it.

What importing a module took is laid to its package: code, classes and constants, which stay. What has come since is
taken together: objects of the cluster, plans, rules, connections.
"""

import importlib.machinery
import json
import signal
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from types import FrameType, ModuleType


class Meter:
    """Measures what stays of each import, but for the imports within."""

    def __init__(self) -> None:
        self.held: Counter[str] = Counter()
        self._within: list[int] = [0]
        self._exec = importlib.machinery.SourceFileLoader.exec_module

    def exec_module(self, loader: importlib.machinery.SourceFileLoader, module: ModuleType) -> None:
        """Execute a module, as its loader does."""
        self._within.append(0)
        before = tracemalloc.get_traced_memory()[0]
        try:
            self._exec(loader, module)
        finally:
            took = tracemalloc.get_traced_memory()[0] - before
            self.held[_package(module.__name__)] += took - self._within.pop()
            self._within[-1] += took

    def write(self, file: Path) -> None:
        """Write down how many bytes each package holds, and all else."""
        since = tracemalloc.get_traced_memory()[0] - self._within[0]
        file.with_suffix(".draft").write_text(json.dumps({**self.held, "": since}))
        file.with_suffix(".draft").rename(file)


def _package(name: str) -> str:
    top = name.partition(".")[0].removeprefix("_")
    if top == "kproxy":
        return ".".join(name.split(".")[:2])
    return "python" if top in sys.stdlib_module_names or f"_{top}" in sys.stdlib_module_names else top


def main() -> int:
    """Run kproxy."""
    file = Path(sys.argv.pop(1))
    tracemalloc.start()
    meter = Meter()

    def exec_module(loader: importlib.machinery.SourceFileLoader, module: ModuleType) -> None:
        meter.exec_module(loader, module)

    def told(_number: int, _frame: FrameType | None) -> None:
        meter.write(file)

    importlib.machinery.SourceFileLoader.exec_module = exec_module  # type: ignore[method-assign, assignment]
    signal.signal(signal.SIGUSR1, told)
    from kproxy.cli import main as kproxy

    return kproxy()


if __name__ == "__main__":
    sys.exit(main())
