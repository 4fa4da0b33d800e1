"""Giving memory back to the system.

libiptc's copies of tables and libnftables' parsed scripts come and go with each change, as many small pieces, and the C
library keeps what is freed in case it is wanted again: a fifth of the process' size in a large cluster.
"""

import ctypes


def give_back() -> None:
    """Have the C library return what it keeps; takes some milliseconds. Does nothing where it is not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
