"""What clients asked of the server: counters, and the requests themselves, for tests to assert on.

Tests wait here too ("until the second list of services came in") instead of sleeping.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping

import msgspec


class Request(msgspec.Struct, frozen=True):
    """One request as it came in. ``resource`` and ``verb`` are empty for what is no resource (/version)."""

    method: str
    path: str
    resource: str
    verb: str
    query: Mapping[str, str]
    user_agent: str
    user: str  # "" where the credentials were refused
    headers: tuple[tuple[str, str], ...] = ()  # as they came; a name may come several times
    body: bytes = b""

    def header(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


class RequestLog:
    """All requests since the start or the last `clear`; counters are exact, the log keeps the last 10,000."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._open: Counter[str] = Counter()
        self._seen: deque[Request] = deque(maxlen=10_000)

    def add(self, request: Request) -> None:
        """Take note of a request."""
        with self._changed:
            self._counts[request.resource, request.verb] += 1
            self._seen.append(request)
            self._changed.notify_all()

    def watch_opened(self, resource: str, change: int = 1) -> None:
        """Take note that a watch stream has begun, or (``change=-1``) ended."""
        with self._changed:
            self._open[resource] += change
            self._changed.notify_all()

    def clear(self) -> None:
        """Begin anew; streams that are open stay counted as such."""
        with self._changed:
            self._counts.clear()
            self._seen.clear()

    def count(self, resource: str | None = None, verb: str | None = None) -> int:
        """How many requests there were; None means any."""
        with self._changed:
            return sum(
                count for (what, how), count in self._counts.items() if resource in (None, what) and verb in (None, how)
            )

    def seen(self, resource: str | None = None, verb: str | None = None) -> list[Request]:
        """The requests themselves, oldest first."""
        with self._changed:
            return [one for one in self._seen if resource in (None, one.resource) and verb in (None, one.verb)]

    def open_watches(self, resource: str | None = None) -> int:
        """How many watch streams are open now."""
        with self._changed:
            return sum(self._open.values()) if resource is None else self._open[resource]

    def wait(self, resource: str, verb: str | None = None, *, count: int = 1, timeout: float = 20) -> None:
        """Wait until ``count`` such requests have come in.

        Raises:
            TimeoutError: they have not, within ``timeout`` seconds.
        """
        self._wait(lambda: self.count(resource, verb) >= count, timeout, f"{count} requests to {verb} {resource}")

    def wait_open(self, resource: str, *, count: int = 1, timeout: float = 20) -> None:
        """Wait until exactly ``count`` watches of a resource are open.

        Raises:
            TimeoutError: they are not, within ``timeout`` seconds.
        """
        self._wait(lambda: self.open_watches(resource) == count, timeout, f"{count} open watches of {resource}")

    def _wait(self, met: Callable[[], bool], timeout: float, what: str) -> None:
        deadline = time.monotonic() + timeout
        with self._changed:
            while not met():
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"waited {timeout:g} s for {what}; so far: {dict(self._counts)}")
