"""Asks the kernel about a table without libiptc: its outline for next to nothing, its bytes in one copy.

libiptc's own read allocates every rule and cannot be had without; these two socket options are what it starts from.
IPT_SO_GET_INFO is cheap enough to ask every second whether anybody touched the table, and IPT_SO_GET_ENTRIES to read
all counters for a scrape. Both create a table that does not exist yet, so ask `existing_tables` where that matters.
"""

import ctypes
import errno
import mmap
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from kproxy.backends.iptables.kernel.errors import NEEDED_PRIVILEGE, KernelRefusedError, NoIptablesError
from kproxy.backends.iptables.kernel.legacy.entry import EntryLayout
from kproxy.state.model import IPFamily

_GET_INFO = 64  # IPT_SO_GET_INFO, IP6T_SO_GET_INFO
_GET_ENTRIES = 65
_GET_TARGET_REVISION = {IPFamily.IPV4: 67, IPFamily.IPV6: 69}
_TARGET_REVISION = struct.Struct("=29sB")  # struct xt_get_revision
_MODULES = {IPFamily.IPV4: "ip_tables", IPFamily.IPV6: "ip6_tables"}
NAME_SIZE = 32  # XT_TABLE_MAXNAMELEN
_HOOKS = 5  # NF_INET_NUMHOOKS
_INFO = struct.Struct(f"={NAME_SIZE}sI{_HOOKS}I{_HOOKS}III")  # struct ipt_getinfo
ENTRIES_HEADER = 40  # struct ipt_get_entries: name, size, padding
_READ_ATTEMPTS = 5

_libc = ctypes.CDLL(None, use_errno=True)
_getsockopt = _libc.getsockopt
_getsockopt.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_getsockopt.restype = ctypes.c_int

_mprotect = _libc.mprotect
_mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_PROT_NONE = 0

_NAMES_FILES = {IPFamily.IPV4: "ip_tables_names", IPFamily.IPV6: "ip6_tables_names"}


class TableInfo(NamedTuple):
    """A table's outline. Adding or removing anything changes it; replacing a rule by one as long does not."""

    valid_hooks: int
    hook_entries: tuple[int, ...]
    """Where each built-in chain begins, by hook number."""
    underflows: tuple[int, ...]
    """Where each built-in chain's policy stands."""
    entries: int
    size: int
    """In bytes."""

    @property
    def hooks(self) -> tuple[int, ...]:
        """The numbers of the hooks the table has a built-in chain for."""
        return tuple(hook for hook in range(_HOOKS) if self.valid_hooks & 1 << hook)


def existing_tables(family: IPFamily, proc_net: Path = Path("/proc/net")) -> frozenset[str]:
    """Return the legacy tables that exist in this network namespace, without creating any.

    Raises NoIptablesError where kproxy may not know.
    """
    try:
        return frozenset((proc_net / _NAMES_FILES[family]).read_text().split())
    except FileNotFoundError:
        return frozenset()
    except PermissionError:
        raise NoIptablesError(
            "only root may look at iptables: run kproxy as root, with the capabilities NET_ADMIN and NET_RAW"
        ) from None


class TableReader:
    """Reads one family's legacy tables in the network namespace it was made in."""

    def __init__(self, layout: EntryLayout) -> None:
        """Open the socket. Raises NoIptablesError without the privilege, the family, or tables in this kernel."""
        self._copying_lock = threading.Lock()
        self._copying: set[tuple[int, int]] = set()
        """Address and length of what the kernel is writing tables to."""
        self._family = layout.family
        self._level = layout.sockopt_level
        try:
            self._socket = socket.socket(layout.address_family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        except PermissionError as err:
            raise NoIptablesError(f"no permission to read the kernel's tables: {NEEDED_PRIVILEGE}") from err
        except OSError as err:
            raise NoIptablesError(f"{layout.family}: this kernel does not have the family: {err.strerror}") from err
        if not self._kernel_has_tables():
            self.close()
            module = _MODULES[layout.family]
            raise NoIptablesError(
                f"{layout.family}: this kernel has no {module}; load it on the node (modprobe {module}), "
                "or take another way to the rules: iptablesVariant nft, or mode nftables"
            )

    def _kernel_has_tables(self) -> bool:
        """Tell whether there is anybody to ask, loading the module if need be, as iptables' own programs do."""
        if self._is_known():
            return True
        with suppress(OSError):  # no such program, as in most containers
            subprocess.run(["modprobe", "--quiet", _MODULES[self._family]], check=False, capture_output=True)
        return self._is_known()

    def _is_known(self) -> bool:
        # Every kernel with tables has this target built in, so that asking for it makes and loads nothing.
        buffer = ctypes.create_string_buffer(_TARGET_REVISION.pack(b"ERROR", 0), _TARGET_REVISION.size)
        length = ctypes.c_uint(len(buffer))
        option = _GET_TARGET_REVISION[self._family]
        failed = _getsockopt(self._socket.fileno(), self._level, option, buffer, ctypes.byref(length)) != 0
        return not (failed and ctypes.get_errno() == errno.ENOPROTOOPT)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def info(self, table: str) -> TableInfo:
        """Return a table's outline: some microseconds. Raises KernelRefusedError."""
        buffer = ctypes.create_string_buffer(_INFO.pack(table.encode(), 0, *[0] * 2 * _HOOKS, 0, 0), _INFO.size)
        self._ask(table, _GET_INFO, buffer)
        _, valid_hooks, *rest = _INFO.unpack(buffer)
        return TableInfo(valid_hooks, tuple(rest[:_HOOKS]), tuple(rest[_HOOKS : 2 * _HOOKS]), rest[-2], rest[-1])

    def read(self, table: str) -> tuple[TableInfo, bytes]:
        """Return a table's outline and its entries. Raises KernelRefusedError."""
        info, view = self.view(table)
        return info, view.tobytes()

    def view(self, table: str, hurry: Callable[[], bool] = lambda: False) -> tuple[TableInfo, memoryview]:
        """Return a table's outline and its entries as the kernel has written them.

        The interpreter lock is free while the kernel copies. The memory is mapped for this alone, so that all of it
        goes back as soon as nobody looks at it any more.

        Raises KernelRefusedError; with EFAULT, if somebody told it to `make_way`, or is about to, as ``hurry`` says.
        """
        for _ in range(_READ_ATTEMPTS):
            info = self.info(table)
            mapped = mmap.mmap(-1, ENTRIES_HEADER + info.size)
            mapped[: NAME_SIZE + 4] = struct.pack(f"={NAME_SIZE}sI", table.encode(), info.size)
            buffer = (ctypes.c_char * len(mapped)).from_buffer(mapped)
            try:
                with self._copying_to(table, ctypes.addressof(buffer), len(mapped)):
                    if hurry():  # whoever is to hurry only from here on finds this memory, and takes it away
                        raise KernelRefusedError(table, errno.EFAULT, os.strerror(errno.EFAULT), "reading it")
                    self._ask(table, _GET_ENTRIES, buffer)
            except KernelRefusedError as err:
                if err.code != errno.EAGAIN:  # its size changed since it was asked for
                    raise
            else:
                return info, memoryview(mapped)[ENTRIES_HEADER:]
        raise KernelRefusedError(table, errno.EAGAIN, os.strerror(errno.EAGAIN), "reading it")

    def make_way(self) -> None:
        """End a `view` that is under way in another thread, which then fails.

        The kernel keeps a table locked while it copies it, half a second for 400,000 entries, and cannot be told to
        stop. But it does where there is nothing to copy to.
        """
        with self._copying_lock:
            for place in self._copying:
                _mprotect(*place, _PROT_NONE)
            self._copying.clear()

    @contextmanager
    def _copying_to(self, table: str, address: int, length: int) -> Iterator[None]:
        """While the block runs, `make_way` takes this memory away. Raises KernelRefusedError if it has.

        Also where the kernel had copied all of it by then: whoever looked at that memory would be the end of kproxy.
        """
        place = address, length
        with self._copying_lock:
            self._copying.add(place)
        try:
            yield
        finally:
            with self._copying_lock:  # from here on the memory may be somebody else's
                taken_away = place not in self._copying
                self._copying.discard(place)
            if taken_away:
                raise KernelRefusedError(table, errno.EFAULT, os.strerror(errno.EFAULT), "reading it")

    def _ask(self, table: str, option: int, buffer: "ctypes.Array[ctypes.c_char]") -> None:
        length = ctypes.c_uint(len(buffer))
        if _getsockopt(self._socket.fileno(), self._level, option, buffer, ctypes.byref(length)) != 0:
            code = ctypes.get_errno()
            raise KernelRefusedError(table, code, os.strerror(code), "reading it")
