"""Reads beside the loop: a reading is of use if no rule was written meanwhile, and nobody is kept waiting to find out.

The loop marks when it writes. Who reads in another thread notes the number before, reads without any lock, and looks
afterwards whether the number is still the same.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Steady:
    """Tells whether rules stayed as they were."""

    def __init__(self) -> None:
        self._writing = threading.Lock()
        self._number = 0

    @contextmanager
    def written(self) -> Iterator[None]:
        """Hold this while rules are written."""
        with self._writing:
            self._number += 1
            yield

    def wait(self, seconds: float) -> int | None:
        """Return the number of the rules in force; None if they have been being written for so long."""
        if not self._writing.acquire(timeout=seconds):
            return None
        try:
            return self._number
        finally:
            self._writing.release()

    def moved(self, number: int) -> bool:
        """Tell, without any lock, whether others are being written, or have been, than those of that number."""
        return self._number != number

    @contextmanager
    def still(self, number: int) -> Iterator[bool]:
        """Yield whether the rules are still those of that number; within, which is to be short, they remain so."""
        if not self._writing.acquire(blocking=False):
            yield False
            return
        try:
            yield self._number == number
        finally:
            self._writing.release()
