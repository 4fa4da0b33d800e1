"""What a process keeps for itself, and when it looks for garbage; in processes of their own: there is no way back."""

import subprocess
import sys

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
