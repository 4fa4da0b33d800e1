"""Answers what people ask the running daemon: from its state, and from what the kernel holds.

Asked in threads of its own. The state is looked at as it was at one moment, without keeping the loop from its work.
"""

import datetime
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from kproxy import __version__, logs
from kproxy.api.status import WatchStatus
from kproxy.backends.base import BackendError
from kproxy.config import Config
from kproxy.daemon.rates import Rates
from kproxy.explain.answer import Kernel, explain
from kproxy.explain.compare import KernelRules
from kproxy.explain.model import DIFFERS, Answer, Flow
from kproxy.explain.protocol import DiffQuestion, ExplainQuestion, Questions, Reply, StatusQuestion
from kproxy.explain.question import Question, QuestionError, ask
from kproxy.explain.view import View
from kproxy.faults.undecodable import UNDECODABLE
from kproxy.held.changes import Changes, FamilyChanges
from kproxy.node import interfaces
from kproxy.plan.model import Plan
from kproxy.proxier.loop import Proxier, Snapshot
from kproxy.report.health import HealthState
from kproxy.report.node import NodeReporter
from kproxy.report.reporter import Reporter
from kproxy.report.status import FamilyState, ServiceProblem, Status, WatchState
from kproxy.state.model import IPFamily, Protocol

log = logs.get("inspect")

_ATTEMPTS = 3
"""How often to look again where the state changed while it was looked at, or while the kernel's rules were read."""
_PAUSE_SECONDS = 0.1


class Sources(NamedTuple):
    """Whom the inspector asks."""

    proxier: Proxier
    health: HealthState
    reporter: Reporter
    node: NodeReporter
    watches: Callable[[], Sequence[WatchStatus]]
    rates: Rates
    rules: Callable[[IPFamily, Plan], KernelRules]
    """What the kernel holds of one family; may raise BackendError."""
    changes: Callable[[Plan], FamilyChanges]
    """What a full sync of a plan would change."""
    interface_of: Callable[[str], str | None] = lambda _: None
    flows: Callable[[IPFamily, Protocol, str, int], Sequence[Flow]] = lambda *_: ()


class Inspector:
    """May be asked from any thread."""

    def __init__(self, config: Config, started: float, sources: Sources) -> None:
        """``config`` has the mode chosen; ``started`` is Unix time."""
        self._config = config
        self._started = started
        self._from = sources

    def reply(self, line: bytes) -> bytes:
        """Answer a question from the socket."""
        try:
            question = msgspec.json.decode(line, type=Questions)
        except UNDECODABLE as error:
            return msgspec.json.encode(Reply(error=f"not a question that this kproxy knows: {error}"))
        try:
            document = self._answer(question)
            return msgspec.json.encode(Reply(answer=msgspec.Raw(msgspec.json.encode(document))))
        except QuestionError as error:
            return msgspec.json.encode(Reply(error=str(error), misuse=True))
        except BackendError as error:
            return msgspec.json.encode(Reply(error=str(error)))
        except Exception as error:
            # Whatever goes wrong here must not reach the daemon; the one who asked is told.
            log.warning("a question could not be answered", problem=f"{type(error).__name__}: {error}")
            return msgspec.json.encode(Reply(error=f"kproxy could not find out: {type(error).__name__}: {error}"))

    def _answer(self, question: Questions) -> msgspec.Struct:
        match question:
            case ExplainQuestion(destination=to, sender=sender, protocol=protocol, family=family):
                return self.explain(ask(to, sender=sender, protocol=protocol, family=family))
            case StatusQuestion():
                return self.status()
            case DiffQuestion():
                return self.diff()

    # --- explain ---------------------------------------------------------------------------------------------------

    def explain(self, question: Question) -> Answer:
        """Say what becomes of a connection, by the plan and by the kernel's rules.

        Where the two differ while changes are on their way to the kernel, that is looked at again.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            synced, snapshots = self._from.reporter.last_syncs, self._from.proxier.snapshots()
            try:
                answer = explain([self._view(snapshot) for snapshot in snapshots], question, self._kernel(snapshots))
            except (KeyError, RuntimeError):  # the state changed meanwhile
                if attempt == _ATTEMPTS:
                    raise
                continue
            if answer.kernel != DIFFERS or attempt == _ATTEMPTS:
                return answer
            pending = any(snapshot.pending for snapshot in (*snapshots, *self._from.proxier.snapshots()))
            if not pending and synced == self._from.reporter.last_syncs:
                return answer
            time.sleep(_PAUSE_SECONDS)
        raise AssertionError("the last attempt returns or raises")

    def _kernel(self, snapshots: Sequence[Snapshot]) -> Kernel:
        def rules(family: IPFamily) -> KernelRules:
            plan = next(snapshot.plan for snapshot in snapshots if snapshot.plan.node.family is family)
            return self._from.rules(family, plan)

        return Kernel(rules=rules, interface_of=self._from.interface_of, flows=self._from.flows)

    def views(self) -> list[View]:
        """Return both families as they are planned now."""
        return [self._view(snapshot) for snapshot in self._from.proxier.snapshots()]

    def _view(self, snapshot: Snapshot) -> View:
        addresses = frozenset((*interfaces.addresses(), *snapshot.node.ips.values()))
        return View(snapshot.plan, snapshot.tracker, snapshot.node, addresses, snapshot.losses, self._config.mode.value)

    # --- diff ------------------------------------------------------------------------------------------------------

    def diff(self) -> Changes:
        """Say what a full sync would change now."""
        found = [self._from.changes(snapshot.plan) for snapshot in self._from.proxier.snapshots()]
        return Changes(mode=self._config.mode.value, families=tuple(found))

    # --- status ----------------------------------------------------------------------------------------------------

    def status(self) -> Status:
        """Say how kproxy does."""
        condition = self.condition()
        busiest, turned_away = self._from.rates.read()
        return msgspec.structs.replace(condition, busiest=busiest, turned_away=turned_away)

    def condition(self) -> Status:
        """Say how kproxy does, but for what takes a look at the counters."""
        health = self._from.health
        healthz, readyz = health.healthz(), health.readyz()
        now = time.time()
        snapshots = self._from.proxier.snapshots()
        return Status(
            node=self._config.node_name,
            version=__version__,
            mode=self._config.mode.value,
            since=_timestamp(self._started),
            uptime_seconds=round(now - self._started, 1),
            healthy=healthz.ok,
            ready=readyz.ok,
            reasons=tuple(_reasons(healthz.body)) + tuple(_reasons(readyz.body)),
            watches=tuple(map(_watch, self._from.watches())),
            families=tuple(map(self._family, snapshots)),
            problems=tuple(self._from.node.problems.values()),
            refused=tuple(
                ServiceProblem(service=str(name), reason=reason)
                for (_, name), reason in sorted(self._from.reporter.refused.items())
            ),
            conflicts=tuple(_conflicts(snapshots)),
        )

    def _family(self, snapshot: Snapshot) -> FamilyState:
        family = snapshot.plan.node.family
        last = self._from.reporter.last_syncs.get(family)
        services = snapshot.plan.services.values()
        return FamilyState(
            family=family.metric_label,
            services=len(services),
            endpoints=sum(len(service.reachable_endpoints) for service in services),
            rules=sum(last.rules.values()) if last else None,
            last_sync=_timestamp(last.at) if last else None,
            sync_seconds=round(last.seconds, 6) if last else None,
            full=last.full if last else None,
            pending=snapshot.pending,
        )


def _reasons(body: dict[str, object]) -> Iterator[str]:
    reasons = body.get("reasons")
    if isinstance(reasons, list):
        yield from map(str, reasons)


def _watch(status: WatchStatus) -> WatchState:
    age = round(max(0.0, status.age()), 1)
    return WatchState(kind=str(status.kind.value), synced=status.synced, age_seconds=age, error=status.error)


def _conflicts(snapshots: Sequence[Snapshot]) -> Iterator[ServiceProblem]:
    """Yield the service ports that want what another has."""
    for snapshot in snapshots:
        for loss in snapshot.losses:
            yield ServiceProblem(service=str(loss.loser), reason=f"{loss.claim} is {loss.owner}'s, {loss.reason}")


def _timestamp(moment: float) -> str:
    whole = datetime.datetime.fromtimestamp(moment, datetime.UTC)
    return whole.isoformat(timespec="milliseconds").replace("+00:00", "Z")
