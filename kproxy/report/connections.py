"""Connections per service and endpoint, for /metrics: read from the kernel when asked for, kept over restarts.

They are kept before they are shown: a total that fell by a little, because kproxy was killed and went on from an older
one, would look to Prometheus like a counter that began at zero and has counted all of it since.
"""

import threading
from collections.abc import Collection, Mapping

from kproxy import logs
from kproxy.proxier.loop import Proxier
from kproxy.report.metrics import ConnectionCounters, EndpointKey, Reading, Store
from kproxy.report.page.board import Totals
from kproxy.state.model import ServicePortName

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
            self._fold()
            self._save()
            return self._counters

    def count(self) -> Mapping[ServicePortName, Totals] | None:
        """Return the totals as of now, for somebody who only looks how they grow; None where they can't be read."""
        with self._lock:
            if not self._fold():
                return None
            services, refused, dropped = self._counters.services, self._counters.rejected, self._counters.dropped
        names = services.keys() | refused.keys() | dropped.keys()
        return {name: Totals(services.get(name, 0), refused.get(name, 0), dropped.get(name, 0)) for name in names}

    def endpoints(self, names: Collection[ServicePortName]) -> Mapping[EndpointKey, int]:
        """Return what the endpoints of some service ports had got when totals were read last."""
        with self._lock:
            return self._counters.endpoints_of(names)

    def _fold(self) -> bool:
        found = self._proxier.counts()
        for family, counts in found.items():
            self._counters.fold(Reading(family, counts, counts.services.keys()))
        return bool(found)

    def _save(self) -> None:
        if self._store is None:
            return
        try:
            self._store.save(self._counters)
        except OSError as error:
            log.warning("the totals can't be kept for the next start", problem=error)
