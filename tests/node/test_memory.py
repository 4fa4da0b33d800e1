"""What a process keeps for itself, and when it looks for garbage; in processes of their own: there is no way back."""

import subprocess
import sys

import pytest

from kproxy.node import memory
from kproxy.node.memory import Upkeep

POOLS = """
import ctypes, threading
from kproxy.node import memory
{before}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = libc.free.argtypes = None
def take():
    libc.malloc.argtypes = [ctypes.c_size_t]
    places.append(libc.malloc(1 << 12))
    stay.wait()
places, stay = [], threading.Barrier(7)
threads = [threading.Thread(target=take) for _ in range(6)]
for thread in threads: thread.start()
stay.wait()
for thread in threads: thread.join()
print(max(places) - min(places))
"""
"""Prints how far from each other six threads find memory, in bytes: each pool but the first has 64 MiB of its own."""


def spread(before: str) -> int:
    command = [sys.executable, "-c", POOLS.format(before=before)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_all_threads_share_one_pool() -> None:
    assert spread("") > 1 << 25 > spread("memory.use_one_pool()")


TABLE = """
import ctypes
from kproxy.node import memory
{before}
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.free(libc.malloc({size}))
place = libc.malloc({size})
heap = next(line.split()[0] for line in open("/proc/self/maps") if "[heap]" in line)
first, end = (int(part, 16) for part in heap.split("-"))
print(first <= place < end)
"""
"""Prints whether the second piece of a size is in the pool, where small ones settle beside it."""


KEPT = "memory.use_one_pool(); memory.keep_pieces({})"
ROOM_FOR_MESSAGES, SMALL_TABLE = 1 << 20, 2 << 20


@pytest.mark.parametrize(
    ("before", "size", "expected"),
    [
        ("", SMALL_TABLE, "True"),
        ("memory.use_one_pool()", SMALL_TABLE, "False"),
        ("memory.use_one_pool()", ROOM_FOR_MESSAGES, "True"),
        (KEPT.format(2 << 20), SMALL_TABLE, "False"),
        pytest.param(KEPT.format(16 << 20), SMALL_TABLE, "True", id="of-a-large-cluster"),
    ],
)
def test_tables_stay_out_of_the_pool_but_those_that_take_long_to_make_anew(
    before: str, size: int, expected: str
) -> None:
    command = [sys.executable, "-c", TABLE.format(before=before, size=size)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == expected


GARBAGE = """
import gc
from kproxy.node import memory
looks = []
gc.callbacks.append(lambda phase, _: looks.append(phase))
def objects():
    kept = [[] for _ in range(100_000)]
memory.begin()
objects()
print(len(looks))
memory.settle()
objects()
print(len(looks) > 0, gc.get_freeze_count() > 0)
"""


def test_no_garbage_is_looked_for_till_all_is_settled() -> None:
    command = [sys.executable, "-c", GARBAGE]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["0", "True", "True"]


LEFT = """
import gc, types, weakref
from kproxy.node import memory
def engine():
    one, other = types.ModuleType("engine"), types.ModuleType("part")
    one.other, other.one = other, one
    return weakref.ref(one)
{before}
gone = engine()
kept = [[]]
{settle}
memory.let_go()
print(gone() is None, gc.get_freeze_count() > 0, gc.isenabled())
"""
"""Something that hangs together in circles is left when all is settled, as an engine after a long first sync is."""


@pytest.mark.parametrize(
    ("settle", "expected"), [("memory.settle()", "True True True"), ("", "True False False")], ids=["settled", "before"]
)
def test_what_is_left_is_let_go_of_and_what_stays_is_as_settled_as_it_was(settle: str, expected: str) -> None:
    command = [sys.executable, "-c", LEFT.format(before="memory.begin()", settle=settle)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.strip() == expected


def given_back(monkeypatch: pytest.MonkeyPatch, seconds: int, every: int) -> list[int]:
    """When memory is given back within so many seconds, if a sync ends ``every`` so many, and once in the beginning."""
    now, found = 0, list[int]()
    monkeypatch.setattr(memory, "give_back", lambda: found.append(now))
    upkeep = Upkeep(lambda: float(now))
    for now in range(seconds):
        if now % every == 0:
            upkeep.used()
        upkeep.idle()
    return found


def test_memory_is_given_back_once_it_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    assert given_back(monkeypatch, seconds=100, every=1000) == [3]


def test_memory_is_given_back_where_it_never_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a cluster where something changes every second: there it would be kept for ever, and more of it."""
    assert given_back(monkeypatch, seconds=100, every=1) == [31, 62, 93]
