"""Every flow of the table, through every way of carrying out a Plan."""

import functools
from fractions import Fraction

import pytest

from kproxy.backends.packet import Memory, Outcome, World, without_memory
from kproxy.node.facts import proxy_settings
from kproxy.plan.model import Plan
from kproxy.state.model import IPFamily
from kproxy.tools.render import plan_objects
from tests.flows.engines import ENGINES, Engine, Follow
from tests.flows.scenarios import Flow, Scenario, scenarios
from tests.kit.semantics.traffic import aged

SCENARIOS = scenarios()
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
TOLERANCE = Fraction(1, 2**30)
"""The chances that rules can give are multiples of 2**-31; test_draw says how near to equal they come."""


@functools.cache
def plans(name: str, mode: str, *, before: bool) -> dict[IPFamily, Plan]:
    """Plan for what there is in a scenario, or with `before` was, in both families. Engines of one mode share it."""
    scenario = BY_NAME[name]
    objects, facts = scenario.objects(before=before), scenario.facts()
    settings = proxy_settings(scenario.config(mode))
    made = {}
    for family in IPFamily:
        made[family], problems = plan_objects(objects, family, settings, facts)
        assert problems == ()
    return made


def load(engine: Engine, scenario: Scenario, *, before: bool = False) -> dict[IPFamily, Follow]:
    """Compile that plan."""
    return {family: engine.load(plan) for family, plan in plans(scenario.name, engine.mode, before=before).items()}


def remembered(flow: Flow, earlier: Follow, world: World) -> Memory:
    """Return what is remembered of the flow's sender, who was given an endpoint some time ago."""
    if flow.after is None:
        return frozenset()
    memories = {branch.memory for branch in earlier(flow.packet, world) if branch.outcome.to == flow.after.endpoint}
    assert len(memories) == 1, f"{flow.text}: the sender cannot have been given {flow.after.endpoint}"
    return aged(memories.pop(), flow.after.seconds)


def mistakes(found: dict[Outcome, Fraction], wanted: tuple[Outcome, ...]) -> list[str]:
    share = Fraction(1, len(wanted))
    said = [f"{outcome}: not wanted" for outcome in found.keys() - set(wanted)]
    for outcome in wanted:
        chance = found.get(outcome, Fraction(0))
        if abs(chance - share) > TOLERANCE:
            said.append(f"{outcome}: wanted with a chance of {float(share):.4f}, is {float(chance):.4f}")
    return said


@pytest.mark.parametrize("engine", ENGINES, ids=str)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_flow(scenario: Scenario, engine: Engine) -> None:
    now = load(engine, scenario)
    earlier = load(engine, scenario, before=True) if "before" in scenario.raw else now
    world = scenario.world()
    wrong = []
    for flow in scenario.flows:
        memory = remembered(flow, earlier[flow.family], world)
        found = without_memory(now[flow.family](flow.packet, world._replace(memory=memory)))
        wrong += [f"{flow.text}: {mistake}" for mistake in mistakes(found, flow.wanted(engine.mode))]
    assert wrong == []


def test_names_are_unique() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert len(names) == len(set(names))


def test_no_flow_is_there_twice() -> None:
    for scenario in SCENARIOS:
        texts = [flow.text for flow in scenario.flows]
        assert len(texts) == len(set(texts)), scenario
