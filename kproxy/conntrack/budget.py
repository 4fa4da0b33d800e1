"""How much processor time may go into looking at conntrack: pure arithmetic on times that are handed in.

A single change is seen to at once, since a client waits; it is only under churn that looks have to keep to their share.
So what is not used is saved up, to a limit: a bucket of tokens, where a token is processor time.
"""

BURST_SECONDS = 0.3
"""Of processor time. A look takes some 15 ms where the table is nearly empty, and 60 ms with 200,000 entries."""
FIRST_RETRY = 0.2
MAX_RETRY = 30.0


class Budget:
    """Says how long to wait before the next look. All times are monotonic seconds."""

    def __init__(self, share: float, now: float, burst: float = BURST_SECONDS) -> None:
        """Spend no more than ``share`` of one core (0 to 1] in the long run, and save up to ``burst`` seconds of it."""
        self._share = share
        self._burst = burst
        self._saved = burst
        self._counted_at = now
        self._retry_at = now
        self._failures = 0

    def delay(self, now: float) -> float:
        """Return for how many seconds from ``now`` not to look."""
        overdrawn = max(0.0, -self._saved_by(now))
        return max(overdrawn / self._share, self._retry_at - now, 0.0)

    def spent(self, now: float, cpu_seconds: float) -> None:
        """Note what a look took that went well."""
        self._pay(now, cpu_seconds)
        self._failures = 0

    def failed(self, now: float, cpu_seconds: float) -> None:
        """Note a look that failed; the wait doubles from one to the next."""
        self._pay(now, cpu_seconds)
        self._retry_at = now + min(FIRST_RETRY * 2**self._failures, MAX_RETRY)
        self._failures = min(self._failures + 1, 16)

    def _pay(self, now: float, cpu_seconds: float) -> None:
        self._saved = self._saved_by(now) - cpu_seconds
        self._counted_at = now

    def _saved_by(self, now: float) -> float:
        return min(self._burst, self._saved + (now - self._counted_at) * self._share)
