"""Waiting for what threads do, as `hack.lab.until` waits for the lab: a deadline ends only what has failed."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hack.lab.waiting import pause

PATIENCE = 60.0
"""Seconds for what ends the wait; on a machine that does other things, it may take its time."""


def eventually(holds: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until something holds."""
    began = time.monotonic()
    while not holds():
        waited = time.monotonic() - began
        assert waited < seconds, f"did not come true within {seconds:g} s"
        time.sleep(pause(waited))


@contextmanager
def running(run: Callable[[], None], stop: Callable[[], None]) -> Iterator[None]:
    """Within the block ``run`` runs in a thread; ``stop`` must then end it."""
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()
