"""SIGTERM, SIGINT and SIGHUP, from the first moment to the last.

They must never meet Python's default. As process 1 of a container, kproxy would not be ended at all by a signal that
nobody handles; elsewhere it would end without a word, and at SIGHUP, too. So they are handled before anything else is
done, and through a change of the configuration; what they are to do is told to whichever loop is at work.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Protocol

from kproxy import logs

log = logs.get("daemon")

_STOP_SECONDS = 0.9
RESYNC = "comparing all rules with the kernel's, and all objects with their source's"


class Loop(Protocol):
    """What signals are for. Both methods may be called from a signal handler."""

    def stop(self) -> None:
        """End soon."""

    def resync(self) -> None:
        """Compare all rules with the kernel's, and all objects with the API server's."""


class Refreshable(Protocol):
    """Where objects come from."""

    def refresh(self) -> None:
        """Read everything anew, soon."""


class Both:
    """A `Loop` of the loop itself and of the source of its objects: what is to be compared is so at both ends."""

    def __init__(self, loop: Loop, source: Refreshable) -> None:
        self._loop = loop
        self._source = source

    def stop(self) -> None:
        """See `Loop`."""
        self._loop.stop()

    def resync(self) -> None:
        """See `Loop`. In another thread: a signal's handler must not wait for what the one it interrupts may hold."""
        self._loop.resync()
        threading.Thread(target=self._source.refresh, name="refresh", daemon=True).start()


class Signals:
    """What signals have asked for so far, and who is to do it."""

    def __init__(self, resync: str = RESYNC) -> None:
        """``resync`` is what SIGHUP makes the log say."""
        self.stopping = False
        """Whether kproxy has been told to stop."""
        self.stop_seconds = _STOP_SECONDS
        """How long that may take."""
        self._resync = resync
        self._loop: Loop | None = None

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Handle them while the block runs. In the main thread only, as Python has it."""
        handlers = {signal.SIGTERM: self._stop, signal.SIGINT: self._stop, signal.SIGHUP: self._compare}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def steering(self, loop: Loop) -> Iterator[None]:
        """Pass them on to a loop while the block runs. One that is late for a stop gets it at once."""
        self._loop = loop
        if self.stopping:
            loop.stop()
        try:
            yield
        finally:
            self._loop = None

    def _compare(self, _number: int, _frame: FrameType | None) -> None:
        log.info(self._resync, signal="SIGHUP")
        if self._loop is not None:  # else its first sync, which compares everything, is still to come
            self._loop.resync()

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        log.info("stopping", signal=signal.Signals(number).name)
        self.stopping = True
        if self._loop is not None:
            self._loop.stop()
        # A first sync of a large cluster takes longer than whoever stops us wants to wait. It can be left at any point:
        # each table is either as before or as it shall be, and the next start does the rest.
        impatience = threading.Timer(self.stop_seconds, os._exit, (0,))
        impatience.daemon = True
        impatience.start()
