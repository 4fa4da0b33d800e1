"""Gives back the memory that libiptc has read a table into, as soon as it has taken the table apart.

libiptc copies each rule out of what it has read, never looks there again (libiptc.c: `parse_table` and a dump for
debugging are all that do), and keeps it until the handle is freed. By then it has laid the table out once more, for the
kernel: of a table of 85 MB that is a third copy, in which nobody takes an interest.

Where the bytes are is a pointer in libiptc's handle, which is no interface. So it is looked for, and known by what it
points to: the table's name and size stand before the entries (struct ipt_get_entries). What does not look like that is
left alone. The pages are given back, not the piece of memory: libiptc frees that itself.
"""

import ctypes
import mmap
import os
import struct

from kproxy.backends.iptables.kernel.legacy.tableinfo import ENTRIES_HEADER, NAME_SIZE

WORTH_IT = 1 << 22
"""Bytes; a smaller table does no harm."""
_POINTER = struct.Struct("=Q")
_HEADER = struct.Struct(f"={NAME_SIZE}sI")
_MADV_DONTNEED = 4  # mman.h

_libc = ctypes.CDLL(None)
_size_of_piece = getattr(_libc, "malloc_usable_size", None)
"""Tells how large a piece of memory is; not to be had with every C library."""
if _size_of_piece is not None:
    _size_of_piece.argtypes, _size_of_piece.restype = (ctypes.c_void_p,), ctypes.c_size_t
_madvise = _libc.madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def drop_entries(handle: int, table: str, size: int) -> bool:
    """Give back the pages of a table's ``size`` bytes of entries, and tell whether that was done.

    ``handle`` is the address of libiptc's, which has just been made.
    """
    if size < WORTH_IT or _size_of_piece is None or _POINTER.size != ctypes.sizeof(ctypes.c_void_p):
        return False
    try:
        place = _find(ctypes.string_at(handle, _size_of_piece(handle)), table.encode(), size)
    except OSError:  # a /proc that is not to be had
        return False
    if place is None:
        return False
    first = -(-(place + ENTRIES_HEADER) // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (place + ENTRIES_HEADER + size) // mmap.PAGESIZE * mmap.PAGESIZE
    return bool(_madvise(first, last - first, _MADV_DONTNEED) == 0)


def _find(handle: bytes, table: bytes, size: int) -> int | None:
    """Return where the bytes begin that a pointer in the handle leads to, if any does."""
    memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)  # where nothing is, reading is an error there
    try:
        for (place,) in _POINTER.iter_unpack(handle[: len(handle) // _POINTER.size * _POINTER.size]):
            if _leads_to(memory, place, table, size):
                return int(place)
    finally:
        os.close(memory)
    return None


def _leads_to(memory: int, place: int, table: bytes, size: int) -> bool:
    try:
        name, found = _HEADER.unpack(os.pread(memory, _HEADER.size, place))
    except (OSError, OverflowError, struct.error):
        return False
    return bool(found == size and name.partition(b"\0")[0] == table)  # behind its end there may be anything
