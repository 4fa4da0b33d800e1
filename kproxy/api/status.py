"""How a watch is doing, for health checks and metrics: above all, how long ago it last gave a sign of life.

kube-proxy's health check does not know the age of its watches, and clusters have run for days on rules that had stopped
following (kubernetes/kubernetes#76338).
"""

import time
from collections.abc import Mapping

import msgspec
from msgspec import field

from kproxy.api.kinds import ObjectKind


class WatchStatus(msgspec.Struct):
    """Written by the one thread that watches, read by any other: each attribute is replaced as a whole."""

    kind: ObjectKind
    synced: bool = False
    """Whether a complete set of objects has been handed over at least once."""
    last_sign_of_life: float = field(default_factory=time.monotonic)
    """When the source last proved to be alive (a list page, an event, a bookmark), on the monotonic clock."""
    failing_since: float | None = None
    """Since when nothing works (monotonic clock); None while the watch runs or is being renewed in good order."""
    error: str | None = None
    """One line that says what is wrong; None while nothing is."""
    lists: int = 0
    """Complete sets handed over."""
    watches: int = 0
    """Watches opened; one every five to ten minutes is normal."""
    failures: int = 0
    """Attempts that ended in an error."""
    relists: Mapping[str, int] = field(default_factory=dict)
    """How often everything was listed again, by reason (`kproxy.api.watch.relists.Reason`)."""
    events: int = 0
    """Changes received."""
    bytes_received: int = 0

    def age(self) -> float:
        """Seconds since the last sign of life."""
        return time.monotonic() - self.last_sign_of_life

    def alive(self) -> None:
        """Note a sign of life."""
        self.last_sign_of_life = time.monotonic()

    def recovers(self) -> None:
        """Note that nothing fails any more. That a watch was opened is no sign of life yet: it may stay silent."""
        self.failing_since = None
        self.error = None

    def works(self) -> None:
        """Note that all is well (again)."""
        self.alive()
        self.recovers()

    def listed_again(self, reason: str) -> None:
        """Note that a complete set was asked for again."""
        self.relists = {**self.relists, reason: self.relists.get(reason, 0) + 1}

    def fails(self, error: str) -> None:
        """Note an attempt that failed. ``failing_since`` stays with the first of a row of failures."""
        self.failures += 1
        self.error = error
        if self.failing_since is None:
            self.failing_since = time.monotonic()
