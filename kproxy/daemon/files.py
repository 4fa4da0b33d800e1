"""Whether kproxy's own files are still those that it runs: somebody may pull, or upgrade, under a running daemon.

What is loaded late would be of another version than all that is loaded already, and fit it as chance will have it. So
nothing is loaded then any more: the daemon goes on with what it has, and says that it wants to be restarted.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from kproxy.backends.base import BackendError

_ELSEWHERE = frozenset({"__pycache__", "ingress"})
"""Folders of which this daemon loads nothing."""
_FRESH_SECONDS = 1.0

Stamps: TypeAlias = Mapping[str, tuple[int, int]]
"""By file: when it was modified (Unix time, ns) and its size in bytes; by these Python knows what bytecode is old."""


class ChangedError(BackendError):
    """Something was to be loaded that may not fit what runs."""


class Files:
    """Those of one package, as they were when the process began. May be asked from any thread."""

    def __init__(self, package: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._package = package
        self._clock = clock
        self._began: Stamps | None = None
        self._problem = ""
        self._looked_at = float("-inf")

    def remember(self) -> None:
        """Note how they are, once; it takes 2 ms. Until then nothing is said to have changed."""
        if self._began is None:
            self._began, self._looked_at = _stamps(self._package), self._clock()

    def problem(self) -> str:
        """Return what is wrong, and what is to be done; nothing if nothing is."""
        if self._began is None or self._clock() - self._looked_at < _FRESH_SECONDS:
            return self._problem
        now = _stamps(self._package)
        others = sorted(name for name in self._began.keys() | now.keys() if self._began.get(name) != now.get(name))
        self._problem = ""
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            self._problem = f"kproxy's own files have changed since it started: {others[0]}{more}; restart it"
        self._looked_at = self._clock()
        return self._problem

    def check(self) -> None:
        """Raise ChangedError if any has changed."""
        if problem := self.problem():
            raise ChangedError(problem)


def _stamps(package: Path) -> Stamps:
    return {os.path.relpath(entry.path, package.parent): _stamp(entry) for entry in _sources(str(package))}


def _stamp(entry: "os.DirEntry[str]") -> tuple[int, int]:
    try:
        found = entry.stat()
    except OSError:  # on its way out
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _sources(folder: str) -> "Iterator[os.DirEntry[str]]":
    """Yield the source files in a folder and below; none where that is no folder, or not any more."""
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError:
        return
    for entry in found:
        if entry.name.endswith(".py"):
            yield entry
        elif entry.name not in _ELSEWHERE and entry.is_dir():
            yield from _sources(entry.path)
