"""Every flow of the table, through every way of carrying out a Plan."""

from fractions import Fraction

import pytest

from kproxy.backends.packet import Memory, Outcome, World, without_memory
from kproxy.node.facts import proxy_settings
from kproxy.state.model import IPFamily
from kproxy.tools.render import plan_objects
from tests.flows.engines import ENGINES, Engine, Follow
from tests.flows.scenarios import Flow, Scenario, scenarios
from tests.kit.semantics.traffic import aged

SCENARIOS = scenarios()
TOLERANCE = Fraction(1, 2**30)
"""The chances that rules can give are multiples of 2**-31; test_draw says how near to equal they come."""


def load(engine: Engine, scenario: Scenario, *, before: bool = False) -> dict[IPFamily, Follow]:
    """Compile what there is, or with `before` was, in both families."""
    objects = scenario.objects(before=before)
    settings = proxy_settings(scenario.config(engine.mode))
    loaded = {}
    facts = scenario.facts()
    for family in IPFamily:
        plan, problems = plan_objects(objects, family, settings, facts)
        assert problems == ()
        loaded[family] = engine.load(plan)
    return loaded


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
