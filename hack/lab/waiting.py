"""Waiting for something to become true, with a deadline instead of a guess."""

import time
from collections.abc import Callable
from typing import TypeVar

from hack.lab.errors import LabError

T = TypeVar("T")
PAUSE = 0.01  # seconds between two looks, at first
LONGEST_PAUSE = 0.1  # seconds
_SHARE = 20  # a twentieth of the time that has gone by: looks take the processor from what is waited for


def until(look: Callable[[], T], timeout: float, what: str) -> T:
    """Call `look` until it returns something true, and return that.

    Raises LabError after `timeout` seconds; `what` says what was waited for, and the last thing seen is told with it.
    """
    began = time.monotonic()
    while not (seen := look()):
        waited = time.monotonic() - began
        if waited > timeout:
            raise LabError(f"waited {timeout:g} s for {what}; last seen: {seen!r}")
        time.sleep(pause(waited))
    return seen


def pause(waited: float) -> float:
    """Seconds until the next look, after as many of waiting."""
    return min(LONGEST_PAUSE, max(PAUSE, waited / _SHARE))
