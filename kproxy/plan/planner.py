"""Keeps the Plan of one address family up to date, planning again only what changed."""

from collections.abc import Iterable, Sequence

from kproxy.plan.claims import Claim, Claims, Loss, claim_of, claims_of, explain
from kproxy.plan.model import NodePlan, Plan, ServicePlan
from kproxy.plan.node import plan_node
from kproxy.plan.service import plan_service
from kproxy.plan.settings import NodeFacts, ProxySettings
from kproxy.state.model import ServicePortName
from kproxy.state.tracker import Tracker


class Planner:
    """The plan of what a `Tracker` holds. From-scratch planning is updating an empty planner with all names."""

    def __init__(self, settings: ProxySettings, node: NodeFacts, tracker: Tracker) -> None:
        self._settings = settings
        self._tracker = tracker
        self._node = node
        self._node_plan: NodePlan = plan_node(tracker.family, node, settings)
        self._services: dict[ServicePortName, ServicePlan] = {}
        self._claims = Claims()
        self._losses: Sequence[Loss] = ()

    @property
    def plan(self) -> Plan:
        """The plan as it stands; the mapping of services is live, not a copy."""
        return Plan(node=self._node_plan, services=self._services)

    @property
    def node(self) -> NodeFacts:
        """What is known of the node."""
        return self._node

    @property
    def losses(self) -> Sequence[Loss]:
        """Every frontend that does nothing, as of the last update, because another service port has it."""
        return self._losses

    def set_node(self, node: NodeFacts) -> bool:
        """Take in new facts about the node; return whether anything has to be planned anew."""
        if node == self._node:
            return False
        self._node = node
        self._node_plan = plan_node(self._tracker.family, node, self._settings)
        self._tracker.everything_pending()
        return True

    def update(self, names: Iterable[ServicePortName]) -> frozenset[ServicePortName]:
        """Plan ``names`` anew, and those who win or lose an address by it; return whose plan came out different."""
        names = set(names)
        ports = self._tracker.ports
        changed = set()
        for name in names | self._settle(names):
            port = ports.get(name)
            old = self._services.get(name)
            if port is None:
                new = None
                self._services.pop(name, None)
            else:
                endpoints = self._tracker.endpoints(name)
                lost = self._claims.lost(name)
                new = plan_service(port, endpoints, self._node, self._node_plan, self._settings, lost)
                self._services[name] = new
            if new != old:
                changed.add(name)
        return frozenset(changed)

    def _settle(self, names: Iterable[ServicePortName]) -> set[ServicePortName]:
        """Take in what ``names`` lay claim to; return the service ports that won or lost anything by it."""
        ports = self._tracker.ports
        contested: set[Claim] = set()
        some_lost = False
        for name in names:
            port, plan = ports.get(name), self._services.get(name)
            before = {*self._claims.lost(name)}
            some_lost |= bool(before)
            if plan is not None:
                before.update(claim_of(frontend, name.protocol) for frontend in plan.frontends)
            contested |= self._claims.replace(name, before, claims_of(port) if port else ())
        affected = self._claims.settle(contested, ports)
        if contested or some_lost:
            losers = self._claims.losers()
            found = (explain(claim, ports.get(loser), ports.get(owner)) for loser, claim, owner in losers)
            self._losses = tuple(loss for loss in found if loss is not None)
        return {*affected}
