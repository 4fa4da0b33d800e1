"""When the reconciler looks, at what, and that no failure makes it forget."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import msgspec
import pytest

from kproxy.conntrack.flows import ConntrackError, Flow, packed, socket_address
from kproxy.conntrack.reconciler import Reconciler
from kproxy.plan.model import Destination, Frontend, FrontendKind, NodePlan, Plan, Route, ServicePlan, Target
from kproxy.state.model import Endpoint, IPFamily, Protocol, ServicePortName

DNS = ServicePortName("kube-system", "dns", "dns", Protocol.UDP)
STATS = ServicePortName("default", "stats", "", Protocol.UDP)
WEB = ServicePortName("default", "web", "", Protocol.TCP)
ENDPOINT = Endpoint("10.244.0.11", 53)
NODE = NodePlan(family=IPFamily.IPV4)


def service(name: ServicePortName, ip: str, *endpoints: Endpoint, node_port: int = 0) -> ServicePlan:
    frontends = [Frontend(FrontendKind.CLUSTER_IP, ip, 53)]
    if node_port:
        frontends.append(Frontend(FrontendKind.NODE_PORT, None, node_port))
    route = Route(Target.CLUSTER) if endpoints else Route(Target.REJECT)
    return ServicePlan(
        name=name, frontends=tuple(frontends), internal=route, external=route, serving_endpoints=endpoints
    )


def plan(*services: ServicePlan, node: NodePlan = NODE) -> Plan:
    return Plan(node=node, services={one.name: one for one in services})


def flow(ip: str, port: int = 53, goes_to: str = "10.244.0.11") -> Flow:
    handle = f"{ip} {port} {goes_to}".encode()
    return Flow(packed("10.244.0.9"), socket_address(ip, port), socket_address(goes_to, 53), handle)


class FakeTable:
    """A conntrack table that notes what it is asked for; ``error`` makes the named method fail."""

    def __init__(self, *held: Flow) -> None:
        self.held = list(held)
        self.looks: list[Collection[Destination] | None] = []
        self.error = ""

    @contextmanager
    def open(self, _: IPFamily) -> Iterator["FakeTable"]:
        self._fail("open")
        yield self

    def flows(self, destinations: Collection[Destination] | None = None) -> Iterator[Flow]:
        self.looks.append(destinations)
        self._fail("flows")
        yield from list(self.held)

    def release(self, flows: Sequence[Flow]) -> int:
        self._fail("release")
        before = len(self.held)
        self.held = [one for one in self.held if one not in flows]
        return before - len(self.held)

    def is_local(self, ip: str) -> bool:
        return ip == "10.0.0.1"

    def _fail(self, method: str) -> None:
        if method == self.error:
            raise ConntrackError(f"{method} failed")


def test_first_call_looks_at_everything_later_ones_at_what_changed() -> None:
    table = FakeTable()
    reconciler = Reconciler(table.open)
    dns, stats = service(DNS, "10.96.0.10", ENDPOINT), service(STATS, "10.96.0.11", ENDPOINT)
    assert reconciler.reconcile(plan(dns, stats), {DNS, STATS}) == 0
    assert reconciler.reconcile(plan(service(DNS, "10.96.0.10"), stats), {DNS}) == 0
    assert table.looks == [None, {Destination("10.96.0.10", 53)}]


def test_changed_frontends_are_looked_at_under_both_addresses() -> None:
    table = FakeTable()
    reconciler = Reconciler(table.open)
    reconciler.reconcile(plan(service(DNS, "10.96.0.10", ENDPOINT, node_port=30053)), None)
    table.held = [flow("10.96.0.10"), flow("10.0.0.1", 30053), flow("192.0.2.1", 30053), flow("10.96.0.12")]
    assert reconciler.reconcile(plan(service(DNS, "10.96.0.12", ENDPOINT)), {DNS}) == 2
    assert table.looks[1] == {Destination("10.96.0.10", 53), Destination(None, 30053), Destination("10.96.0.12", 53)}
    assert table.held == [flow("192.0.2.1", 30053), flow("10.96.0.12")]


@pytest.mark.parametrize("changed", [set(), {WEB}])
def test_nothing_is_asked_when_no_udp_service_changed(changed: set[ServicePortName]) -> None:
    table = FakeTable()
    reconciler = Reconciler(table.open)
    reconciler.reconcile(plan(service(DNS, "10.96.0.10", ENDPOINT)), None)
    table.error = "open"
    both = plan(service(DNS, "10.96.0.10", ENDPOINT), service(WEB, "10.96.0.20", ENDPOINT))
    assert reconciler.reconcile(both, changed) is None


def test_nothing_is_asked_where_there_is_no_udp_service_at_all() -> None:
    table = FakeTable()
    table.error = "open"
    assert Reconciler(table.open).reconcile(plan(service(WEB, "10.96.0.20", ENDPOINT)), None) is None


def test_new_settings_of_the_node_need_a_look_at_everything() -> None:
    table = FakeTable()
    reconciler = Reconciler(table.open)
    dns = service(DNS, "10.96.0.10", ENDPOINT, node_port=30053)
    reconciler.reconcile(plan(dns), None)
    narrow = msgspec.structs.replace(NODE, node_port_ips=("10.0.0.2",))
    assert reconciler.reconcile(plan(dns, node=narrow), set()) == 0
    assert reconciler.reconcile(plan(dns, node=narrow), set()) is None
    assert table.looks == [None, None]


def test_frontends_of_before_are_known_once_they_are_told() -> None:
    table = FakeTable(flow("10.96.0.66"), flow("10.0.0.1", 30066), flow("10.96.0.77"))
    reconciler = Reconciler(table.open)
    reconciler.remember(IPFamily.IPV4, [Destination("10.96.0.66", 53), Destination(None, 30066)])
    assert reconciler.reconcile(plan(), None) == 2
    assert table.held == [flow("10.96.0.77")]


def test_released_frontends_are_forgotten() -> None:
    """Whoever gets the address next is not kproxy's business."""
    table = FakeTable(flow("10.96.0.10"))
    reconciler = Reconciler(table.open)
    stats = service(STATS, "10.96.0.11", ENDPOINT)
    reconciler.reconcile(plan(service(DNS, "10.96.0.10", ENDPOINT), stats), None)
    assert reconciler.reconcile(plan(stats), {DNS}) == 1
    table.held = [flow("10.96.0.10")]
    assert reconciler.reconcile(plan(stats), None) == 0


@pytest.mark.parametrize("method", ["open", "flows", "release"])
@pytest.mark.parametrize("later", [None, set(), {WEB}])
def test_a_failure_is_made_up_for_by_the_next_call(method: str, later: set[ServicePortName] | None) -> None:
    table = FakeTable()
    reconciler = Reconciler(table.open)
    stats = service(STATS, "10.96.0.11", ENDPOINT)
    reconciler.reconcile(plan(service(DNS, "10.96.0.10", ENDPOINT), stats), None)
    table.held = [flow("10.96.0.10"), flow("10.96.0.11")]
    table.error = method
    for _ in range(2):
        with pytest.raises(ConntrackError, match=method):
            reconciler.reconcile(plan(stats), {DNS})
    table.error = ""
    assert reconciler.reconcile(plan(stats), later) == 1
    assert table.held == [flow("10.96.0.11")]
    assert reconciler.reconcile(plan(stats), set()) is None


def test_families_are_told_apart() -> None:
    table = FakeTable()
    reconciler = Reconciler(table.open)
    reconciler.reconcile(plan(service(DNS, "10.96.0.10", ENDPOINT)), None)
    v6 = NodePlan(family=IPFamily.IPV6)
    assert reconciler.reconcile(plan(node=v6), None) is None
    assert reconciler.reconcile(plan(service(DNS, "10.96.0.10", ENDPOINT)), set()) is None
