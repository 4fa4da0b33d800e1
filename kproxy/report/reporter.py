"""Tells the world what the loop does: in the log, in metrics and in health checks.

It also sees to what has to follow a sync: health-check node ports are opened and closed, and conntrack's keeper is told
what has changed.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from kproxy import logs
from kproxy.api.types import Node, Problem
from kproxy.backends.base import BackendError, SyncReport
from kproxy.conntrack.keeper import Keeper
from kproxy.faults.containment import contained
from kproxy.node import memory
from kproxy.node.facts import problems_of
from kproxy.plan.claims import Loss
from kproxy.plan.model import Plan, Target
from kproxy.report.health import HealthState
from kproxy.report.healthcheck import HealthCheckPorts, HealthCheckServers
from kproxy.report.metrics import Metrics
from kproxy.report.node import NodeReporter
from kproxy.state.model import IPFamily, Protocol, ServicePortName

log = logs.get("proxier")

_PATIENCE_SECONDS = 10.0
"""A look at conntrack takes less than one; should it never end, that must not hold up everything else."""
_LATELY_SECONDS = 900.0
_MOST_LATELY = 1_000
"""For how long, and for how many syncs, it is remembered which services they changed."""


class LastSync(NamedTuple):
    """One successful sync."""

    at: float
    """Unix time."""
    seconds: float
    """How long it took."""
    full: bool
    rules: Mapping[str, int]
    """Rules in force after it, by table."""


class Reporter:
    """A `kproxy.proxier.observer.Observer`."""

    def __init__(
        self,
        metrics: Metrics,
        health: HealthState,
        checks: HealthCheckServers,
        conntrack: Keeper,
        after_first_sync: Callable[[], None] = lambda: None,
        node: NodeReporter | None = None,
    ) -> None:
        self._metrics = metrics
        self._health = health
        self._checks = HealthCheckPorts(checks)
        self._conntrack = conntrack
        self._after_first_sync: Callable[[], None] | None = after_first_sync
        self._node = node
        self._node_problems: Sequence[Problem] = ()
        self._refused: dict[tuple[IPFamily, ServicePortName], str] = {}
        self._last_syncs: dict[IPFamily, LastSync] = {}
        self._losses: dict[IPFamily, Sequence[Loss]] = {}
        self._synced_once: set[IPFamily] = set()
        self._memory = memory.Upkeep()
        self._lately: deque[tuple[float, tuple[ServicePortName, ...]]] = deque(maxlen=_MOST_LATELY)
        self._pending_services = 0
        self._pending_slices = 0

    @property
    def last_syncs(self) -> Mapping[IPFamily, "LastSync"]:
        """The last successful sync of each family."""
        return dict(self._last_syncs)

    @property
    def refused(self) -> Mapping[tuple[IPFamily, ServicePortName], str]:
        """The service ports that the kernel would not take, and why."""
        return dict(self._refused)

    @property
    def changed_lately(self) -> Mapping[ServicePortName, float]:
        """When service ports were changed in the last minutes, after the first sync (Unix time)."""
        since = time.time() - _LATELY_SECONDS
        return {name: at for at, names in list(self._lately) if at > since for name in names}

    def received(self, services: int, slices: int) -> None:
        """See `kproxy.proxier.observer.Observer`."""
        self._metrics.changes_seen(services, slices)
        self._pending_services += services
        self._pending_slices += slices
        self._metrics.changes_pending(self._pending_services, self._pending_slices)

    def queued(self, since: float) -> None:
        """See `kproxy.proxier.observer.Observer`."""
        self._metrics.queued()
        self._health.queued(since=since)

    def synced(self, report: SyncReport, plan: Plan, changed: frozenset[ServicePortName], seconds: float) -> None:
        """See `kproxy.proxier.observer.Observer`."""
        family = plan.node.family
        self._memory.used()
        self._last_syncs[family] = LastSync(time.time(), seconds, report.full, report.rules)
        first = family not in self._synced_once
        self._synced_once.add(family)
        if changed and not first:
            self._lately.append((time.time(), tuple(changed)))
        self._see_to_conntrack(report, plan, changed, first)
        self._health.synced(family)
        say = log.info if first else log.routine
        say(
            "synced",
            family=family,
            services=len(plan.services),
            **{f"{table}_rules": count for table, count in report.rules.items()},
            full=report.full,
            seconds=round(seconds, 4),
        )
        self._metrics.sync_finished(
            family, full=report.full, seconds=seconds, rules=report.rules, written=report.written
        )
        self._metrics.refused(family, len(report.refused))
        if report.repaired and not first:
            self._metrics.drift_repaired(family, report.repaired)
            log.warning("repaired chains that somebody else had changed", family=family, chains=report.repaired)
        self._tell_refused(family, report)
        if changed:
            self._count_no_local_endpoints(plan)
        self._checks.update(plan, changed)

    def sync_failed(self, family: IPFamily, error: BackendError, *, full: bool, seconds: float) -> None:
        """See `kproxy.proxier.observer.Observer`."""
        self._metrics.sync_failed(family, full=full, seconds=seconds)
        log.error("sync failed; what was in force stays; trying again", family=family, error=error, full=full)

    def programmed(self, family: IPFamily, trigger_times: Sequence[str]) -> None:
        """See `kproxy.proxier.observer.Observer`."""
        self._metrics.programmed(trigger_times, [family])

    def drifted(self, family: IPFamily) -> None:
        """See `kproxy.proxier.observer.Observer`."""
        log.routine("somebody else changed the tables; comparing all rules", family=family)

    def all_synced(self, plans: Sequence[Plan]) -> None:
        """See `kproxy.proxier.observer.Observer`."""
        if self._after_first_sync is not None:  # before it is said to be ready: node ports at localhost wait for it
            with contained("after the first sync"):
                self._after_first_sync()
                self._after_first_sync = None
        self._pending_services = self._pending_slices = 0
        self._metrics.changes_pending(0, 0)
        self._metrics.objects("service ports", sum(len(plan.services) for plan in plans))
        for plan in plans:
            self._health.synced(plan.node.family)
        self._checks.apply(plans)

    def idle(self) -> None:
        """See `kproxy.proxier.observer.Observer`."""
        self._memory.idle()
        if self._node is not None:
            self._node.idle()

    def node_changed(self, node: Node | None) -> None:
        """See `kproxy.proxier.observer.Observer`."""
        self._health.node_changed(node)
        if self._node is not None:
            self._node.node_changed(node)
        before, self._node_problems = self._node_problems, problems_of(node) if node is not None else ()
        if self._node_problems != before:  # a Node changes with every heartbeat of old kubelets
            self.skipped(self._node_problems)

    def skipped(self, problems: Sequence[Problem]) -> None:
        """See `kproxy.proxier.observer.Observer`."""
        for problem in problems:
            self._metrics.skipped(problem.kind)
            log.warning(
                "skipped part of an object",
                object=f"{problem.kind} {problem.key}",
                field=problem.field,
                reason=problem.reason,
            )

    def contested(self, family: IPFamily, losses: Sequence[Loss]) -> None:
        """See `kproxy.proxier.observer.Observer`."""
        told = {loss for of_family in self._losses.values() for loss in of_family}
        ended = set(self._losses.get(family, ())).difference(losses)
        self._losses[family] = losses
        for loss in losses:
            if loss not in told:  # a node port is lost in both families
                log.warning(
                    "an address that a Service names belongs to another",
                    service=loss.loser,
                    address=loss.claim,
                    field=loss.problem.field,
                    owner=loss.owner,
                    reason=loss.reason,
                )
        for loss in ended:
            log.info(
                "a Service that named another's address has it now, or is gone",
                service=loss.loser,
                address=loss.claim,
                owner=loss.owner,
            )
        self._metrics.contested(family, losses)

    def _see_to_conntrack(
        self, report: SyncReport, plan: Plan, changed: frozenset[ServicePortName], first: bool
    ) -> None:
        """Have flows released that the new rules would send elsewhere.

        Nobody waits for connections to be looked through, but for flows of UDP: no further change comes into force
        before those are where the last one wants them. And whoever waits for this node to be ready shall not meet what
        is left from the time before.
        """
        # Where rules were missing for a while, flows have begun that went by none: then all are looked at.
        left_out = {name for family, name in self._refused if family is plan.node.family}
        were_missing = report.repaired or left_out.difference(refused.name for refused in report.refused)
        tried = self._conntrack.synced(plan, None if were_missing else changed)
        if first or were_missing or any(name.protocol is Protocol.UDP for name in changed):
            tried.wait(_PATIENCE_SECONDS)

    def _tell_refused(self, family: IPFamily, report: SyncReport) -> None:
        for refused in report.refused:
            if self._refused.get((family, refused.name)) != refused.reason:
                log.error("left out a service that the kernel refuses", service=refused.name, reason=refused.reason)
        self._refused = {key: reason for key, reason in self._refused.items() if key[0] is not family}
        self._refused.update(((family, refused.name), refused.reason) for refused in report.refused)

    def _count_no_local_endpoints(self, plan: Plan) -> None:
        """Count the service ports whose Local policy finds nothing here though there are endpoints elsewhere."""
        internal = sum(service.internal.to is Target.DROP for service in plan.services.values())
        external = sum(
            service.external is not None and service.external.to is Target.DROP for service in plan.services.values()
        )
        self._metrics.no_local_endpoints(plan.node.family, internal=internal, external=external)
