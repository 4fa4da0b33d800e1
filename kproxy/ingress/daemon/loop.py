"""The loop of the ingress program: wait for changes, plan, apply, report.

Everything here runs in one thread, which owns the plan; other threads only fill the inbox. What is to be done stays
pending until HAProxy does it, so any failure is simply tried again, with growing pauses, while HAProxy goes on with
what it has. No failure ends the loop, not even one that nobody has foreseen.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple, Protocol

from kproxy.api.kinds import ObjectKind
from kproxy.api.types import ObjectKey, Problem
from kproxy.faults.containment import survived
from kproxy.ingress.api.kinds import IngressKind
from kproxy.ingress.haproxy.engine import ApplyReport
from kproxy.ingress.haproxy.errors import EngineError
from kproxy.ingress.plan.model import Bind, Plan
from kproxy.ingress.plan.planner import HttpPlanner, Planned
from kproxy.ingress.plan.world import World
from kproxy.proxier.inbox import Batch, Inbox
from kproxy.proxier.pacing import Pacer

IDLE_SECONDS = 1.0
"""How often the loop turns when nothing happens."""
TIDY_SECONDS = 1.0
"""How long after a change what it has left over in HAProxy is removed."""
FORGIVE_SECONDS = 5.0
"""How often addresses that others have taken are tried again."""
_SETTLE_SECONDS = 0.02
FIRST_SECRETS_SECONDS = 10.0
SECRETS_SECONDS = 1.0
"""How long a change waits for Secrets that it is the first to name: they are fetched within milliseconds, or not at
all, and without its certificate a host is not served by TLS."""


class Engine(Protocol):
    """What brings a plan into force; `kproxy.ingress.haproxy.engine.Engine` is one."""

    def apply(self, plan: Plan) -> ApplyReport:
        """Bring it into force. Raises EngineError."""

    def tidy(self) -> int:
        """Remove what is left over; return how much still is."""

    def forgive(self) -> bool:
        """Forget refusals of addresses that can be had by now; tell whether to apply once more."""


class Secrets(Protocol):
    """Where Secrets come from; `kproxy.ingress.api.source.IngressSource` is one."""

    @property
    def secrets_settled(self) -> bool:
        """Whether all that can be had of the named ones has been delivered."""

    def name_secrets(self, keys: Iterable[ObjectKey]) -> None:
        """Say which ones are of use."""


class Observer(Protocol):
    """Hears what the loop does. Called from the loop's thread; should not raise."""

    def skipped(self, problems: Collection[Problem]) -> None:
        """Parts of objects made no sense and were left out."""

    def queued(self, since: float) -> None:
        """Changes wait since the monotonic time ``since``."""

    def applied(self, planned: Planned, report: ApplyReport, seconds: float, since: float | None) -> None:
        """A plan is in force; the oldest change in it came at the monotonic time ``since``."""

    def failed(self, error: Exception, seconds: float) -> None:
        """A plan could not be made, or not be brought into force; what was before still is."""

    def settled(self, world: World, planned: Planned, kinds: frozenset[ObjectKind]) -> None:
        """Objects of some kinds have come, and their plan was made; whether it is in force has been told before."""

    def turned(self) -> None:
        """A turn of the loop is over; there is one at least every second, unless a plan takes longer."""


class Facts(NamedTuple):
    """What the loop asks about its surroundings."""

    usable_addresses: Callable[[], frozenset[str] | None] = lambda: None
    """Addresses that Gateways may name; None for any."""


class Loop:
    """Keeps HAProxy in line with what comes into the inbox."""

    def __init__(
        self,
        planner: HttpPlanner,
        engine: Engine,
        inbox: Inbox,
        pacer: Pacer,
        observer: Observer,
        secrets: Secrets | None = None,
        facts: Facts = Facts(),  # noqa: B008 - it is immutable
    ) -> None:
        self._planner = planner
        self._engine = engine
        self._inbox = inbox
        self._pacer = pacer
        self._observer = observer
        self._secrets = secrets
        self._facts = facts
        self._listed: set[ObjectKind] = set()
        self._changed: set[ObjectKind] = set()
        """The kinds of what came since the last plan."""
        self._since: float | None = None
        self._pending = True
        """Whether HAProxy may not be as planned."""
        self._named: frozenset[ObjectKey] | None = None
        self._wait_for_secrets_until = 0.0
        self._tidy_at = float("inf")
        self._forgive_at = float("inf")
        self._planned: Planned | None = None
        self._report = ApplyReport()
        self._stop = threading.Event()

    def stop(self) -> None:
        """End `run` after what is under way. May be called from anywhere."""
        self._stop.set()
        self._inbox.poke()

    def resync(self) -> None:
        """Bring everything into force anew. May be called from anywhere."""
        self._pending = True
        self._inbox.poke()

    @property
    def planned(self) -> Planned | None:
        """The latest plan. May be asked from anywhere; it is never changed."""
        return self._planned

    def run(self) -> None:
        """Work until stopped."""
        while not self._stop.is_set():
            self._inbox.wait(self._seconds_to_wait())
            if self._stop.is_set():
                return
            try:
                self._turn()
            except Exception as error:
                self._pending = True
                self._pacer.failed(time.monotonic())
                survived("loop", error, "a turn of the loop failed; HAProxy goes on with what it has; trying again")
                self._observer.failed(error, 0.0)
            self._observer.turned()

    def _seconds_to_wait(self) -> float:
        now = time.monotonic()
        seconds = min(IDLE_SECONDS, max(0.0, self._tidy_at - now))
        if self._ready and (self._pending or self._changed):
            wait = _SETTLE_SECONDS if now < self._wait_for_secrets_until else 0.0
            seconds = min(seconds, max(wait, self._pacer.delay(now)))
        return seconds

    @property
    def _ready(self) -> bool:
        """Whether enough is known: a half-known cluster must not replace what HAProxy knows of it."""
        return self._listed.issuperset(IngressKind)

    def _turn(self) -> None:
        self.take(self._inbox.drain())
        now = time.monotonic()
        self._look_around(now)
        if self._ready and (self._pending or self._changed) and self._pacer.delay(now) <= 0:
            self.sync()
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_SECONDS if self._engine.tidy() else float("inf")

    def take(self, batch: Batch) -> None:
        """Take objects into the plan's world."""
        if batch.empty:
            return
        if batch.problems:
            self._observer.skipped(batch.problems)
        for kind, objects in batch.complete.items():
            self._listed.add(kind)
            self._changed.add(kind)
            self._planner.replace(kind, objects)
        for (kind, key), obj in batch.changes.items():
            self._changed.add(kind)
            if obj is None:
                self._planner.delete(kind, key)
            else:
                self._planner.update(kind, obj)
        if self._since is None:
            self._since = batch.since or time.monotonic()
            self._observer.queued(self._since)

    def _look_around(self, now: float) -> None:
        before = self._planner.world.usable_addresses
        self._planner.set_usable_addresses(self._facts.usable_addresses())
        self._pending |= self._planner.world.usable_addresses != before
        if now >= self._forgive_at:
            self._forgive_at = now + FORGIVE_SECONDS
            self._pending |= self._engine.forgive()

    def sync(self) -> None:
        """Plan what is known and bring it into force, unless Secrets are still to come."""
        started, cpu = time.monotonic(), time.thread_time()
        self._planner.refresh()
        if self._waits_for_secrets(started):
            return
        planned = self._planner.refresh()
        if self._pending or self._planned is None or planned.plan is not self._planned.plan:
            self._pending = True
            self._apply(planned, started)
        else:
            self._observer.applied(planned, self._report, time.monotonic() - started, None)
            self._since = None
        self._planned = planned
        kinds, self._changed = frozenset(self._changed), set()
        self._observer.settled(self._planner.world, planned, kinds)
        if not self._pending:
            self._pacer.succeeded(started, time.monotonic(), time.thread_time() - cpu)

    def _apply(self, planned: Planned, started: float) -> None:
        try:
            self._report = self._engine.apply(planned.plan)
        except EngineError as error:
            now = time.monotonic()
            self._pacer.failed(now)
            self._observer.failed(error, now - started)
            return
        self._pending = False
        self._tidy_at = time.monotonic() + TIDY_SECONDS
        refused = any(isinstance(one.what, Bind) for one in self._report.refused)
        self._forgive_at = time.monotonic() + FORGIVE_SECONDS if refused else float("inf")
        self._observer.applied(planned, self._report, time.monotonic() - started, self._since)
        self._since = None

    def _waits_for_secrets(self, now: float) -> bool:
        """Name the Secrets that are of use; tell whether to wait for some that are named for the first time."""
        if self._secrets is None:
            return False
        named = self._planner.secrets
        if named != self._named:
            fresh = named - (self._named or frozenset())
            patience = FIRST_SECRETS_SECONDS if self._named is None else SECRETS_SECONDS
            self._named = named
            self._secrets.name_secrets(named)
            if fresh:
                self._wait_for_secrets_until = now + patience
        if now >= self._wait_for_secrets_until:
            return False
        if not self._secrets.secrets_settled:
            return True
        self._wait_for_secrets_until = 0.0
        self.take(self._inbox.drain())  # what was delivered before all was settled
        self._planner.refresh()
        return self._planner.secrets != self._named
