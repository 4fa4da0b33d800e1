"""Tells the world what the loop does: in the log, in metrics, in health checks, and to those who act on it."""

from collections.abc import Mapping, Sequence

from kproxy import logs
from kproxy.api.types import Node, Problem
from kproxy.backends.base import BackendError, SyncReport
from kproxy.metrics import Metrics
from kproxy.plan.model import Plan, Target
from kproxy.state.model import IPFamily, ServicePortName

log = logs.get("proxier")


class Reporter:
    """A `kproxy.proxier.Observer`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._refused: dict[tuple[IPFamily, ServicePortName], str] = {}
        self._synced_once: set[IPFamily] = set()
        self._pending_services = 0
        self._pending_slices = 0
        self._queued_since: float | None = None

    def received(self, services: int, slices: int) -> None:
        """See `kproxy.proxier.Observer`."""
        self._metrics.changes_seen(services, slices)
        self._pending_services += services
        self._pending_slices += slices
        self._metrics.changes_pending(self._pending_services, self._pending_slices)

    def queued(self, since: float) -> None:
        """See `kproxy.proxier.Observer`."""
        self._metrics.queued()
        self._queued_since = since

    def synced(self, family: IPFamily, report: SyncReport, plan: Plan, seconds: float) -> None:
        """See `kproxy.proxier.Observer`."""
        first = family not in self._synced_once
        self._synced_once.add(family)
        say = log.info if first else log.routine
        say(
            "synced",
            family=family,
            services=len(plan.services),
            **{f"{table}_rules": count for table, count in report.rules.items()},
            full=report.full,
            seconds=round(seconds, 4),
        )
        self._metrics.sync_finished(family, full=report.full, seconds=seconds, rules=report.rules, written=report.rules)
        self._metrics.refused(family, len(report.refused))
        if report.repaired and not first:
            self._metrics.drift_repaired(family, report.repaired)
            log.warning("repaired chains that somebody else had changed", family=family, chains=report.repaired)
        for refused in report.refused:
            if self._refused.get((family, refused.name)) != refused.reason:
                log.error("left out a service that the kernel refuses", service=refused.name, reason=refused.reason)
        self._refused = {key: reason for key, reason in self._refused.items() if key[0] is not family}
        self._refused.update(((family, refused.name), refused.reason) for refused in report.refused)

    def sync_failed(self, family: IPFamily, error: BackendError, *, full: bool, seconds: float) -> None:
        """See `kproxy.proxier.Observer`."""
        self._metrics.sync_failed(family, full=full, seconds=seconds)
        log.error("sync failed; what was in force stays; trying again", family=family, error=error, full=full)

    def programmed(self, trigger_times: Sequence[str]) -> None:
        """See `kproxy.proxier.Observer`."""
        self._metrics.programmed(trigger_times)

    def drifted(self, family: IPFamily) -> None:
        """See `kproxy.proxier.Observer`."""
        log.warning("somebody else changed the tables; comparing all rules", family=family)

    def all_synced(self, plans: Sequence[Plan], changed: Mapping[IPFamily, frozenset[ServicePortName]]) -> None:
        """See `kproxy.proxier.Observer`."""
        self._pending_services = self._pending_slices = 0
        self._metrics.changes_pending(0, 0)
        for plan in plans:
            if changed[plan.node.family]:
                self._count_no_local_endpoints(plan)

    def node_changed(self, node: Node | None) -> None:
        """See `kproxy.proxier.Observer`."""

    def skipped(self, problems: Sequence[Problem]) -> None:
        """See `kproxy.proxier.Observer`."""
        for problem in problems:
            self._metrics.skipped(problem.kind)
            log.warning(
                "skipped part of an object",
                object=f"{problem.kind} {problem.key}",
                field=problem.field,
                reason=problem.reason,
            )

    def _count_no_local_endpoints(self, plan: Plan) -> None:
        """Count the service ports whose Local policy finds nothing here though there are endpoints elsewhere."""
        internal = sum(service.internal.to is Target.DROP for service in plan.services.values())
        external = sum(
            service.external is not None and service.external.to is Target.DROP for service in plan.services.values()
        )
        self._metrics.no_local_endpoints(plan.node.family, internal=internal, external=external)
