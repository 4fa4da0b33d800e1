"""Keeps the Plan of one address family up to date, planning again only what changed."""

from collections.abc import Iterable

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

    @property
    def plan(self) -> Plan:
        """The plan as it stands; the mapping of services is live, not a copy."""
        return Plan(node=self._node_plan, services=self._services)

    @property
    def node(self) -> NodeFacts:
        """What is known of the node."""
        return self._node

    def set_node(self, node: NodeFacts) -> bool:
        """Take in new facts about the node; return whether anything has to be planned anew."""
        if node == self._node:
            return False
        self._node = node
        self._node_plan = plan_node(self._tracker.family, node, self._settings)
        self._tracker.everything_pending()
        return True

    def update(self, names: Iterable[ServicePortName]) -> frozenset[ServicePortName]:
        """Plan ``names`` anew; return those whose plan came out different."""
        changed = set()
        for name in names:
            port = self._tracker.ports.get(name)
            old = self._services.get(name)
            if port is None:
                new = None
                self._services.pop(name, None)
            else:
                endpoints = self._tracker.endpoints(name)
                new = plan_service(port, endpoints, self._node, self._node_plan, self._settings)
                self._services[name] = new
            if new != old:
                changed.add(name)
        return frozenset(changed)
