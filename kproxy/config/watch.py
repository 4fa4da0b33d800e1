"""Notices that the configuration file has changed.

kube-proxy exits then and counts on being restarted. kproxy takes the new configuration up by itself, because it may run
where nobody restarts it; and one that can't be used changes nothing but the log.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from kproxy import logs
from kproxy.config import ConfigError
from kproxy.faults.containment import contained

log = logs.get("config")

LOOK_SECONDS = 1.0


C = TypeVar("C")


class ConfigWatch(Generic[C]):
    """Reads the configuration again and again, in a thread of its own, until it is another one."""

    def __init__(
        self, current: C, read: Callable[[], C], changed: Callable[[], None], hindrance: Callable[[], str] = str
    ) -> None:
        """Watch for ``read`` to return something else than ``current``; then call ``changed``, once.

        ``hindrance`` says why no other can be taken up, if that is so: then nothing is called till it is so no more.
        """
        self.new: C | None = None
        """The new configuration, once there is one."""
        self._current = current
        self._read = read
        self._changed = changed
        self._hindrance = hindrance
        self._problem = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="config-watch", daemon=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Watch while the block runs."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join(LOOK_SECONDS)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            with contained("config watch"):
                if self._look():
                    return

    def _look(self) -> bool:
        """Read the configuration; return whether it is another one, which is told then."""
        try:
            config = self._read()
        except ConfigError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                for line in error.problems:
                    log.error("the new configuration can't be used; the one in force stays", problem=line)
            return False
        problem = "" if config == self._current else self._hindrance()
        if problem and problem != self._problem:
            log.error("the new configuration can't be taken up; the one in force stays", problem=problem)
        self._problem = problem
        if problem or config == self._current:
            return False
        self.new = config
        self._changed()
        return True
