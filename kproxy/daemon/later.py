"""What is loaded, or made, when it is first asked for.

An import costs time at the start, and memory from then on. What the first sync does not need, or what many daemons
never need, is named by `later` where others import it; the type checker and import-linter see an ordinary import:

    if TYPE_CHECKING:
        from kproxy.daemon import inspect
    else:
        inspect = later("kproxy.daemon.inspect")

importlib.util.LazyLoader would do, if it were safe in more than one thread before Python 3.12.3.
"""

import importlib
import sys
import threading
import typing
from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar, Generic, TypeVar

T = TypeVar("T")


class _Later(ModuleType):
    check: ClassVar[Callable[[], None]] = staticmethod(lambda: None)

    def __getattr__(self, name: str) -> Any:
        if self.__name__ not in sys.modules:
            _Later.check()
        return getattr(importlib.import_module(self.__name__), name)


def later(name: str) -> Any:
    """Return what stands for a module, and imports it when something of it is first asked for. From any thread."""
    return _Later(name)


def before_loading(check: Callable[[], None]) -> None:
    """Have ``check`` called, in this process, before anything is imported by `later`; what it raises prevents that."""
    _Later.check = staticmethod(check)


def forget(*names: str) -> None:
    """Let go of packages, or modules, that are imported by `later` alone; they are loaded anew when asked for again.

    Whatever else has imported something of them, in the usual way, is to be forgotten with them: it would go on with
    what was.
    """
    for name in list(sys.modules):
        if any(name == one or name.startswith(f"{one}.") for one in names):
            del sys.modules[name]
            package, _, last = name.rpartition(".")
            if package in sys.modules:
                vars(sys.modules[package]).pop(last, None)
    for clear in getattr(typing, "_cleanups", ()):  # what it remembers of generic classes, and so their modules
        clear()


class Once(Generic[T]):
    """Makes a value when it is first asked for, in whatever thread that is."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: list[T] = []

    def __call__(self) -> T:
        """Return the value."""
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]
