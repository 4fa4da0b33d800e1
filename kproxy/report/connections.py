"""Connections per service and endpoint, for /metrics: read from the kernel when asked for, kept over restarts.

They are kept before they are shown: a total that fell by a little, because kproxy was killed and went on from an older
one, would look to Prometheus like a counter that began at zero and has counted all of it since.

Where reading them is dear, it is rationed, and what is shown in between is that of the last reading.
"""

import resource
import threading
import time
from collections.abc import Callable, Collection, Mapping

from kproxy import logs
from kproxy.proxier.loop import Proxier
from kproxy.report.metrics import ConnectionCounters, EndpointKey, Reading, Store
from kproxy.report.page.board import Counted, Totals
from kproxy.report.ration import Ration
from kproxy.state.model import ServicePortName

log = logs.get("connections")


def cpu_seconds() -> float:
    """Return the processor time that this thread has used so far, and that of programs that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.thread_time() + children.ru_utime + children.ru_stime


class ConnectionReader:
    """Adds up what the rules count. May be asked from any thread."""

    def __init__(
        self,
        proxier: Proxier,
        counters: ConnectionCounters,
        store: Store | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = cpu_seconds,
    ) -> None:
        """Go on from the totals in ``counters``, or where there are none yet from those in the ``store``."""
        self._proxier = proxier
        self._counters = counters
        self._store = store
        self._clock = clock
        self._cpu = cpu
        self._ration = Ration(clock())
        self._read_at: float | None = None
        self._lock = threading.Lock()
        if store is not None and counters.blank:
            try:
                store.load(counters)
            except (OSError, ValueError) as error:
                log.warning("the totals of before can't be read; counting begins anew", problem=error)

    def read(self, *, surely: bool = False) -> ConnectionCounters:
        """Return the totals as of now, or where that is dear of lately, after they have been kept for the next start.

        With ``surely`` they are of now as far as that is possible, whatever it costs.
        """
        with self._lock:
            self._look(surely=surely)
            self._counters.age = None if self._read_at is None else self._clock() - self._read_at
            return self._counters

    def count(self) -> Counted | None:
        """Return the totals as `read` does, for somebody who looks how they grow; None where there are none."""
        with self._lock:
            self._look()
            if self._read_at is None:
                return None
            at = self._read_at
            services, refused, dropped = self._counters.services, self._counters.rejected, self._counters.dropped
        names = services.keys() | refused.keys() | dropped.keys()
        return Counted(
            at, {name: Totals(services.get(name, 0), refused.get(name, 0), dropped.get(name, 0)) for name in names}
        )

    def endpoints(self, names: Collection[ServicePortName]) -> Mapping[EndpointKey, int]:
        """Return what the endpoints of some service ports had got when totals were read last."""
        with self._lock:
            return self._counters.endpoints_of(names)

    def _look(self, *, surely: bool = False) -> None:
        """Take in and keep what the rules count now, if it may be read."""
        if not surely and not self._ration.allows(self._clock()):
            return
        began = self._cpu()
        if self._fold():
            self._read_at = self._clock()
            self._save()
        self._ration.spent(self._clock(), self._cpu() - began)

    def _fold(self) -> bool:
        found = self._proxier.counts()
        for family, counts in found.items():
            self._counters.fold(Reading(family, counts))
        return bool(found)

    def _save(self) -> None:
        if self._store is None:
            return
        try:
            self._store.save(self._counters)
        except OSError as error:
            log.warning("the totals can't be kept for the next start", problem=error)
