"""Has conntrack kept in line with the rules in a thread of its own, so that no sync ever waits for it.

Nearly all of a look is the kernel's work, during which Python's other threads run. What one look costs grows with the
table: at 10,000 new connections a second the table holds hundreds of thousands, and a look takes a tenth of a second.
So looks have a budget. Services that change while it is used up are looked at together.
"""

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Set
from typing import Protocol as Interface

from kproxy.conntrack.budget import Budget
from kproxy.conntrack.expected import destinations, may_strand
from kproxy.conntrack.reconciler import Reconciler
from kproxy.plan.model import Destination, NodePlan, Plan, ServicePlan
from kproxy.state.model import IPFamily, Protocol, ServicePortName


class Observer(Interface):
    """Hears what becomes of conntrack. Called from the keeper's thread; must not raise."""

    def reconciled(self, family: IPFamily, *, seconds: float, released: int) -> None:
        """One family's flows were looked at, and so many released."""

    def failed(self, family: IPFamily, error: Exception) -> None:
        """One family's flows could not be looked at or released; it will be tried again."""


class _Waiting:
    """What one family is to be looked at for."""

    def __init__(self, node: NodePlan) -> None:
        self.node = node
        self.services: dict[ServicePortName, ServicePlan] = {}
        self.changed: set[ServicePortName] | None = set()
        """None for everything; `services` is complete then."""
        self.passed: defaultdict[Protocol, set[Destination]] = defaultdict(set)
        """Where flows may have begun in between: frontends of services that have changed again while they waited."""
        self.tried = threading.Event()

    def add(self, plan: Plan, changed: Set[ServicePortName] | None) -> None:
        """Add a later change; the plan goes on living in another thread, so what is needed of it is copied."""
        self.node = plan.node
        for name in {*self.services, *plan.services} if changed is None else changed:
            before, now = self.services.pop(name, None), plan.services.get(name)
            if now is not None:
                self.services[name] = now
            if (self.changed is None or name in self.changed) and may_strand(before, now):
                self.passed[name.protocol] |= destinations(before) | destinations(now)
        self.changed = None if self.changed is None or changed is None else self.changed | changed


class Keeper:
    """Looks after conntrack while it is `running`."""

    def __init__(self, reconciler: Reconciler, observer: Observer, cpu_share: float) -> None:
        """Make a keeper that uses at most ``cpu_share`` of one core in the long run."""
        self._reconciler = reconciler
        self._budget = Budget(cpu_share, time.monotonic())
        self._observer = observer
        self._condition = threading.Condition()
        self._waiting: dict[IPFamily, _Waiting] = {}
        self._stopping = False
        self._failing = False
        """Whether the last try was in vain, so that the next may be a long time off."""

    def synced(self, plan: Plan, changed: Set[ServicePortName] | None) -> threading.Event:
        """Take note that a family's rules are in the kernel; see `Reconciler.reconcile`. May be called from anywhere.

        Returns what is set when all of this has been seen to; also once it has been tried in vain.
        """
        with self._condition:
            waiting = self._waiting.setdefault(plan.node.family, _Waiting(plan.node))
            waiting.add(plan, changed)
            if self._failing:
                waiting.tried.set()
            self._condition.notify()
            return waiting.tried

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Work until the end of the ``with``; what is left then is for the next start, which looks at everything."""
        thread = threading.Thread(target=self._run, name="conntrack", daemon=True)
        self._stopping = False
        thread.start()
        try:
            yield
        finally:
            with self._condition:
                self._stopping = True
                self._condition.notify()
            thread.join()

    def _run(self) -> None:
        while (work := self._next()) is not None:
            cpu = time.thread_time()
            well = [self._reconcile(waiting) for waiting in work]
            note = self._budget.spent if all(well) else self._budget.failed
            note(time.monotonic(), time.thread_time() - cpu)
            with self._condition:
                self._failing = not all(well)
                for waiting in self._waiting.values() if self._failing else ():
                    waiting.tried.set()

    def _next(self) -> list[_Waiting] | None:
        """Wait until there is something to do and it may be done; None if it is time to stop."""
        with self._condition:
            while not self._stopping:
                delay = self._budget.delay(time.monotonic()) if self._waiting else None
                if delay == 0.0:
                    work = list(self._waiting.values())
                    self._waiting.clear()
                    return work
                self._condition.wait(delay)
            return None

    def _reconcile(self, waiting: _Waiting) -> bool:
        """Look after one family; return whether it went well."""
        family, started = waiting.node.family, time.monotonic()
        plan = Plan(node=waiting.node, services=waiting.services)
        try:
            released = self._reconciler.reconcile(plan, waiting.changed, waiting.passed)
        except Exception as error:  # whatever it is, it must not be the last look
            self._observer.failed(family, error)
            self._put_back(waiting)
            return False
        finally:
            waiting.tried.set()
        if released is not None:
            self._observer.reconciled(family, seconds=time.monotonic() - started, released=released)
        return True

    def _put_back(self, waiting: _Waiting) -> None:
        """Have it tried again, together with what came meanwhile."""
        family = waiting.node.family
        with self._condition:
            if (later := self._waiting.get(family)) is not None:
                waiting.add(Plan(node=later.node, services=later.services), later.changed)
                for protocol, places in later.passed.items():
                    waiting.passed[protocol] |= places
                later.tried.set()
            self._waiting[family] = waiting
