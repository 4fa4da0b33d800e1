"""Giving memory back to the system.

libiptc's copies of tables and libnftables' parsed scripts come and go with each change, as many small pieces, and the C
library keeps what is freed in case it is wanted again: a fifth of the process' size in a large cluster.
"""

import ctypes

_M_ARENA_MAX = -8  # malloc.h


def give_back() -> None:
    """Have the C library return what it keeps; takes some milliseconds. Does nothing where it is not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def use_one_pool() -> None:
    """Have the C library keep one pool for all threads, which is to be said before there are any.

    By itself it makes one for each thread (malloc's *arenas*, M_ARENA_MAX in mallopt(3)), lest they wait for each
    other. Python's threads take turns anyway, and what each of a dozen pools keeps for its own next time comes to a
    sixth of a small daemon within an hour.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_ARENA_MAX, 1)
