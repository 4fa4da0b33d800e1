"""Views of fixed sets of objects, for the tests of explanations."""

from kproxy.api.types import EndpointSlice, Service
from kproxy.explain.view import View
from kproxy.plan.planner import Planner
from kproxy.plan.settings import NodeFacts, ProxySettings
from kproxy.state.model import IPFamily
from kproxy.state.tracker import Tracker
from kproxy.tools.render import Objects


def view_of(
    objects: Objects,
    family: IPFamily,
    settings: ProxySettings,
    facts: NodeFacts,
    addresses: frozenset[str],
    mode: str = "iptables",
) -> View:
    """Plan objects and keep what the plan was made of."""
    tracker = Tracker(family, facts.name)
    for kind in objects.values():
        for obj in kind.values():
            if isinstance(obj, Service):
                tracker.update_service(obj)
            elif isinstance(obj, EndpointSlice):
                tracker.update_slice(obj)
    planner = Planner(settings, facts, tracker)
    planner.update(tracker.pending)
    return View(planner.plan, tracker, facts, addresses, mode)
