"""Connections per service and endpoint, for /metrics: read from the kernel when asked for, kept over restarts.

They are kept before they are shown: a total that fell by a little, because kproxy was killed and went on from an older
one, would look to Prometheus like a counter that began at zero and has counted all of it since.
"""

import threading

from kproxy import logs
from kproxy.proxier.loop import Proxier
from kproxy.report.metrics import ConnectionCounters, Reading, Store

log = logs.get("connections")


class ConnectionReader:
    """Adds up what the rules count. May be asked from any thread."""

    def __init__(self, proxier: Proxier, counters: ConnectionCounters, store: Store | None) -> None:
        self._proxier = proxier
        self._counters = counters
        self._store = store
        self._lock = threading.Lock()
        if store is not None:
            try:
                store.load(counters)
            except (OSError, ValueError) as error:
                log.warning("the totals of before can't be read; counting begins anew", problem=error)

    def read(self) -> ConnectionCounters:
        """Return the totals as of now, after they have been kept for the next start."""
        with self._lock:
            for family, counts in self._proxier.counts().items():
                reading = Reading(family, counts, counts.services.keys())
                self._counters.fold(reading)
            self._save()
            return self._counters

    def _save(self) -> None:
        if self._store is None:
            return
        try:
            self._store.save(self._counters)
        except OSError as error:
            log.warning("the totals can't be kept for the next start", problem=error)
