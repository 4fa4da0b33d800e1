"""How kproxy's memory is looked after: what Python collects and when, and what is given back to the system.

Python counts references, and besides looks for objects that hang together in circles; by its own measure ever again
while modules and a cluster are loaded, of which nothing is garbage. That took a sixth of the start. Afterwards what is
there is there to stay: it is not looked through again.

libiptc's copies of tables and libnftables' parsed scripts come and go with each change, as many small pieces, and the C
library keeps what is freed in case it is wanted again: a fifth of the process' size in a large cluster.
"""

import ctypes
import gc
import time
from collections.abc import Callable

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h
_LARGE_BYTES = 1280 * 1024
"""What takes more is no part of the pool: it goes back to the system when it is freed. What netlink's messages are read
into, a mebibyte at most, does so many times in a change, and to map it anew each time has a change take a quarter
longer in mode nftables."""
_TOO_LARGE_BYTES, _MOST_BYTES = 4 * 1024**2, 32 * 1024**2
"""Pieces that are better kept than made anew each time, and the most that glibc keeps."""
_WORKING = (10_000, 10, 10)
"""After how many new objects Python looks through the young ones, and how many such looks make one for the older."""
_QUIET_SECONDS = 2.0
"""After so long without a sync it is time to tidy up."""
_MOST_SECONDS = 30.0
"""Where there is always another sync it is done so often: what is kept grows from one to the next, by pieces that don't
fit."""


def begin() -> None:
    """Look for no garbage till all is settled: a daemon starts, or takes up another configuration.

    Who does look meanwhile, for what he has just made, is spared all that was there before.
    """
    gc.disable()
    gc.freeze()


def settle() -> None:
    """What is there now is there to stay; look for garbage in what comes."""
    gc.freeze()
    gc.set_threshold(*_WORKING)
    gc.enable()


def let_go() -> None:
    """Look through everything, after much of what was there to stay is gone; and give it back.

    What is left is there to stay as before.
    """
    settled = gc.isenabled()
    gc.unfreeze()
    gc.collect()
    if settled:
        gc.freeze()
    give_back()


def give_back() -> None:
    """Have the C library return what it keeps; takes some milliseconds. Does nothing where it is not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class Upkeep:
    """Has memory given back when nobody waits for anything, or where there always is something, now and then."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._used_at: float | None = None
        """When memory was used last, until it has been given back after that."""
        self._given_at = clock()

    def used(self) -> None:
        """Note that memory was used for a while: a sync has ended."""
        self._used_at = self._clock()

    def idle(self) -> None:
        """Give back what has been used, if it is time for that. To be called again and again."""
        now = self._clock()
        if self._used_at is not None and (now - self._used_at > _QUIET_SECONDS or now - self._given_at > _MOST_SECONDS):
            self._used_at, self._given_at = None, now
            give_back()


def keep_pieces(size: int) -> None:
    """Have pieces of so many bytes kept in the pool if they are large: they are wanted again, and soon.

    It is the kernel that makes each page anew where they are not, of the copies of a table of 15 MB for a sixth of the
    processor time that a change of it takes. They do lie between small ones then, which is little of such a process.
    """
    if size > _TOO_LARGE_BYTES:
        _set_option(_M_MMAP_THRESHOLD, _MOST_BYTES)


def use_one_pool() -> None:
    """Have the C library keep one pool for all threads, of small pieces; to be said before there are any threads.

    By itself it makes one for each thread (malloc's *arenas*, M_ARENA_MAX in mallopt(3)), lest they wait for each
    other. Python's threads take turns anyway, and what each of a dozen pools keeps for its own next time comes to a
    sixth of a small daemon within an hour.

    And by itself it puts into the pool whatever is no larger than the largest piece so far that was given back
    (M_MMAP_THRESHOLD): tables of megabytes then, between which small ones stay, so that there is never a hole for the
    next table. That was a tenth of a small daemon.
    """
    _set_option(_M_ARENA_MAX, 1)
    _set_option(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def _set_option(option: int, value: int) -> None:
    """Do nothing where it is not glibc."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(option, value)
