"""Waiting for something to become true, with a deadline instead of a guess."""

import time
from collections.abc import Callable
from typing import TypeVar

from hack.lab.errors import LabError

T = TypeVar("T")
PAUSE = 0.01  # seconds between two looks


def until(look: Callable[[], T], timeout: float, what: str) -> T:
    """Call `look` until it returns something true, and return that.

    Raises LabError after `timeout` seconds; `what` says what was waited for, and the last thing seen is told with it.
    """
    deadline = time.monotonic() + timeout
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout:g} s for {what}; last seen: {seen!r}")
        time.sleep(PAUSE)
    return seen
