"""What the loop holds of one address family: its state, its plan, and how far the kernel is behind.

Each change that waits to be applied is kept here with the time at which it was made (`Family.trigger_times`): once it
is applied, network programming latency is the time since then, counted once for each change.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from kproxy.api.kinds import Kind, ObjectKind
from kproxy.api.types import ApiObject, EndpointSlice, ObjectKey, Service
from kproxy.backends.base import Backend
from kproxy.plan.claims import Loss
from kproxy.plan.model import Plan
from kproxy.plan.planner import Planner
from kproxy.plan.settings import NodeFacts, ProxySettings
from kproxy.state.model import ServicePortName
from kproxy.state.tracker import Change, Tracker


class Snapshot(NamedTuple):
    """One address family at some moment."""

    plan: Plan
    """Not changed any more."""
    tracker: Tracker
    """What the plan is made of; goes on changing."""
    node: NodeFacts
    losses: Sequence[Loss]
    """Frontends that do nothing, as another service port has them."""
    pending: bool
    """Whether the kernel may not be as planned yet."""
    applied: bool
    """Whether it has ever been."""


class Family:
    """One address family: its state, its plan, and the backend that puts it into the kernel."""

    def __init__(self, backend: Backend, settings: ProxySettings, node: NodeFacts) -> None:
        self.backend = backend
        self.tracker = Tracker(backend.family, node.name)
        self.planner = Planner(settings, node, self.tracker)
        self.unapplied: set[ServicePortName] = set()
        """Services whose plan changed since the last successful apply."""
        self.stale = True
        """Whether the kernel must be looked at even if no service changed."""
        self.full = True
        """Whether the kernel must be compared as a whole."""
        self.trigger_times: dict[ObjectKey, list[str]] = {}
        """When changes were made that wait to be applied, as the slices say (RFC 3339), by slice."""
        self.losses: Sequence[Loss] = ()
        """The frontends that do nothing, as they were told last."""
        self.applied = False
        """Whether the kernel has been brought in line with a plan at least once."""

    def take(self, kind: ObjectKind, key: ObjectKey, obj: ApiObject | None) -> Change:
        """Take an object into the state, or out of it."""
        change = _change(self.tracker, kind, key, obj)
        if kind is Kind.ENDPOINT_SLICE and change.changed:
            annotations = obj.metadata.annotations if isinstance(obj, EndpointSlice) else None
            if obj is None:  # the time it bears is that of its last change, not of its end
                self.trigger_times.pop(key, None)
            elif annotations is not None and annotations.trigger_time:
                self.trigger_times.setdefault(key, []).append(annotations.trigger_time)
        return change

    @property
    def needs_sync(self) -> bool:
        """Whether there is anything to bring into the kernel, or to compare with it."""
        return self.stale or self.full or bool(self.tracker.pending)

    def snapshot(self) -> Snapshot:
        """Return it as it is planned now. May be called from any thread."""
        # To copy a dictionary is one step of the interpreter, which no other thread can come into.
        plan = self.planner.plan
        return Snapshot(
            plan=msgspec.structs.replace(plan, services=dict(plan.services)),
            tracker=self.tracker,
            node=self.planner.node,
            losses=self.planner.losses,
            pending=self.needs_sync,
            applied=self.applied,
        )


def _change(tracker: Tracker, kind: ObjectKind, key: ObjectKey, obj: ApiObject | None) -> Change:
    if isinstance(obj, Service):
        return tracker.update_service(obj)
    if isinstance(obj, EndpointSlice):
        return tracker.update_slice(obj)
    if kind is Kind.SERVICE:
        return tracker.delete_service(key)
    if kind is Kind.ENDPOINT_SLICE:
        return tracker.delete_slice(key)
    return _UNCHANGED


_UNCHANGED = Change(changed=False)
