"""Whether kproxy is well: the judgement behind /healthz, /livez, /readyz and the health-check node ports.

Three questions, three answers, as in kube-proxy (KEP-3836):

* *Alive?* Syncs get done: no change waits for longer than twice the sync period. A restart may help if not.
* *Healthy?* Alive, and this node is fit for traffic from outside: its Node object is neither gone nor marked by the
  cluster autoscaler for deletion, and (kproxy's own) the watches deliver. kube-proxy does not look at its watches, and
  has served stale rules for days (kubernetes/kubernetes#76338).
* *Ready?* The rules have been in the kernel once, for all families.

A dead watch does not make /livez fail: a restart could not bring the API server back, and would only lose what is
known. It is shown there all the same.

Pure: no HTTP here, and the clocks are passed in. All methods may be called from any thread.
"""

import datetime
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from kproxy.api.status import WatchStatus
from kproxy.api.types import Node
from kproxy.state.model import IPFamily

TO_BE_DELETED_TAINT = "ToBeDeletedByClusterAutoscaler"


class Verdict(NamedTuple):
    """An answer to one of the questions: the HTTP status, and what to say (JSON's types only)."""

    status: int
    body: dict[str, object]

    @property
    def ok(self) -> bool:
        """Whether the answer is yes."""
        return self.status == 200


class HealthState:
    """What is known of kproxy's health."""

    def __init__(
        self,
        families: Sequence[IPFamily] = tuple(IPFamily),
        *,
        sync_timeout: float = 60.0,
        watch_timeout: float = 180.0,
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin in good health.

        ``sync_timeout`` is how many seconds a change may wait to be synced (kube-proxy: twice the sync period),
        ``watch_timeout`` how long a watch may fail or be silent.
        """
        self._families = tuple(families)
        self._sync_timeout = sync_timeout
        self._watch_timeout = watch_timeout
        self._wall_clock = wall_clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._oldest_pending: dict[IPFamily, float] = {}
        self._last_synced: dict[IPFamily, float] = {}
        self._node_known = False
        self._node_problem = ""
        self._read_watches: Callable[[], Collection[WatchStatus]] = tuple

    # --- what happens ----------------------------------------------------------------------------------------------

    def queued(self, family: IPFamily | None = None, since: float | None = None) -> None:
        """A change waits to be synced, in one family or all, since a time on the monotonic clock (now, by default)."""
        with self._lock:
            for waiting in [family] if family else self._families:
                self._oldest_pending.setdefault(waiting, self._monotonic() if since is None else since)

    def synced(self, family: IPFamily) -> None:
        """All changes of a family are in the kernel."""
        with self._lock:
            self._oldest_pending.pop(family, None)
            self._last_synced[family] = self._wall_clock()

    def node_changed(self, node: Node | None) -> None:
        """The Node object is new, different, or gone.

        While there never was one, this node counts as fit: kproxy runs without API server and Node objects, too.
        """
        with self._lock:
            if node is not None:
                self._node_known = True
                self._node_problem = _node_problem(node)
            elif self._node_known:
                self._node_problem = "the Node object is gone"

    def watch_statuses(self, read: Callable[[], Collection[WatchStatus]]) -> None:
        """Look at the watches by asking ``read``."""
        self._read_watches = read

    # --- what is asked ---------------------------------------------------------------------------------------------

    def proxy_healthy(self) -> bool:
        """Whether syncs get done: what health-check node ports go by."""
        with self._lock:
            return not any(self._late())

    def livez(self) -> Verdict:
        """Whether kproxy should be left running."""
        with self._lock:
            late = list(self._late())
            return self._verdict(healthy=not late, ok=not late, reasons=late)

    def healthz(self) -> Verdict:
        """Whether this node should get traffic from outside."""
        with self._lock:
            reasons = [*self._late(), *dead_watches(self._read_watches(), self._watch_timeout, self._monotonic())]
            eligible = not self._node_problem
            verdict = self._verdict(
                healthy=not reasons,
                ok=eligible and not reasons,
                reasons=reasons if eligible else [*reasons, self._node_problem],
            )
            return Verdict(verdict.status, {**verdict.body, "nodeEligible": eligible})

    def readyz(self) -> Verdict:
        """Whether the rules have been in the kernel once, for all families."""
        with self._lock:
            missing = [family.metric_label for family in self._families if family not in self._last_synced]
            waiting = [status.kind.value for status in self._read_watches() if not status.synced]
        if not missing:
            return Verdict(200, {"ready": True})
        why = f"waiting for the first list of {', '.join(waiting)}" if waiting else "waiting for the first sync"
        return Verdict(503, {"ready": False, "reasons": [f"{why}; no rules yet for {' and '.join(missing)}"]})

    # --- how it is judged ------------------------------------------------------------------------------------------

    def _late(self) -> Iterator[str]:
        """Yield a line for each family whose changes wait for too long."""
        now = self._monotonic()
        for family, since in sorted(self._oldest_pending.items()):
            if now - since >= self._sync_timeout:
                yield f"{family.metric_label} changes have been waiting to be synced for {now - since:.0f}s"

    def _verdict(self, *, healthy: bool, ok: bool, reasons: list[str]) -> Verdict:
        """Put together the body that kube-proxy's answers have; ``reasons`` and ``watches`` are kproxy's addition.

        As in kube-proxy, ``lastUpdated`` is the present where all is well: it once meant the last run of a loop that
        ran all the time, and is read like that.
        """
        now = self._wall_clock()
        body: dict[str, object] = {
            "lastUpdated": timestamp(now if ok else max(self._last_synced.values(), default=None)),
            "currentTime": timestamp(now),
            "healthy": healthy,
            "status": {
                family.metric_label: {
                    "lastUpdated": timestamp(self._last_synced.get(family)),
                    "healthy": not self._is_late(family),
                }
                for family in self._families
                if family in self._last_synced or family in self._oldest_pending
            },
            "watches": {status.kind.value: shown_watch(status, self._monotonic()) for status in self._read_watches()},
        }
        if reasons:
            body["reasons"] = reasons
        return Verdict(200 if ok else 503, body)

    def _is_late(self, family: IPFamily) -> bool:
        since = self._oldest_pending.get(family)
        return since is not None and self._monotonic() - since >= self._sync_timeout


def dead_watches(statuses: Collection[WatchStatus], timeout: float, now: float) -> Iterator[str]:
    """Yield a line for each watch that can't be restored, or is silent beyond all measure."""
    for status in statuses:
        kind, failing_since = status.kind.value, status.failing_since
        if failing_since is not None and now - failing_since >= timeout:
            yield f"watching {kind} has failed for {now - failing_since:.0f}s: {status.error or 'no reason known'}"
        elif now - status.last_sign_of_life >= timeout:
            yield f"watching {kind} has brought no sign of life for {now - status.last_sign_of_life:.0f}s"


def shown_watch(status: WatchStatus, now: float) -> dict[str, object]:
    """Return what a health check's body says of a watch."""
    age = max(0.0, now - status.last_sign_of_life)
    shown: dict[str, object] = {"synced": status.synced, "ageSeconds": round(age, 3)}
    return {**shown, "error": status.error} if status.error else shown


def _node_problem(node: Node) -> str:
    if node.metadata.deletion_timestamp:
        return "the Node object is being deleted"
    if any(taint.key == TO_BE_DELETED_TAINT for taint in node.spec.taints or ()):
        return f"the Node object has the taint {TO_BE_DELETED_TAINT}"
    return ""


def timestamp(moment: float | None) -> str:
    """Write Unix time as Go writes a time in JSON; None is Go's zero time."""
    if moment is None:
        return "0001-01-01T00:00:00Z"
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat().replace("+00:00", "Z")
