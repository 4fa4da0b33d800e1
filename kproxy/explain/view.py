"""What the state of one address family has to offer to somebody who wants an explanation."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from kproxy.api.types import ObjectKey
from kproxy.plan.claims import Loss
from kproxy.plan.model import Frontend, Plan, ServicePlan
from kproxy.plan.settings import NodeFacts
from kproxy.state.model import Endpoint, IPFamily, Protocol, ServicePort, ServicePortName
from kproxy.state.tracker import Tracker


class Met(NamedTuple):
    """A frontend with the service port it belongs to."""

    frontend: Frontend
    service: ServicePlan


class View(NamedTuple):
    """One family as it is now. What it holds is not changed any more, but for ``tracker``, which may go on."""

    plan: Plan
    tracker: Tracker
    facts: NodeFacts
    addresses: frozenset[str]
    """The node's own addresses."""
    losses: Sequence[Loss] = ()
    """Frontends that do nothing, as another service port has them."""
    mode: str = "iptables"
    """Which of kube-proxy's modes: where they differ on purpose, so do the answers."""

    @property
    def family(self) -> IPFamily:
        """The family."""
        return self.plan.node.family

    def frontends(self, protocol: Protocol | None = None) -> Iterator[Met]:
        """Yield all frontends, in no order: to sort ten thousand would take longer than to look at them."""
        for name, service in self.plan.services.items():
            if protocol in (None, name.protocol):
                yield from (Met(frontend, service) for frontend in service.frontends)

    def ports_of(self, service: ObjectKey) -> tuple[ServicePort, ...]:
        """Return the ports of a Service, in the order of its spec."""
        return self.tracker.ports_of(service)

    def endpoints(self, name: ServicePortName) -> tuple[Endpoint, ...]:
        """Return all endpoints of a service port, used or not."""
        return self.tracker.endpoints(name)

    def ports_in_slices(self, service: ObjectKey) -> Mapping[tuple[str, Protocol], tuple[Endpoint, ...]]:
        """Return the endpoints in all slices of a Service, by the names and protocols of their ports."""
        found: dict[tuple[str, Protocol], dict[str, Endpoint]] = {}
        for ports in dict(self.tracker.slices_of(service)).values():
            for key, endpoints in ports.items():
                found.setdefault(key, {}).update((str(endpoint), endpoint) for endpoint in endpoints)
        return {key: tuple(endpoints.values()) for key, endpoints in found.items()}


def first_with(views: Iterable[View], service: ObjectKey) -> View | None:
    """Return the first view that knows a Service."""
    return next((view for view in views if any(name[:2] == service for name in view.plan.services)), None)
