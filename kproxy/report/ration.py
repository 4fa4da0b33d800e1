"""How often something dear may be read: pure arithmetic on times that are handed in (monotonic seconds).

Most kernels tell the counters of most clusters for a few milliseconds, and then each scrape gets those of its moment. A
legacy table of 400,000 entries takes a third of a second of the kernel's, iptables-nft ten times that; such readings
keep to a share of a core, and who asks in between is shown the figures of the last one.
"""

from kproxy.conntrack.budget import Budget

SHARE = 0.003
"""Of one core, for readings that are dear."""
CHEAP_SECONDS = 0.1
"""Of processor time: a reading that took no more may be repeated at will."""
SAVED_SECONDS = 1.0
"""Of processor time: what is saved up at most while nobody reads, and at the start."""


class Ration:
    """Says whether to read again."""

    def __init__(self, now: float) -> None:
        self._budget = Budget(SHARE, now, SAVED_SECONDS)
        self._cheap = True

    def allows(self, now: float) -> bool:
        """Tell whether a reading may begin."""
        return self._cheap or self._budget.delay(now) == 0.0

    def spent(self, now: float, cpu_seconds: float) -> None:
        """Note what a reading took."""
        self._cheap = cpu_seconds <= CHEAP_SECONDS
        if not self._cheap:
            self._budget.spent(now, cpu_seconds)
