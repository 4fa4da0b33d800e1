"""The loop that turns the crank: wait for changes, plan, compile, apply, report.

Everything here runs in one thread, which owns the state of both address families; other threads only fill the inbox.
What is to be done stays pending until the kernel has it, so any failure is simply tried again, with growing pauses,
while the rules of before stay in force.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import ParamSpec

from kproxy.api.kinds import Kind, ObjectKind
from kproxy.api.types import ApiObject, Node, ObjectKey, Problem, ServiceCIDR
from kproxy.backends.base import Backend, BackendError, Counts
from kproxy.faults.containment import contained, explain, survived
from kproxy.plan.settings import NodeFacts, ProxySettings
from kproxy.proxier.family import Family
from kproxy.proxier.family import Snapshot as Snapshot
from kproxy.proxier.inbox import Batch, Inbox
from kproxy.proxier.observer import Observer
from kproxy.proxier.pacing import Pacer
from kproxy.state.model import IPFamily

log = logging.getLogger(__name__)

P = ParamSpec("P")

DRIFT_CHECK_SECONDS = 0.5
NODE_WAIT_SECONDS = 5.0
"""How long a first sync waits for the Node object: without it the node's addresses and zone aren't known."""


class Proxier:
    """Keeps the kernel in line with what comes into the inbox."""

    def __init__(
        self,
        backends: Sequence[Backend],
        settings: ProxySettings,
        facts: Callable[[Node | None, Collection[ServiceCIDR]], NodeFacts],
        inbox: Inbox,
        pacer: Pacer,
        observer: Observer,
        *,
        resync_seconds: float = 0.0,
    ) -> None:
        """Put the loop together.

        ``facts`` says what is so of the node, given its Node object and the ServiceCIDRs, and is asked again now and
        then, since addresses come and go. With ``resync_seconds`` over 0, all rules are compared with the kernel's that
        often.
        """
        self._families = [Family(backend, settings, facts(None, ())) for backend in backends]
        self._facts = facts
        self._node: Node | None = None
        self._service_cidrs: dict[ObjectKey, ServiceCIDR] = {}
        self._inbox = inbox
        self._pacer = pacer
        self._observer = observer
        self._resync_seconds = resync_seconds
        self._next_resync = float("inf")
        self._listed: set[ObjectKind] = set()
        self._started = time.monotonic()
        self._queued_since: float | None = None
        self._stop = threading.Event()
        self._kernel = threading.Lock()
        """Held by whoever uses the backends."""
        self._counting = threading.Lock()
        """Held by whoever reads what they count, beside that."""

    def stop(self) -> None:
        """End `run` after the sync that is under way, if any. May be called from anywhere."""
        self._stop.set()
        self._inbox.poke()

    def resync(self) -> None:
        """Ask for a full comparison with the kernel. May be called from anywhere."""
        self._next_resync = float("-inf")
        self._inbox.poke()

    def snapshots(self) -> "Sequence[Snapshot]":
        """Return each family as it is planned now. May be called from anywhere, and keeps nobody waiting."""
        return [family.snapshot() for family in self._families]

    def counts(self) -> dict[IPFamily, Counts]:
        """Read how many connections went where; a family whose rules aren't known or can't be read is left out.

        May be called from anywhere, and keeps no sync waiting. Where one is under way and takes its time, there is
        nothing to be had. What is told here is not told again.
        """
        found: dict[IPFamily, Counts] = {}
        with self._counting:
            self._count(found)
        return found

    def _count(self, found: dict[IPFamily, Counts]) -> None:
        try:
            for family in self._families:
                counts = family.backend.counts() if family.applied else None
                if counts is not None:
                    found[family.backend.family] = counts
        except BackendError as error:
            log.warning("cannot read the counters of connections: %s", error)
        except Exception as error:  # a scrape has more to tell
            survived("counters of connections", error)

    def close(self) -> None:
        """Let go of the backends, once `run` has ended; the rules stay in force, and nobody can count any more."""
        with self._kernel, self._counting:
            for family in self._families:
                family.applied = False
                family.backend.close()

    def begin(self, seconds: float) -> None:
        """Work until all rules are in the kernel for the first time, or for so long, or until stopped."""
        end = time.monotonic() + seconds
        while not (self._stop.is_set() or all(family.applied for family in self._families)):
            left = end - time.monotonic()
            if left <= 0:
                return
            self._work(min(left, self._seconds_to_wait()))

    def tell(self, observer: Observer) -> None:
        """Have somebody else hear what the loop does from now on. Not while it runs."""
        self._observer = observer

    def run(self) -> None:
        """Work until stopped."""
        while not self._stop.is_set():
            self._work(self._seconds_to_wait())

    def _work(self, seconds: float) -> None:
        """Wait for something to do, for so long at most, and do it."""
        self._inbox.wait(seconds)
        if self._stop.is_set():
            return
        with contained("loop"):  # around what is contained part by part: nothing at all may end it
            self._go_round()

    def _go_round(self) -> None:
        self.take(self._inbox.drain())
        with self._kernel:
            self._look_around()
            if self._may_sync():
                self.sync()
        self._tell(self._observer.idle)

    def _tell(self, say: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Tell the observer something. What goes wrong with it there is no reason to do less here."""
        with contained("report"):
            say(*args, **kwargs)

    def _seconds_to_wait(self) -> float:
        if self._ready and any(family.needs_sync for family in self._families):
            return min(self._pacer.delay(time.monotonic()), DRIFT_CHECK_SECONDS)
        return DRIFT_CHECK_SECONDS

    @property
    def _ready(self) -> bool:
        """Whether enough is known to write anything: a half-known cluster must not replace a known one's rules."""
        if not {Kind.SERVICE, Kind.ENDPOINT_SLICE} <= self._listed:
            return False
        return Kind.NODE in self._listed or time.monotonic() - self._started > NODE_WAIT_SECONDS

    def _may_sync(self) -> bool:
        if not self._ready or not any(family.needs_sync for family in self._families):
            return False
        return self._pacer.delay(time.monotonic()) <= 0

    # --- taking in -------------------------------------------------------------------------------------------------

    def take(self, batch: Batch) -> None:
        """Take objects into the state."""
        if batch.empty:
            return
        if batch.problems:
            self._tell(self._observer.skipped, batch.problems)
        counts: dict[ObjectKind, int] = {Kind.SERVICE: 0, Kind.ENDPOINT_SLICE: 0}
        for kind, objects in batch.complete.items():
            self._listed.add(kind)
            self._take_complete(kind, objects, counts)
        for (kind, key), obj in batch.changes.items():
            self._take_safely(kind, key, obj, counts)
        self._tell(self._observer.received, counts[Kind.SERVICE], counts[Kind.ENDPOINT_SLICE])
        if self._queued_since is None and any(family.needs_sync for family in self._families):
            self._queued_since = batch.since
            self._tell(self._observer.queued, batch.since or time.monotonic())

    def _take_complete(
        self, kind: ObjectKind, objects: Mapping[ObjectKey, ApiObject], counts: dict[ObjectKind, int]
    ) -> None:
        gone: set[ObjectKey] = set()
        for family in self._families:
            if kind is Kind.SERVICE:
                gone.update(family.tracker.services_missing_from(objects))
            elif kind is Kind.ENDPOINT_SLICE:
                gone.update(family.tracker.slices_missing_from(objects))
            elif kind is Kind.SERVICE_CIDR:
                gone.update(self._service_cidrs.keys() - objects.keys())
        if kind is Kind.NODE and not objects:
            self._set_node(None)
        for key in gone:
            self._take_safely(kind, key, None, counts)
        for key, obj in objects.items():
            self._take_safely(kind, key, obj, counts)

    def _take_safely(
        self, kind: ObjectKind, key: ObjectKey, obj: ApiObject | None, counts: dict[ObjectKind, int]
    ) -> None:
        try:
            self._take_one(kind, key, obj, counts)
        except Exception as error:  # one object must not keep all others out
            survived(f"taking in {kind}", error, f"could not take in {kind} {key}; all others are")

    def _take_one(self, kind: ObjectKind, key: ObjectKey, obj: ApiObject | None, counts: dict[ObjectKind, int]) -> None:
        if kind is Kind.NODE:
            self._set_node(obj if isinstance(obj, Node) else None)
            return
        if kind is Kind.SERVICE_CIDR:
            self._set_service_cidr(key, obj if isinstance(obj, ServiceCIDR) else None)
            return
        changed = False
        problems: dict[Problem, None] = {}  # what is wrong in both families is told once
        for family in self._families:
            change = family.take(kind, key, obj)
            changed |= change.changed
            problems |= dict.fromkeys(change.problems)
        if changed:
            counts[kind] = counts.get(kind, 0) + 1
        if problems:
            self._tell(self._observer.skipped, tuple(problems))

    def _set_node(self, node: Node | None) -> None:
        self._node = node
        self._tell(self._observer.node_changed, node)
        self._refresh_facts()

    def _set_service_cidr(self, key: ObjectKey, obj: ServiceCIDR | None) -> None:
        self._service_cidrs.pop(key, None)
        if obj is not None:
            self._service_cidrs[key] = obj
        self._refresh_facts()

    def _refresh_facts(self) -> None:
        facts = self._facts(self._node, self._service_cidrs.values())
        for family in self._families:
            family.stale |= family.planner.set_node(facts)

    # --- looking after ---------------------------------------------------------------------------------------------

    def _look_around(self) -> None:
        """See whether others changed the tables, or the node its addresses, or a full comparison is due."""
        now = time.monotonic()
        if now >= self._next_resync:
            self._next_resync = now + self._resync_seconds if self._resync_seconds else float("inf")
            for family in self._families:
                family.full = True
        with contained("facts about the node"):
            self._refresh_facts()
        for family in self._families:
            if family.full:
                continue
            try:
                drifted = family.backend.drifted()
            except BackendError as error:
                log.warning("cannot tell whether the %s rules are still in place: %s", family.backend.family, error)
                continue
            except Exception as error:  # it is asked again in half a second
                survived("watch for drift", error)
                continue
            if drifted:
                family.full = True
                self._tell(self._observer.drifted, family.backend.family)

    # --- syncing ---------------------------------------------------------------------------------------------------

    def sync(self) -> bool:
        """Bring the kernel in line with the state; return whether all of it went well."""
        started, cpu = time.monotonic(), time.thread_time()
        ok = True
        for family in self._families:
            if family.needs_sync:
                ok = self._sync_family(family) and ok
        now = time.monotonic()
        if not ok:
            self._pacer.failed(now)
            return False
        self._pacer.succeeded(started, now, time.thread_time() - cpu)
        if self._next_resync == float("inf") and self._resync_seconds:
            self._next_resync = now + self._resync_seconds
        self._queued_since = None
        self._tell(self._observer.all_synced, [family.planner.plan for family in self._families])
        return True

    def _sync_family(self, family: Family) -> bool:
        """Sync one family; return whether it went well."""
        started = time.monotonic()
        pending = frozenset(family.tracker.pending)
        try:
            family.unapplied |= family.planner.update(pending)
            plan = family.planner.plan
            self._tell_losses(family)
            report = family.backend.apply(plan, family.unapplied, full=family.full)
        except Exception as error:  # what is in force stays, and it is tried again
            self._failed(family, error, time.monotonic() - started)
            return False
        family.applied = True
        family.tracker.applied(pending)
        changed = frozenset(family.unapplied)
        family.unapplied.clear()
        family.stale = family.full = False
        self._tell(self._observer.synced, report, plan, changed, time.monotonic() - started)
        times = [moment for moments in family.trigger_times.values() for moment in moments]
        family.trigger_times.clear()
        self._tell(self._observer.programmed, family.backend.family, times)
        return True

    def _failed(self, family: Family, error: Exception, seconds: float) -> None:
        if not isinstance(error, BackendError):
            survived("sync", error)
            family.full = True
            error = BackendError(explain(error) if isinstance(error, OSError) else f"an error in kproxy: {error!r}")
        self._tell(self._observer.sync_failed, family.backend.family, error, full=family.full, seconds=seconds)

    def _tell_losses(self, family: Family) -> None:
        losses = family.planner.losses
        if losses != family.losses:
            family.losses = losses
            self._tell(self._observer.contested, family.backend.family, losses)
