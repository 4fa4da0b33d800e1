"""Tells the world what the loop does: in the log, in metrics, in health checks, in Events and in objects' status."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence

from kproxy import logs
from kproxy.api.kinds import ObjectKind
from kproxy.api.types import ObjectKey, Problem
from kproxy.ingress.api.kinds import IngressKind
from kproxy.ingress.haproxy.engine import ApplyReport
from kproxy.ingress.haproxy.refusals import Refused
from kproxy.ingress.plan.action import RuleKey
from kproxy.ingress.plan.model import Bind
from kproxy.ingress.plan.planner import Planned
from kproxy.ingress.plan.world import World
from kproxy.ingress.report.health import IngressHealth
from kproxy.ingress.report.metrics import IngressMetrics
from kproxy.report.events import Event
from kproxy.wording import printable

log = logs.get("ingress")

SettledHook = Callable[[World, Planned, frozenset[ObjectKind], bool, Mapping[RuleKey, str]], None]
"""Gets what is known, the kinds that have changed, whether it is in force, and which rules were refused."""


class Reporter:
    """A `kproxy.ingress.daemon.loop.Observer`."""

    def __init__(
        self,
        metrics: IngressMetrics,
        health: IngressHealth,
        event: Callable[[Event], None] = lambda _: None,
        settled: SettledHook | None = None,
        binds: Collection[Bind] = (),
    ) -> None:
        """``binds`` are those without which it is not ready: an administrator's."""
        self._binds = frozenset(binds)
        self._metrics = metrics
        self._health = health
        self._event = event
        self._settled = settled
        self._told: frozenset[Problem] = frozenset()
        """Problems of the last plan."""
        self._refused: Sequence[Refused] = ()
        self._fresh: list[Problem] = []
        """Problems that are new, and have no Event yet."""
        self._in_force = False
        self._first = True

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now, a line for each. May be asked from any thread."""
        return (*sorted(map(str, self._told)), *(f"{_name(one)}: {one.reason}" for one in self._refused))

    def skipped(self, problems: Collection[Problem]) -> None:
        """See `kproxy.ingress.daemon.loop.Observer`."""
        for problem in problems:
            self._tell(problem)

    def queued(self, since: float) -> None:
        """See `kproxy.ingress.daemon.loop.Observer`."""
        self._health.queued(since)

    def applied(self, planned: Planned, report: ApplyReport, seconds: float, since: float | None) -> None:
        """See `kproxy.ingress.daemon.loop.Observer`."""
        self._in_force = True
        self._health.applied()
        self._metrics.applied(seconds, since_arrival=seconds if since is None else time.monotonic() - since)
        self._metrics.planned(planned.plan)
        self._tell_problems(planned)
        self._tell_refused(report)
        say = log.info if self._first or report.reloaded else log.routine
        say(
            "HAProxy is in line",
            rules=len(planned.plan.rules),
            backends=len(planned.plan.backends),
            commands=report.commands,
            reloaded=report.reloaded or "no",
            seconds=round(seconds, 4),
        )
        self._first = False

    def failed(self, error: Exception, seconds: float) -> None:
        """See `kproxy.ingress.daemon.loop.Observer`."""
        self._in_force = False
        self._health.failed(printable(str(error)))
        self._metrics.failed(seconds)
        log.error("HAProxy could not be brought in line; what was in force stays; trying again", error=error)

    def settled(self, world: World, planned: Planned, kinds: frozenset[ObjectKind]) -> None:
        """See `kproxy.ingress.daemon.loop.Observer`."""
        for problem in self._fresh:
            self._event(_event(problem, world))
        self._fresh.clear()
        if self._settled is not None:
            refused = {one.what: one.reason for one in self._refused if isinstance(one.what, RuleKey)}
            self._settled(world, planned, kinds, self._in_force, refused)

    def turned(self) -> None:
        """See `kproxy.ingress.daemon.loop.Observer`."""
        self._health.turned()

    def _tell(self, problem: Problem) -> None:
        self._fresh.append(problem)
        log.warning(
            "left out part of an object",
            object=f"{problem.kind} {problem.key}",
            field=problem.field,
            reason=problem.reason,
        )

    def _tell_problems(self, planned: Planned) -> None:
        for problem in dict.fromkeys(planned.problems):
            if problem not in self._told:
                self._tell(problem)
        self._told = frozenset(planned.problems)
        self._metrics.problems(problem.kind for problem in planned.problems)

    def _tell_refused(self, report: ApplyReport) -> None:
        for one in report.refused:
            if one in self._refused:
                continue
            log.error("left out what HAProxy refuses", part=_name(one), reason=one.reason)
            problem = _problem(one)
            if problem is not None:
                self._fresh.append(problem)
        self._refused = list(report.refused)
        self._health.not_listening(tuple(one.reason for one in report.refused if one.what in self._binds))
        self._metrics.refused(_kind(one) for one in report.refused)


def _kind(refused: Refused) -> str:
    match refused.what:
        case RuleKey():
            return refused.what.kind
        case Bind():
            return "bind"
    return IngressKind.SECRET.value


def _name(refused: Refused) -> str:
    return f"{_kind(refused)} {refused.what}" if not isinstance(refused.what, RuleKey) else str(refused.what)


def _problem(refused: Refused) -> Problem | None:
    match refused.what:
        case RuleKey():
            field = f"rule {refused.what.rule}"
            return Problem(
                refused.what.kind, ObjectKey(refused.what.namespace, refused.what.name), field, refused.reason
            )
        case Bind():
            return None
    return Problem(IngressKind.SECRET.value, refused.what, "data", refused.reason)


def _event(problem: Problem, world: World) -> Event:
    """Return an Event on the object; with its UID, by which ``kubectl describe`` looks for Events."""
    kind = next((kind for kind in IngressKind if kind.value == problem.kind), None)
    obj = world.get(kind, problem.key) if kind is not None else None
    return Event(
        kind=problem.kind,
        regarding=problem.key,
        reason="LeftOut",
        action="Configure",
        note=printable(f"{problem.field}: {problem.reason}", 1000),
        warning=True,
        api_version=kind.api_version if kind is not None else "v1",
        uid=obj.metadata.uid if obj is not None else "",
    )
