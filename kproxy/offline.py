"""Objects in, rules out, with no kernel and no API server: what ``kproxy render`` does.

It is also the shortest way to see the whole middle of kproxy at work: tracker, planner and compiler, one after another.
"""

from collections.abc import Mapping

from kproxy.api.kinds import Kind
from kproxy.api.types import ApiObject, EndpointSlice, Node, ObjectKey, Problem, Service
from kproxy.backends.iptables.compile import compile_plan
from kproxy.backends.iptables.lists import Layout
from kproxy.backends.iptables.render import render_ruleset
from kproxy.plan.model import Plan
from kproxy.plan.planner import Planner
from kproxy.plan.settings import NodeFacts, ProxySettings
from kproxy.state.model import IPFamily
from kproxy.state.tracker import Tracker

Objects = Mapping[Kind, Mapping[ObjectKey, ApiObject]]


def plan_objects(
    objects: Objects, family: IPFamily, settings: ProxySettings, node: NodeFacts
) -> tuple[Plan, tuple[Problem, ...]]:
    """Plan a fixed set of objects in one family; return the plan and what was skipped."""
    tracker = Tracker(family, node.name)
    problems: list[Problem] = []
    for service in objects.get(Kind.SERVICE, {}).values():
        if isinstance(service, Service):
            problems += tracker.update_service(service).problems
    for endpoint_slice in objects.get(Kind.ENDPOINT_SLICE, {}).values():
        if isinstance(endpoint_slice, EndpointSlice):
            problems += tracker.update_slice(endpoint_slice).problems
    planner = Planner(settings, node, tracker)
    planner.update(tracker.pending)
    return planner.plan, tuple(problems)


def find_node(objects: Objects, name: str) -> Node | None:
    """Return the Node called ``name`` among ``objects``."""
    node = objects.get(Kind.NODE, {}).get(ObjectKey("", name))
    return node if isinstance(node, Node) else None


def render_plan(plan: Plan, layout: Layout | None = None) -> str:
    """Return a plan's rules as iptables-save text."""
    return render_ruleset(compile_plan(plan, layout), plan.node.family)
