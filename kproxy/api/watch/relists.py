"""When to list again that which should need no list: on suspicion, on request, and never in step with other nodes.

Lists are what costs an API server most. So what is certain (its history went back) is listed again within seconds,
spread at random, and again after `Timing.idle` at the earliest; a mere suspicion (a watch that was opened again and
brought nothing) is once in three to six times as long.

What no question finds out (an object made in a restored history before anybody came back to it) is found by a list
after every outage, ten to twenty minutes later, but later still where lists are large: such lists may take a kilobyte a
second of each node.
"""

import enum
import random
import time
from collections.abc import Callable
from typing import NamedTuple

_SPREAD = 1 / 9
_AFTER_OUTAGE_SECONDS = 600.0
_BYTES_PER_SECOND = 1_000
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
    OUTAGE = "outage"
    """The server was away for a while. Nothing else speaks against its history: this is to make sure."""
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
        self._size = 0
        self._dues: dict[Reason, Due] = {}

    @property
    def spread(self) -> float:
        """Over how many seconds nodes that come to suspect at the same time are spread; 10 s with the defaults."""
        return self._idle * _SPREAD

    def listed(self, size: int = 0) -> None:
        """Take note of a list of so many bytes: there is nothing left to suspect."""
        self._size = size
        self._listed_at = self._clock()
        if self._dues:
            self._suspected_at = self._listed_at
        self._dues.clear()
        low, high = _SUSPICIONS_APART
        self._apart = self._idle * (low + (high - low) * self._rand())

    def suspect(self, reason: Reason, text: str, *, watch_on: bool = False) -> None:
        """Have a list made as soon as that may be; ``watch_on``: but leave a watch time to clear it up."""
        at = self._earliest(reason, watch_on=watch_on)
        before = self._dues.get(reason)
        # An outage counts from its end, anything else from when it was first suspected.
        if before is None or at < before.at or reason is Reason.OUTAGE:
            self._dues[reason] = Due(at, reason, text, watch_on)

    def _earliest(self, reason: Reason, *, watch_on: bool) -> float:
        now = self._clock()
        if reason is Reason.OUTAGE:
            earliest = max(now + _AFTER_OUTAGE_SECONDS, self._listed_at + self._size / _BYTES_PER_SECOND)
            return earliest + self._rand() * _AFTER_OUTAGE_SECONDS
        earliest = self._listed_at + self._apart if reason is Reason.SILENCE else self._suspected_at + self._idle
        return max(now + watch_on * self.spread, earliest) + self._rand() * self.spread

    def withdraw(self, reason: Reason) -> None:
        """Take a suspicion back: it was unfounded."""
        self._dues.pop(reason, None)

    def due(self) -> Due | None:
        """Return the list that is to be made now."""
        due = self._next()
        return due if due is not None and due.at <= self._clock() else None

    def pause(self) -> float:
        """Return how long to wait for the next list, if that is so short that a watch is not worth it; else nothing."""
        due = self._next()
        wait = self.patience()
        return wait if due is not None and not due.watch_on and wait <= self.spread else 0.0

    def patience(self) -> float:
        """Return how many seconds a watch may be silent: no longer than to the next list."""
        due = self._next()
        return self._idle if due is None else min(self._idle, max(0.0, due.at - self._clock()))

    def _next(self) -> Due | None:
        return min(self._dues.values(), default=None)
