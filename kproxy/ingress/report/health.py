"""Whether the ingress program is well: the judgement behind /healthz, /livez and /readyz.

* *Alive?* The loop turns. Nothing else counts: a restart of a container ends HAProxy with it, which may well be serving
  by its last good state, and neither an API server out of reach nor a configuration that is refused gets better by it.
* *Healthy?* Alive, HAProxy answers, changes take effect, and the watches deliver.
* *Ready?* HAProxy has been given all there is, once, and answers; and nobody has told the program to stop.

Clocks are passed in. All methods may be called from any thread.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator

from kproxy.api.status import WatchStatus
from kproxy.report.health import Verdict, dead_watches, shown_watch, timestamp

STUCK_SECONDS = 180.0
"""The loop is stuck if a turn takes longer: HAProxy may check a large configuration for a minute."""
LATE_SECONDS = 60.0
"""A change takes effect within milliseconds, as a rule."""
WATCH_SECONDS = 180.0


class IngressHealth:
    """What is known of the program's health."""

    def __init__(
        self,
        is_serving: Callable[[], bool],
        watches: Callable[[], Collection[WatchStatus]],
        *,
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_serving = is_serving
        self._watches = watches
        self._wall_clock = wall_clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._turned = monotonic()
        self._pending: float | None = None
        self._applied_at: float | None = None
        self._error = ""
        self._stopping = False
        self._not_listening: tuple[str, ...] = ()

    # --- what happens ----------------------------------------------------------------------------------------------

    def turned(self) -> None:
        """The loop has made a turn."""
        self._turned = self._monotonic()

    def queued(self, since: float) -> None:
        """A change waits since a time on the monotonic clock."""
        with self._lock:
            self._pending = since if self._pending is None else self._pending

    def applied(self) -> None:
        """HAProxy does all that it should."""
        with self._lock:
            self._pending, self._error, self._applied_at = None, "", self._wall_clock()

    def failed(self, error: str) -> None:
        """It could not be brought to that."""
        with self._lock:
            self._error = error

    def not_listening(self, reasons: tuple[str, ...]) -> None:
        """Say why it does not listen where an administrator wants it to."""
        self._not_listening = reasons

    def stopping(self) -> None:
        """The program is on its way out."""
        self._stopping = True

    # --- what is asked ---------------------------------------------------------------------------------------------

    def livez(self) -> Verdict:
        """Whether the program should be left running."""
        return self._verdict([*self._stuck()])

    def healthz(self) -> Verdict:
        """Whether all is well."""
        now = self._monotonic()
        reasons = [*self._stuck(), *self._not_serving(), *self._late(now)]
        return self._verdict([*reasons, *dead_watches(self._watches(), WATCH_SECONDS, now)])

    def readyz(self) -> Verdict:
        """Whether requests should come here."""
        if self._stopping:
            reasons = ["kproxy has been told to stop"]
        elif self._applied_at is None:
            waiting = [status.kind.value for status in self._watches() if not status.synced]
            why = f"waiting for the first list of {', '.join(waiting)}" if waiting else "waiting for HAProxy"
            reasons = [f"{why}; {self._error}" if self._error else why]
        else:
            reasons = [*self._not_serving()]
        if reasons:
            return Verdict(503, {"ready": False, "reasons": reasons})
        return Verdict(200, {"ready": True})

    # --- how it is judged ------------------------------------------------------------------------------------------

    def _stuck(self) -> Iterator[str]:
        seconds = self._monotonic() - self._turned
        if seconds >= STUCK_SECONDS:
            yield f"the loop has not turned for {seconds:.0f}s"

    def _not_serving(self) -> Iterator[str]:
        if self._applied_at is not None and not self._is_serving():
            yield "HAProxy does not answer"
        yield from self._not_listening

    def _late(self, now: float) -> Iterator[str]:
        with self._lock:
            if self._pending is not None and now - self._pending >= LATE_SECONDS:
                why = f": {self._error}" if self._error else ""
                yield f"changes have been waiting for {now - self._pending:.0f}s{why}"

    def _verdict(self, reasons: list[str]) -> Verdict:
        now = self._monotonic()
        body: dict[str, object] = {
            "lastUpdated": timestamp(self._applied_at if reasons else self._wall_clock()),
            "currentTime": timestamp(self._wall_clock()),
            "healthy": not reasons,
            "watches": {status.kind.value: shown_watch(status, now) for status in self._watches()},
        }
        if reasons:
            body["reasons"] = reasons
        return Verdict(503 if reasons else 200, body)
