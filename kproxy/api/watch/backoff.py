"""How long to wait before trying again: exponentially longer, and never in step with the other nodes.

An API server that comes back is met by the kproxy of every node at once. The figures are client-go's: from 0.8 s,
doubling up to 30 s, each drawn out by a random share of up to 100 %.

A watch that has lasted for a while and breaks off is another matter: it is a connection that ended, and mostly others
are still to be had. client-go opens the next watch at once then (streamwatcher.go takes an unexpected EOF for an end in
good order), and so does kproxy, but for a moment that keeps nodes out of step. If that fails, the delays begin.
"""

import random
from collections.abc import Callable

FIRST_SECONDS = 0.8
LAST_SECONDS = 30.0
AT_ONCE_SECONDS = 0.05
"""What "at once" may take at most."""
LONGEST_ASKED_SECONDS = 120.0
"""A server may ask for patience, but not for more than this."""


class Backoff:
    """The delays of one row of failures; `reset` ends the row."""

    def __init__(
        self,
        first: float = FIRST_SECONDS,
        last: float = LAST_SECONDS,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._first = first
        self._last = last
        self._rand = rand
        self.failures = 0

    def reset(self) -> None:
        """Begin anew: something worked."""
        self.failures = 0

    def at_once(self) -> float:
        """Return how many seconds to wait where nothing says that the server could not be had right now."""
        return min(AT_ONCE_SECONDS, self._first) * self._rand()

    def next(self, asked: float | None = None) -> float:
        """Return how many seconds to wait after one more failure; ``asked`` is what the server said (Retry-After)."""
        delay = min(self._last, self._first * 2.0 ** min(self.failures, 60))
        self.failures += 1
        drawn_out = delay * (1 + self._rand())
        if asked is None:
            return drawn_out
        return max(drawn_out, min(asked, LONGEST_ASKED_SECONDS) + self._first * self._rand())
