"""When to sync: at once after quiet, and under churn never more than a share of one core.

What else has its cost and is asked for again and again keeps to the same; `longest` is for that.

kube-proxy waits a fixed second between syncs, whether the last took a millisecond or three seconds. Here the wait is
proportional to what the last sync cost, so that a small cluster is never kept waiting and a large one never starves
the node. Pure arithmetic on times that are handed in (monotonic seconds).
"""

from math import inf

FIRST_RETRY = 0.2
MAX_RETRY = 30.0


class Pacer:
    """Says how long to wait before the next sync."""

    def __init__(self, cpu_share: float, min_period: float = 0.0, credit: float = 0.0, longest: float = inf) -> None:
        """Make a pacer that spends at most ``cpu_share`` of one core (0 to 1].

        ``min_period`` are the seconds there shall be at least between the starts of two syncs. ``credit`` are seconds
        of waiting that may be owed for a while: a change right behind an expensive sync need not wait then. ``longest``
        are the seconds that nothing is to wait longer than, whatever was spent.
        """
        self._credit = credit
        self._longest = longest
        self._paid_at = float("-inf")
        """When everything spent so far has been waited for."""
        self._idle_factor = 1 / cpu_share - 1
        self._min_period = min_period
        self._not_before = float("-inf")
        self._failures = 0

    def delay(self, now: float) -> float:
        """Return for how many seconds from ``now`` no sync may start."""
        return max(0.0, self._not_before - now)

    def succeeded(self, started: float, now: float, cpu_seconds: float) -> None:
        """Note a sync that went well and how much processor time it took."""
        self._failures = 0
        self._paid_at = min(max(self._paid_at, now) + cpu_seconds * self._idle_factor, now + self._longest)
        self._not_before = max(self._paid_at - self._credit, started + self._min_period)

    def failed(self, now: float) -> None:
        """Note a failure; the wait doubles from one to the next."""
        self._not_before = now + min(FIRST_RETRY * 2**self._failures, MAX_RETRY)
        self._failures = min(self._failures + 1, 16)
