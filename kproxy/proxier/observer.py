"""Who hears what the loop does."""

from collections.abc import Callable, Sequence
from typing import Protocol

from kproxy.api.types import Node, Problem
from kproxy.backends.base import BackendError, SyncReport
from kproxy.plan.claims import Loss
from kproxy.plan.model import Plan
from kproxy.state.model import IPFamily, ServicePortName


class Observer(Protocol):
    """Hears what the loop does. Called from the loop's thread; must not raise."""

    def received(self, services: int, slices: int) -> None:
        """So many objects came that changed something."""

    def queued(self, since: float) -> None:
        """Changes wait for a sync since the monotonic time ``since``."""

    def synced(self, report: SyncReport, plan: Plan, changed: frozenset[ServicePortName], seconds: float) -> None:
        """A family's rules are in the kernel as planned; ``changed`` are the services whose plans are different now."""

    def sync_failed(self, family: IPFamily, error: BackendError, *, full: bool, seconds: float) -> None:
        """A family's rules could not be applied; what was in force before still is."""

    def programmed(self, family: IPFamily, trigger_times: Sequence[str]) -> None:
        """A family has in the kernel what its slices asked for that carry these trigger times (RFC 3339)."""

    def drifted(self, family: IPFamily) -> None:
        """Somebody else changed the tables; they are about to be repaired."""

    def all_synced(self, plans: Sequence[Plan]) -> None:
        """All families are in the kernel as planned."""

    def idle(self) -> None:
        """A round of the loop is over; there is one at least every second."""

    def node_changed(self, node: Node | None) -> None:
        """The Node object came, changed, or is gone."""

    def skipped(self, problems: Sequence[Problem]) -> None:
        """Parts of objects made no sense and were left out."""

    def contested(self, family: IPFamily, losses: Sequence[Loss]) -> None:
        """Other frontends than before do nothing now, as other service ports have them; these are all there are."""


class Notes:
    """An `Observer` that notes what it hears, for one that is not there yet."""

    def __init__(self) -> None:
        self._heard: list[Callable[[Observer], None]] = []

    def pass_on(self, observer: Observer) -> None:
        """Tell another all of it, in the same order."""
        heard, self._heard = self._heard, []
        for tell in heard:
            tell(observer)

    def received(self, services: int, slices: int) -> None:
        """See `Observer`."""
        self._heard.append(lambda other: other.received(services, slices))

    def queued(self, since: float) -> None:
        """See `Observer`."""
        self._heard.append(lambda other: other.queued(since))

    def synced(self, report: SyncReport, plan: Plan, changed: frozenset[ServicePortName], seconds: float) -> None:
        """See `Observer`."""
        self._heard.append(lambda other: other.synced(report, plan, changed, seconds))

    def sync_failed(self, family: IPFamily, error: BackendError, *, full: bool, seconds: float) -> None:
        """See `Observer`."""
        self._heard.append(lambda other: other.sync_failed(family, error, full=full, seconds=seconds))

    def programmed(self, family: IPFamily, trigger_times: Sequence[str]) -> None:
        """See `Observer`."""
        self._heard.append(lambda other: other.programmed(family, trigger_times))

    def drifted(self, family: IPFamily) -> None:
        """See `Observer`."""
        self._heard.append(lambda other: other.drifted(family))

    def all_synced(self, plans: Sequence[Plan]) -> None:
        """See `Observer`."""
        self._heard.append(lambda other: other.all_synced(plans))

    def idle(self) -> None:
        """See `Observer`. There will be another round."""

    def node_changed(self, node: Node | None) -> None:
        """See `Observer`."""
        self._heard.append(lambda other: other.node_changed(node))

    def skipped(self, problems: Sequence[Problem]) -> None:
        """See `Observer`."""
        self._heard.append(lambda other: other.skipped(problems))

    def contested(self, family: IPFamily, losses: Sequence[Loss]) -> None:
        """See `Observer`."""
        self._heard.append(lambda other: other.contested(family, losses))
