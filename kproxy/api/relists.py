"""When to list again that which should need no list: on suspicion, on request, and never in step with other nodes.

Lists are what costs an API server most. So what is certain (its history went back) is listed again within seconds,
spread at random, and again after `Timing.idle` at the earliest; a mere suspicion (a watch that was opened again and
brought nothing) is once in three to six times as long.
"""

import enum
import random
import time
from collections.abc import Callable
from typing import NamedTuple

_SPREAD = 1 / 9
_SUSPICIONS_APART = (3.0, 6.0)
"""Shares of the time after which a watch is silent."""


class Reason(enum.StrEnum):
    """Why everything was listed again; the values are those of a metric's label."""

    EXPIRED = "expired"
    """The server had forgotten the place: 410."""
    HISTORY = "history"
    """The server's history was not the one that was known: time ran backwards."""
    SILENCE = "silence"
    """A watch that was opened again brought nothing where bookmarks were due."""
    REFUSED = "refused"
    """The watch failed again and again from that place."""
    REQUESTED = "requested"
    """Somebody asked for it: SIGHUP."""


class Due(NamedTuple):
    """A list that is to be made."""

    at: float
    reason: Reason
    text: str
    watch_on: bool
    """Whether a watch may still prove it needless."""


class Relists:
    """Decides when to list again. ``idle``: after how many seconds a watch counts as silent. For one thread."""

    def __init__(
        self,
        idle: float,
        clock: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._idle = idle
        self._clock = clock
        self._rand = rand
        self._listed_at = self._suspected_at = float("-inf")
        self._apart = 0.0
        self._due: Due | None = None

    @property
    def spread(self) -> float:
        """Over how many seconds nodes that come to suspect at the same time are spread; 10 s with the defaults."""
        return self._idle * _SPREAD

    def listed(self) -> None:
        """Take note of a list: there is nothing left to suspect."""
        self._listed_at = self._clock()
        if self._due is not None:
            self._suspected_at = self._listed_at
        self._due = None
        low, high = _SUSPICIONS_APART
        self._apart = self._idle * (low + (high - low) * self._rand())

    def suspect(self, reason: Reason, text: str, *, watch_on: bool = False) -> None:
        """Have a list made as soon as that may be; ``watch_on``: but leave a watch time to clear it up."""
        earliest = self._listed_at + self._apart if reason is Reason.SILENCE else self._suspected_at + self._idle
        at = max(self._clock() + watch_on * self.spread, earliest) + self._rand() * self.spread
        if self._due is None or at < self._due.at:
            self._due = Due(at, reason, text, watch_on)

    def withdraw(self) -> None:
        """Take a suspicion back: it was unfounded."""
        self._due = None

    def due(self) -> Due | None:
        """Return the list that is to be made now."""
        return self._due if self._due is not None and self._due.at <= self._clock() else None

    def pause(self) -> float:
        """Return how long to wait for the next list, if that is so short that a watch is not worth it; else nothing."""
        wait = self.patience()
        return wait if self._due is not None and not self._due.watch_on and wait <= self.spread else 0.0

    def patience(self) -> float:
        """Return how many seconds a watch may be silent: no longer than to the next list."""
        return self._idle if self._due is None else min(self._idle, max(0.0, self._due.at - self._clock()))
