"""libiptc through python-iptables' binding, with types that make its calls safe and fast.

The only module that imports ``iptc``. python-iptables finds and loads libiptc; of its binding the addresses of the
functions are used, with declarations of our own: its own lack argument types, lose errno, and give up the interpreter
lock at every call, which for a hundred thousand small calls means as many chances to wait for other threads. Here only
reading and committing a table, which take the kernel's time, give it up. The rest of it is let go of.

Its `Rule`, `Match` and `Target` are not used: too slow, and broken with libxtables of iptables 1.8.11.
"""

import ctypes
import ctypes.util
import gc
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kproxy.backends.iptables.kernel.errors import KernelRefusedError, NoIptablesError
from kproxy.backends.iptables.kernel.legacy.drop import drop_entries
from kproxy.backends.iptables.kernel.legacy.entry import COUNTERS, OFFSETS, entry_layout
from kproxy.backends.iptables.kernel.legacy.image import normal_form
from kproxy.backends.iptables.kernel.legacy.terms import BEGINNING, beginning
from kproxy.backends.iptables.kernel.legacy.turns import turns
from kproxy.backends.iptables.rules.render import BUILTIN_CHAINS
from kproxy.backends.iptables.rules.ruleset import TableName
from kproxy.state.model import IPFamily

_HANDLE = ctypes.c_void_p
_NAME = ctypes.c_char_p
_ENTRY = ctypes.c_char_p  # a bytes object passes as it is; libiptc copies what it keeps
_NUMBER = ctypes.c_uint
_YES_OR_NO = ctypes.c_int
_Counters = ctypes.c_uint64 * 2  # struct xt_counters: packets, bytes

_slow_find_library = ctypes.util.find_library
_errno_location = ctypes.PYFUNCTYPE(ctypes.POINTER(ctypes.c_int))(("__errno_location", ctypes.CDLL(None)))


class LibIPTC:
    """One family's libiptc functions, without their ``iptc_``."""

    def __init__(self, family: IPFamily) -> None:
        """Load it. Raises NoIptablesError where python-iptables does not find the libraries."""
        addresses = _addresses()[family]
        if isinstance(addresses, Exception):
            raise NoIptablesError(
                "python-iptables does not load: it needs libip4tc, libip6tc and libxtables, "
                f"which the package iptables brings ({addresses})"
            ) from addresses

        def slow(name: str, result: Any, *arguments: Any) -> Any:
            return ctypes.CFUNCTYPE(result, *arguments, use_errno=True)(addresses[name])

        def quick(name: str, result: Any, *arguments: Any) -> Any:
            # Keeps the interpreter lock; nothing runs before errno is looked at.
            return ctypes.PYFUNCTYPE(result, *arguments)(addresses[name])

        self.layout = entry_layout(family)
        self.init = slow("init", _HANDLE, _NAME)
        self.commit = slow("commit", _YES_OR_NO, _HANDLE)
        self.free = slow("free", None, _HANDLE)
        self.create_chain = quick("create_chain", _YES_OR_NO, _NAME, _HANDLE)
        self.delete_chain = quick("delete_chain", _YES_OR_NO, _NAME, _HANDLE)
        self.get_references = quick("get_references", _YES_OR_NO, ctypes.POINTER(_NUMBER), _NAME, _HANDLE)
        self.append_entry = quick("append_entry", _YES_OR_NO, _NAME, _ENTRY, _HANDLE)
        self.insert_entry = quick("insert_entry", _YES_OR_NO, _NAME, _ENTRY, _NUMBER, _HANDLE)
        self.delete_num_entry = quick("delete_num_entry", _YES_OR_NO, _NAME, _NUMBER, _HANDLE)
        self.read_counter = quick("read_counter", ctypes.c_void_p, _NAME, _NUMBER, _HANDLE)
        self.get_policy = quick("get_policy", ctypes.c_char_p, _NAME, ctypes.POINTER(_Counters), _HANDLE)
        self.set_policy = quick("set_policy", _YES_OR_NO, _NAME, _NAME, ctypes.POINTER(_Counters), _HANDLE)
        self.get_target = quick("get_target", ctypes.c_char_p, ctypes.c_void_p, _HANDLE)
        self.strerror = quick("strerror", ctypes.c_char_p, ctypes.c_int)


_FUNCTIONS = (
    *("init", "commit", "free", "create_chain", "delete_chain", "get_references", "append_entry", "insert_entry"),
    *("delete_num_entry", "read_counter", "get_policy", "set_policy", "get_target", "strerror"),
)


@cache
def _addresses() -> Mapping[IPFamily, Mapping[str, int] | Exception]:
    """Return where each family's functions are, or why python-iptables does not load."""
    with _quiet_and_light(), _without_a_trace():
        return {family: _addresses_of(family) for family in IPFamily}


def _addresses_of(family: IPFamily) -> Mapping[str, int] | Exception:
    try:
        if family is IPFamily.IPV4:
            from iptc.ip4tc import iptc as binding
        else:
            from iptc.ip6tc import ip6tc as binding
        return {name: _address(binding, name) for name in _FUNCTIONS}
    except Exception as error:  # without the libraries it fails in whatever line first needs them
        return error.with_traceback(None)


def _address(binding: Any, name: str) -> int:
    address = ctypes.cast(getattr(binding, f"iptc_{name}"), ctypes.c_void_p).value
    assert address is not None  # noqa: S101 - a function that was found has an address
    return address


@contextmanager
def _without_a_trace() -> Iterator[None]:
    """Let go of what is imported meanwhile, with all that ctypes remembers of its declarations: 1.5 MiB.

    The libraries stay: ctypes never unloads one.
    """
    modules = set(sys.modules)
    caches = [getattr(ctypes, name, {}) for name in ("_pointer_type_cache", "_c_functype_cache")]
    known = [set(cache) for cache in caches]
    try:
        yield
    finally:
        for name in sys.modules.keys() - modules:
            if name.partition(".")[0] in ("iptc", "sysconfig") or name.startswith("_sysconfigdata"):
                del sys.modules[name]
        for cache, before in zip(caches, known, strict=True):
            for key in cache.keys() - before:
                del cache[key]
        gc.collect(0)  # it hangs together in circles, and has just come


_PLACE = "XTABLES_LIBDIR"
_SONAMES = {
    "c": ("libc.so.6",),
    "ip4tc": ("libip4tc.so.2", "libip4tc.so.0"),
    "ip6tc": ("libip6tc.so.2", "libip6tc.so.0"),
    "xtables": ("libxtables.so.12", "libxtables.so.11"),
}
"""Of iptables since 1.6."""


def _find_library(name: str) -> str | None:
    """Do what ctypes.util.find_library does, without programs: it asks ldconfig, and for what that lacks gcc and ld.

    python-iptables has it look for a dozen names, its own library's among them, which takes a fifth of a second. For
    what is not found here it looks beside itself.
    """
    for soname in _SONAMES.get(name, ()):
        with suppress(OSError):
            ctypes.CDLL(soname)
            return soname
    return _slow_find_library(name) if name in _SONAMES else None


def _extensions() -> Path | None:
    """Return where iptables' extensions lie, as Debian, Fedora and Alpine have it; None where it is none of those."""
    multiarch = getattr(sys.implementation, "_multiarch", "")
    places = (Path("/usr/lib") / multiarch / "xtables", Path("/usr/lib64/xtables"), Path("/usr/lib/xtables"))
    return next((place for place in places if place.is_dir()), None)


@contextmanager
def _quiet_and_light() -> Iterator[None]:
    """Import python-iptables without the warnings of newer Pythons, without programs, and without distutils.

    It has ldconfig look for iptables' extensions unless it is told where they lie. It makes do with sysconfig where
    there is no distutils, as from Python 3.12 on; but setuptools, if there is one, stands in for it with 14 MiB of
    modules.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        absent = "distutils" not in sys.modules
        place = None if _PLACE in os.environ else _extensions()
        if absent:
            sys.modules["distutils"] = None  # type: ignore[assignment]
        if place is not None:
            os.environ[_PLACE] = str(place)
        ctypes.util.find_library = _find_library
        try:
            yield
        finally:
            ctypes.util.find_library = _slow_find_library
            if place is not None:
                del os.environ[_PLACE]
            if absent:
                del sys.modules["distutils"]


class TableHandle:
    """A private copy of one table, to be edited and then committed as a whole.

    Rules are numbered from 0. Use it in a ``with`` statement, which frees it. Every method raises KernelRefusedError
    where libiptc or the kernel says no.
    """

    def __init__(self, library: LibIPTC, table: TableName) -> None:
        """Read the table from the kernel, of the network namespace the calling thread is in."""
        self._library = library
        self._table = table
        self._handle = library.init(table.encode())
        if not self._handle:
            self._fail("reading it", ctypes.get_errno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._library.free(self._handle)

    def drop_entries(self, size: int) -> None:
        """Give back what the table was read into, ``size`` bytes of it: libiptc has its own copy of each rule."""
        drop_entries(self._handle, self._table, size)

    def create_chain(self, chain: str) -> None:
        """Add an empty chain."""
        if not self._library.create_chain(chain.encode(), self._handle):
            self._fail(f"creating chain {chain}")

    def delete_chain(self, chain: str) -> None:
        """Remove a chain that is empty and that no rule jumps to."""
        if not self._library.delete_chain(chain.encode(), self._handle):
            self._fail(f"deleting chain {chain}")

    def references(self, chain: str) -> int:
        """Return how many rules jump to a chain."""
        count = _NUMBER()
        if not self._library.get_references(ctypes.byref(count), chain.encode(), self._handle):
            self._fail(f"looking for chain {chain}")
        return count.value

    def append(self, chain: str, entries: Iterable[bytes]) -> None:
        """Add rules at a chain's end."""
        name, append, handle = chain.encode(), self._library.append_entry, self._handle
        for entry in entries:
            if not append(name, entry, handle):
                self._fail(f"adding a rule to chain {chain}")

    def insert(self, chain: str, position: int, entries: Iterable[bytes]) -> None:
        """Insert rules so that the first of them becomes number ``position``."""
        name, insert, handle = chain.encode(), self._library.insert_entry, self._handle
        for number, entry in enumerate(entries, position):
            if not insert(name, entry, number, handle):
                self._fail(f"adding a rule to chain {chain}")

    def delete(self, chain: str, position: int, count: int) -> None:
        """Delete ``count`` rules from number ``position`` on."""
        name, delete, handle = chain.encode(), self._library.delete_num_entry, self._handle
        for _ in range(count):
            if not delete(name, position, handle):
                self._fail(f"deleting a rule of chain {chain}")

    def entry(self, chain: str, position: int) -> bytes | None:
        """Return one rule in the form that `encode` gives to rules; None where the chain has none of that number."""
        layout = self._library.layout
        # The only random access that libiptc offers: the address of a rule's counters, which lie inside its entry.
        counters = self._library.read_counter(chain.encode(), position + 1, self._handle)
        if not counters:
            return None
        address = counters - layout.counters_offset
        (_, size) = OFFSETS.unpack(ctypes.string_at(address + layout.offsets_offset, OFFSETS.size))
        target = self._library.get_target(address, self._handle) or b""
        return normal_form(layout, ctypes.string_at(address, size), target)

    def counters(self, chain: str, position: int) -> bytes:
        """Return one rule's counters, packed as COUNTERS; zeros where the chain has no rule of that number."""
        counters = self._library.read_counter(chain.encode(), position + 1, self._handle)
        return ctypes.string_at(counters, COUNTERS.size) if counters else bytes(COUNTERS.size)

    def begin_turns(self, chain: str, place: Callable[[int], int]) -> bool:
        """Have the turns of a chain's rules begin at ``place(n)`` of n places; tell whether there is any."""
        layout, any_turn = self._library.layout, False
        name, position = chain.encode(), 1
        while counters := self._library.read_counter(name, position, self._handle):
            address = counters - layout.counters_offset
            (_, size) = OFFSETS.unpack(ctypes.string_at(address + layout.offsets_offset, OFFSETS.size))
            for at, every in turns(layout, ctypes.string_at(address, size)):
                any_turn = True
                ctypes.memmove(address + at, beginning(every, place(every)), BEGINNING.size)
            position += 1
        return any_turn

    def commit(self) -> None:
        """Replace the kernel's table by this one, at once. Rules that stay keep their counters, and so do policies."""
        self._keep_policies_counters()
        if not self._library.commit(self._handle):
            self._fail("the kernel refused it", ctypes.get_errno())

    def _keep_policies_counters(self) -> None:
        """Give the policies the counters they were read with; by itself libiptc zeroes them."""
        counters = _Counters()
        for chain in BUILTIN_CHAINS[self._table]:
            name = chain.encode()
            policy = self._library.get_policy(name, ctypes.byref(counters), self._handle)
            if policy is not None:
                self._library.set_policy(name, policy, ctypes.byref(counters), self._handle)

    def _fail(self, step: str, code: int | None = None) -> None:
        code = _errno_location()[0] if code is None else code
        text = self._library.strerror(code).decode(errors="replace")
        raise KernelRefusedError(self._table, code, text, step)
