"""What comes while one look is under way is looked at together in the next, and nothing gets lost."""

import queue
import threading
from collections.abc import Iterator, Set

import msgspec
import pytest

from kproxy.conntrack.expected import Places
from kproxy.conntrack.flows import ConntrackError
from kproxy.conntrack.keeper import Keeper
from kproxy.conntrack.reconciler import Reconciler
from kproxy.plan.model import Destination, Frontend, FrontendKind, NodePlan, Plan, Route, ServicePlan, Target
from kproxy.state.model import IPFamily, Protocol, ServicePortName

PATIENCE = 30.0
NODES = {family: NodePlan(family=family) for family in IPFamily}
A, B, C = (ServicePortName("default", name, "", Protocol.TCP) for name in "abc")


def service(name: ServicePortName, ip: str = "10.96.0.10") -> ServicePlan:
    frontends = (Frontend(FrontendKind.CLUSTER_IP, ip, 80),)
    return ServicePlan(name=name, frontends=frontends, internal=Route(Target.CLUSTER))


def plan(*services: ServicePlan, family: IPFamily = IPFamily.IPV4) -> Plan:
    return Plan(node=NODES[family], services={one.name: one for one in services})


class Call(msgspec.Struct):
    """One call of `Reconciler.reconcile`, which waits to be told how it ends."""

    plan: Plan
    changed: Set[ServicePortName] | None
    passed: Places | None
    outcome: "queue.Queue[int | Exception | None]" = msgspec.field(default_factory=queue.Queue)

    @property
    def names(self) -> set[ServicePortName]:
        return set(self.plan.services)


class SlowReconciler(Reconciler):
    """Hands every call over to the test."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: queue.Queue[Call] = queue.Queue()
        self.ending = False

    def next(self) -> Call:
        return self.calls.get(timeout=PATIENCE)

    def end(self) -> None:
        """Let all calls come to an end, those under way and those still to come."""
        self.ending = True
        while not self.calls.empty():
            self.calls.get().outcome.put(None)

    def reconcile(self, plan: Plan, changed: Set[ServicePortName] | None, passed: Places | None = None) -> int | None:
        call = Call(plan, changed, passed)
        if self.ending:
            return None
        self.calls.put(call)
        outcome = call.outcome.get(timeout=PATIENCE)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class Heard:
    """A `kproxy.conntrack.keeper.Observer`."""

    def __init__(self) -> None:
        self.told: queue.Queue[tuple[IPFamily, int | Exception]] = queue.Queue()

    def reconciled(self, family: IPFamily, *, seconds: float, released: int) -> None:
        assert seconds >= 0
        self.told.put((family, released))

    def failed(self, family: IPFamily, error: Exception) -> None:
        self.told.put((family, error))

    def next(self) -> tuple[IPFamily, int | Exception]:
        return self.told.get(timeout=PATIENCE)


@pytest.fixture
def reconciler() -> SlowReconciler:
    return SlowReconciler()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def keeper(reconciler: SlowReconciler, heard: Heard) -> Iterator[Keeper]:
    keeper = Keeper(reconciler, heard, cpu_share=1)
    with keeper.running():
        yield keeper
        reconciler.end()


def test_looks_at_what_was_synced_and_says_what_came_of_it(
    keeper: Keeper, reconciler: SlowReconciler, heard: Heard
) -> None:
    tried = keeper.synced(plan(service(A), service(B)), {A, C})
    call = reconciler.next()
    assert (call.names, call.changed) == ({A}, {A, C})
    assert not tried.is_set()
    call.outcome.put(3)
    assert heard.next() == (IPFamily.IPV4, 3)
    assert tried.wait(PATIENCE)
    keeper.synced(plan(), set())
    reconciler.next().outcome.put(None)
    keeper.synced(plan(service(A)), {A})
    reconciler.next().outcome.put(0)
    assert heard.next() == (IPFamily.IPV4, 0), "a look that was not needed is not worth a word"


def test_what_comes_meanwhile_is_looked_at_together(keeper: Keeper, reconciler: SlowReconciler) -> None:
    keeper.synced(plan(service(A)), {A})
    first = reconciler.next()
    keeper.synced(plan(service(A), service(B), service(C)), {B, C})
    keeper.synced(plan(service(A, "10.96.0.99"), service(B)), {A, C})
    keeper.synced(plan(service(A), family=IPFamily.IPV6), {A})
    first.outcome.put(0)
    second, third = reconciler.next(), None
    assert (second.names, second.changed) == ({A, B}, {A, B, C})
    assert second.plan.services[A] == service(A, "10.96.0.99"), "the latest counts"
    assert second.passed == {Protocol.TCP: {Destination("10.96.0.10", 80)}}, "C came and went"
    second.outcome.put(0)
    third = reconciler.next()
    assert (third.plan.node.family, third.changed) == (IPFamily.IPV6, {A})
    third.outcome.put(0)


@pytest.mark.parametrize("repaired_first", [True, False])
def test_a_look_at_everything_knows_all_services(
    keeper: Keeper, reconciler: SlowReconciler, repaired_first: bool
) -> None:
    keeper.synced(plan(service(A)), {A})
    first = reconciler.next()
    steps = [(plan(service(A), service(B)), None), (plan(service(A), service(B)), {B})]
    for one, changed in steps if repaired_first else reversed(steps):
        keeper.synced(one, changed)
    first.outcome.put(0)
    second = reconciler.next()
    assert (second.names, second.changed) == ({A, B}, None)
    second.outcome.put(0)


def test_a_plan_that_goes_on_living_is_not_the_one_looked_at(keeper: Keeper, reconciler: SlowReconciler) -> None:
    """The loop's thread changes its plan in place."""
    living = {A: service(A)}
    keeper.synced(plan(service(C)), {C})
    first = reconciler.next()
    for changed in ({A}, None):
        keeper.synced(Plan(node=NODES[IPFamily.IPV4], services=living), changed)
    del living[A]
    first.outcome.put(0)
    second = reconciler.next()
    assert second.names == {A}
    second.outcome.put(0)


@pytest.mark.parametrize("error", [ConntrackError("no permission"), RuntimeError("what nobody foresaw")])
def test_a_failure_is_told_and_tried_again_with_what_came_meanwhile(
    keeper: Keeper, reconciler: SlowReconciler, heard: Heard, error: Exception
) -> None:
    tried = [keeper.synced(plan(service(A), service(B)), {A, B})]
    first = reconciler.next()
    tried.append(keeper.synced(plan(service(A), service(C)), {B, C}))
    tried.append(keeper.synced(plan(service(A), family=IPFamily.IPV6), set()))
    first.outcome.put(error)
    assert heard.next() == (IPFamily.IPV4, error)
    assert all(event.wait(PATIENCE) for event in tried), "nobody waits for the retries"
    assert keeper.synced(plan(service(A), family=IPFamily.IPV6), set()).wait(PATIENCE)
    while (second := reconciler.next()).plan.node.family is IPFamily.IPV6:
        second.outcome.put(None)
    assert (second.names, second.changed) == ({A, C}, {A, B, C})
    second.outcome.put(1)
    assert heard.next() == (IPFamily.IPV4, 1)


def test_ends_with_its_block_whatever_waits(reconciler: SlowReconciler, heard: Heard) -> None:
    keeper = Keeper(reconciler, heard, cpu_share=0.001)
    keeper.synced(plan(service(A)), {A})
    with keeper.running():
        reconciler.next().outcome.put(ConntrackError("never"))
        heard.next()
        keeper.synced(plan(service(A)), {A})
    assert "conntrack" not in {thread.name for thread in threading.enumerate()}
