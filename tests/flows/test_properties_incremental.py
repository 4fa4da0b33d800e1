"""However the rules came about, they are the same: incremental equals from scratch, and no order of events matters."""

from collections.abc import Mapping
from random import Random
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kproxy.api.kinds import Kind, ObjectKind
from kproxy.api.types import ApiObject, EndpointSlice, ObjectKey, Service
from kproxy.backends.iptables.compile.compiler import Compiler, compile_plan
from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.rules.diff import RuleSetChange
from kproxy.backends.iptables.rules.render import render_ruleset
from kproxy.backends.iptables.rules.ruleset import Chain, TableName
from kproxy.plan.planner import Planner
from kproxy.state.model import IPFamily, ServicePortName
from kproxy.state.tracker import Tracker
from kproxy.tools.render import plan_objects
from tests.kit.examples import chances
from tests.kit.semantics import examples
from tests.kit.semantics.builds import BUILDS, Build
from tests.kit.semantics.cluster import Cluster, clusters

Chains = dict[TableName, dict[str, Chain]]


class Event(NamedTuple):
    """One thing that happens: an object comes or changes, or goes; the node changes; or a sync, that may fail."""

    what: str
    obj: ApiObject | None = None
    version: int = 0
    succeeds: bool = True


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Cluster], list[Event]]:
    """Draw several versions of a cluster, and a story in which each object is now of this version, now of that."""
    family = draw(st.sampled_from(IPFamily))
    versions = draw(st.lists(clusters(family=family), min_size=2, max_size=3))
    objects = [
        Event("comes", obj) for version in versions for each in version.objects().values() for obj in each.values()
    ]
    chance = draw(chances)
    events = []
    for _ in range(draw(st.integers(5, 40))):
        event = chance.choice(objects)
        match chance.randrange(10):
            case 0 | 1:
                event = event._replace(what="goes")
            case 2:
                event = Event("node", version=chance.randrange(len(versions)))
            case 3 | 4:
                event = Event("sync", succeeds=chance.random() < 0.7)
        events.append(event)
    return versions, [*events, Event("sync")]


class Machine:
    """The middle of kproxy, wired up as the proxier and the backend do it, without a kernel."""

    def __init__(self, cluster: Cluster, layout: Layout) -> None:
        self.settings = cluster.settings
        self.layout = layout
        self.tracker = Tracker(cluster.family, "node-a")
        self.planner = Planner(self.settings, cluster.facts, self.tracker)
        self.compiler = Compiler(self.planner.plan.node, layout)
        self.node = self.planner.plan.node
        self.unapplied: set[ServicePortName] = set()
        self.objects: dict[ObjectKind, dict[ObjectKey, ApiObject]] = {Kind.SERVICE: {}, Kind.ENDPOINT_SLICE: {}}
        self.facts = cluster.facts

    def take(self, obj: ApiObject) -> None:
        self.objects[Kind.of(obj)][obj.metadata.key] = obj
        if isinstance(obj, Service):
            self.tracker.update_service(obj)
        elif isinstance(obj, EndpointSlice):
            self.tracker.update_slice(obj)

    def forget(self, obj: ApiObject) -> None:
        key = obj.metadata.key
        self.objects[Kind.of(obj)].pop(key, None)
        if isinstance(obj, Service):
            self.tracker.delete_service(key)
        else:
            self.tracker.delete_slice(key)

    def move(self, cluster: Cluster) -> None:
        self.facts = cluster.facts
        self.planner.set_node(self.facts)

    def sync(self, *, succeeds: bool) -> None:
        pending = set(self.tracker.pending)
        self.unapplied |= self.planner.update(pending)
        plan = self.planner.plan
        if plan.node != self.node:
            self.compiler, self.node = Compiler(plan.node, self.layout), plan.node
            self.unapplied |= plan.services.keys()
        before = self.chains()
        change = self.compiler.update({name: plan.services.get(name) for name in self.unapplied})
        assert_right(change, before, self.chains())
        if succeeds:
            self.tracker.applied(pending)
            self.unapplied.clear()

    def chains(self) -> Chains:
        return {table: dict(self.compiler.ruleset.table(table).chains) for table in TableName}


def assert_right(change: RuleSetChange, before: Chains, after: Chains) -> None:
    """Check that a step tells the truth about both ends, and carries out nothing that is not needed."""
    for table in TableName:
        patched = dict(before[table])
        for chain, (old, new) in change.table(table).items():
            assert old == before[table].get(chain)
            assert new == after[table].get(chain)
            assert old != new
            patched.pop(chain, None)
            if new is not None:
                patched[chain] = new
        assert patched == after[table] == change.after.table(table).chains


@pytest.mark.parametrize("build", BUILDS, ids=str)
@examples(30)
@given(history=histories())
def test_incremental_equals_from_scratch(build: Build, history: tuple[list[Cluster], list[Event]]) -> None:
    versions, events = history
    with build.in_force() as layout:
        machine = Machine(versions[0], layout)
        for event in events:
            match event:
                case Event("sync"):
                    machine.sync(succeeds=event.succeeds)
                case Event("node"):
                    machine.move(versions[event.version])
                case Event("comes", obj=Service() | EndpointSlice() as obj):
                    machine.take(obj)
                case Event("goes", obj=Service() | EndpointSlice() as obj):
                    machine.forget(obj)
        fresh, _ = plan_objects(machine.objects, versions[0].family, machine.settings, machine.facts)
        assert machine.tracker.pending == set()
        assert machine.planner.plan == fresh
        assert machine.compiler.ruleset == compile_plan(fresh, layout)


@examples(25)
@given(cluster=clusters(), other=st.data(), chance=chances)
def test_no_order_of_objects_matters(cluster: Cluster, other: st.DataObject, chance: Random) -> None:
    # A second cluster's objects of other names make Services claim each other's addresses.
    rival = other.draw(clusters(family=cluster.family))
    objects = cluster.objects()
    mixed = {
        kind: {
            **objects[kind],
            **{ObjectKey("zoo", key.name): _moved(obj) for key, obj in rival.objects()[kind].items()},
        }
        for kind in objects
    }
    texts: dict[Build, set[str]] = {build: set() for build in BUILDS}
    for _ in range(3):
        plan, _ = plan_objects(_shuffled(mixed, chance), cluster.family, cluster.settings, cluster.facts)
        for build in BUILDS:
            texts[build].add(render_ruleset(build.compile(plan), cluster.family))
    assert [len(same) for same in texts.values()] == [1] * len(BUILDS)


def _moved(obj: ApiObject) -> ApiObject:
    return msgspec.structs.replace(obj, metadata=msgspec.structs.replace(obj.metadata, namespace="zoo"))


def _shuffled(
    objects: Mapping[ObjectKind, Mapping[ObjectKey, ApiObject]], chance: Random
) -> dict[ObjectKind, dict[ObjectKey, ApiObject]]:
    return {kind: dict(chance.sample(list(each.items()), len(each))) for kind, each in objects.items()}


@examples(30)
@given(cluster=clusters(), chance=chances)
def test_slices_may_come_before_their_services(cluster: Cluster, chance: Random) -> None:
    objects = [obj for each in cluster.objects().values() for obj in each.values()]
    tracker = Tracker(cluster.family, "node-a")
    planner = Planner(cluster.settings, cluster.facts, tracker)
    for obj in chance.sample(objects, len(objects)):
        if isinstance(obj, Service):
            tracker.update_service(obj)
        elif isinstance(obj, EndpointSlice):
            tracker.update_slice(obj)
        if chance.random() < 0.3:
            planner.update(tracker.pending)
            tracker.applied(list(tracker.pending))
    planner.update(tracker.pending)
    assert planner.plan == cluster.plan()
