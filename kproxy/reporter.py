"""Tells the world what the loop does: in the log, in metrics, in health checks, and to those who act on it."""

from collections.abc import Mapping, Sequence

from kproxy import logs
from kproxy.api.types import Node, Problem
from kproxy.backends.base import BackendError, SyncReport
from kproxy.plan.model import Plan
from kproxy.state.model import IPFamily, ServicePortName

log = logs.get("proxier")


class Reporter:
    """A `kproxy.proxier.Observer`."""

    def __init__(self) -> None:
        self._refused: dict[tuple[IPFamily, ServicePortName], str] = {}
        self._synced_once: set[IPFamily] = set()

    def received(self, family: IPFamily, services: int, slices: int) -> None:
        """See `kproxy.proxier.Observer`."""

    def queued(self, since: float) -> None:
        """See `kproxy.proxier.Observer`."""

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
        if report.repaired and not first:
            log.warning("repaired chains that somebody else had changed", family=family, chains=report.repaired)
        for refused in report.refused:
            if self._refused.get((family, refused.name)) != refused.reason:
                log.error("left out a service that the kernel refuses", service=refused.name, reason=refused.reason)
        self._refused = {key: reason for key, reason in self._refused.items() if key[0] is not family}
        self._refused.update(((family, refused.name), refused.reason) for refused in report.refused)

    def sync_failed(self, family: IPFamily, error: BackendError, *, full: bool) -> None:
        """See `kproxy.proxier.Observer`."""
        log.error("sync failed; what was in force stays; trying again", family=family, error=error, full=full)

    def programmed(self, trigger_times: Sequence[str]) -> None:
        """See `kproxy.proxier.Observer`."""

    def drifted(self, family: IPFamily) -> None:
        """See `kproxy.proxier.Observer`."""
        log.warning("somebody else changed the tables; comparing all rules", family=family)

    def all_synced(self, plans: Sequence[Plan], changed: Mapping[IPFamily, frozenset[ServicePortName]]) -> None:
        """See `kproxy.proxier.Observer`."""

    def node_changed(self, node: Node | None) -> None:
        """See `kproxy.proxier.Observer`."""

    def skipped(self, problems: Sequence[Problem]) -> None:
        """See `kproxy.proxier.Observer`."""
        for problem in problems:
            log.warning(
                "skipped part of an object",
                object=f"{problem.kind} {problem.key}",
                field=problem.field,
                reason=problem.reason,
            )
