"""When the reconciler looks, at what, and that no failure makes it forget."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec
import pytest

from kproxy.conntrack.flows import ConntrackError, Flow, packed, socket_address
from kproxy.conntrack.looks import Look
from kproxy.conntrack.reconciler import Reconciler
from kproxy.plan.model import Destination, Frontend, FrontendKind, NodePlan, Plan, Route, ServicePlan, Target
from kproxy.state.model import Endpoint, IPFamily, Protocol, ServicePortName

DNS = ServicePortName("kube-system", "dns", "dns", Protocol.UDP)
STATS = ServicePortName("default", "stats", "", Protocol.UDP)
WEB = ServicePortName("default", "web", "", Protocol.TCP)
ENDPOINT, OTHER = Endpoint("10.244.0.11", 53), Endpoint("10.244.0.12", 53)
ALL_UDP, ALL_TCP = Look((Protocol.UDP,)), Look((Protocol.TCP,))
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


def flow(
    ip: str, port: int = 53, goes_to: str = "10.244.0.11", protocol: Protocol = Protocol.UDP, source: str = "10.244.0.9"
) -> Flow:
    handle = f"{protocol} {source} {ip} {port} {goes_to}".encode()
    return Flow(protocol, packed(source), socket_address(ip, port), socket_address(goes_to, 53), handle)


def udp(ip: str | None = None, port: int | None = None) -> Look:
    return Look((Protocol.UDP,), ip, port)


class FakeTable:
    """A conntrack table that notes what it is asked for; ``error`` makes the named method fail."""

    def __init__(self, *held: Flow) -> None:
        self.held = list(held)
        self.looks: list[Look] = []
        self.waited: list[float] = []
        self.answer: Callable[[], None] = lambda: None
        """What happens while the reconciler waits."""
        self.error = ""

    @contextmanager
    def open(self, _: IPFamily) -> Iterator["FakeTable"]:
        self._fail("open")
        yield self

    def flows(self, look: Look) -> Iterator[Flow]:
        self.looks.append(look)
        self._fail("flows")
        yield from [one for one in self.held if one.protocol in look.protocols]

    def release(self, flows: Sequence[Flow]) -> int:
        self._fail("release")
        before = len(self.held)
        self.held = [one for one in self.held if one not in flows]
        return before - len(self.held)

    def is_local(self, ip: str) -> bool:
        return ip == "10.0.0.1"

    def reconciler(self) -> Reconciler:
        return Reconciler(self.open, self._wait)

    def _wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.answer()

    def _fail(self, method: str) -> None:
        if method == self.error:
            raise ConntrackError(f"{method} failed")


def test_first_call_looks_at_everything_later_ones_at_what_changed() -> None:
    table = FakeTable()
    reconciler = table.reconciler()
    dns, stats = service(DNS, "10.96.0.10", ENDPOINT), service(STATS, "10.96.0.11", ENDPOINT)
    assert reconciler.reconcile(plan(dns, stats), {DNS, STATS}) == 0
    assert reconciler.reconcile(plan(service(DNS, "10.96.0.10"), stats), {DNS}) == 0
    assert table.looks == [ALL_UDP, udp("10.96.0.10", 53)]


def test_changed_frontends_are_looked_at_under_both_addresses() -> None:
    table = FakeTable()
    reconciler = table.reconciler()
    reconciler.reconcile(plan(service(DNS, "10.96.0.10", ENDPOINT, node_port=30053)), None)
    table.held = [flow("10.96.0.10"), flow("10.0.0.1", 30053), flow("192.0.2.1", 30053), flow("10.96.0.12")]
    assert reconciler.reconcile(plan(service(DNS, "10.96.0.12", ENDPOINT)), {DNS}) == 2
    assert set(table.looks[1:]) == {udp("10.96.0.10", 53), udp(None, 30053), udp("10.96.0.12", 53)}
    assert table.held == [flow("192.0.2.1", 30053), flow("10.96.0.12")]


def test_nothing_is_asked_when_nothing_changed() -> None:
    table = FakeTable()
    reconciler = table.reconciler()
    both = plan(service(DNS, "10.96.0.10", ENDPOINT), service(WEB, "10.96.0.20", ENDPOINT))
    reconciler.reconcile(both, None)
    table.error = "open"
    assert reconciler.reconcile(both, set()) is None


def test_nothing_is_asked_where_there_is_no_service_at_all() -> None:
    table = FakeTable()
    table.error = "open"
    assert table.reconciler().reconcile(plan(), None) is None


def test_the_plan_may_be_silent_of_what_has_not_changed() -> None:
    table = FakeTable()
    reconciler = table.reconciler()
    dns, stats = service(DNS, "10.96.0.10", ENDPOINT), service(STATS, "10.96.0.11", ENDPOINT)
    reconciler.reconcile(plan(dns, stats), None)
    table.held = [flow("10.96.0.10"), flow("10.96.0.11")]
    assert reconciler.reconcile(plan(service(DNS, "10.96.0.10", OTHER)), {DNS}) == 1
    assert table.held == [flow("10.96.0.11")]
    table.error = "flows"
    with pytest.raises(ConntrackError):
        reconciler.reconcile(plan(dns), {DNS})
    table.error = ""
    assert reconciler.reconcile(plan(), set()) == 0
    assert table.held == [flow("10.96.0.11")]


# --- connections ------------------------------------------------------------------------------------------------------


def syn(ip: str, goes_to: str = "10.244.0.11", port: int = 53, source: str = "10.244.0.9") -> Flow:
    """A connection that nobody has answered."""
    return flow(ip, port, goes_to, Protocol.TCP, source)


def test_connections_are_looked_at_once_in_each_call() -> None:
    table = FakeTable()
    reconciler = table.reconciler()
    web = service(WEB, "10.96.0.20", ENDPOINT, node_port=30020)
    assert reconciler.reconcile(plan(web, service(DNS, "10.96.0.10", ENDPOINT)), None) == 0
    assert table.looks == [ALL_UDP, ALL_TCP]
    assert reconciler.reconcile(plan(service(WEB, "10.96.0.20", OTHER)), {WEB}) == 0
    assert table.looks[2:] == [ALL_TCP]
    assert reconciler.reconcile(plan(service(WEB, "10.96.0.20")), {WEB}) == 0
    assert table.looks[3:] == [Look((Protocol.TCP,), "10.96.0.20", 53)]


def test_connections_that_lead_nowhere_are_released() -> None:
    too_early, gone = syn("10.96.0.20", "10.96.0.20"), syn("10.96.0.20", "10.244.0.99")
    right, elsewhere = syn("10.96.0.20"), syn("10.96.0.21", "10.96.0.21")
    table = FakeTable(too_early, gone, right, elsewhere)
    assert table.reconciler().reconcile(plan(service(WEB, "10.96.0.20", ENDPOINT)), {WEB}) == 2
    assert table.held == [right, elsewhere]


@pytest.mark.parametrize("name", [WEB, DNS])
def test_more_endpoints_need_no_look(name: ServicePortName) -> None:
    """Nor do those that leave but still serve: in a rollout, two of three changes are of either kind."""
    table = FakeTable()
    reconciler = table.reconciler()
    reconciler.reconcile(plan(service(name, "10.96.0.20", ENDPOINT)), None)
    table.error = "open"
    assert reconciler.reconcile(plan(service(name, "10.96.0.20", ENDPOINT, OTHER)), {name}) is None
    leaving = msgspec.structs.replace(ENDPOINT, ready=False, terminating=True)
    assert reconciler.reconcile(plan(service(name, "10.96.0.20", leaving, OTHER)), {name}) is None


def test_an_answer_under_way_is_waited_for() -> None:
    """The table itself leaves alone what has been answered; see the tests of `KernelConntrack.release`."""
    answered, never = syn("10.96.0.20", "10.244.0.99", source="10.244.0.7"), syn("10.96.0.20", "10.244.0.99")
    table = FakeTable(answered, never)
    table.answer = lambda: table.held.remove(answered)
    assert table.reconciler().reconcile(plan(service(WEB, "10.96.0.20", ENDPOINT)), {WEB}) == 1
    assert table.waited == [pytest.approx(0.01)]


@pytest.mark.parametrize("held", [[flow("10.96.0.10", goes_to="10.244.0.99")], [syn("10.96.0.20", "10.96.0.20")], []])
def test_nobody_waits_where_no_answer_can_come(held: list[Flow]) -> None:
    """A flow of UDP must go, answered or not; and nobody is there to answer what was never sent to an endpoint."""
    table = FakeTable(*held)
    both = plan(service(DNS, "10.96.0.10", ENDPOINT), service(WEB, "10.96.0.20", ENDPOINT))
    assert table.reconciler().reconcile(both, None) == len(held)
    assert table.waited == []


def test_connections_of_a_former_service_are_released() -> None:
    table = FakeTable()
    reconciler = table.reconciler()
    reconciler.reconcile(plan(service(WEB, "10.96.0.20", ENDPOINT, node_port=30020)), None)
    table.held = [syn("10.96.0.20"), syn("10.0.0.1", port=30020), syn("192.0.2.1", port=30020), flow("10.96.0.20")]
    assert reconciler.reconcile(plan(), {WEB}) == 2
    assert table.held == [syn("192.0.2.1", port=30020), flow("10.96.0.20")]
    assert reconciler.reconcile(plan(), None) is None


# --- what is remembered -----------------------------------------------------------------------------------------------


def test_new_settings_of_the_node_need_a_look_at_everything() -> None:
    table = FakeTable()
    reconciler = table.reconciler()
    dns = service(DNS, "10.96.0.10", ENDPOINT, node_port=30053)
    reconciler.reconcile(plan(dns), None)
    narrow = msgspec.structs.replace(NODE, node_port_ips=("10.0.0.2",))
    assert reconciler.reconcile(plan(dns, node=narrow), set()) == 0
    assert reconciler.reconcile(plan(dns, node=narrow), set()) is None
    assert table.looks == [ALL_UDP, ALL_UDP]


def test_frontends_of_before_are_known_once_they_are_told() -> None:
    table = FakeTable(flow("10.96.0.66"), flow("10.0.0.1", 30066), flow("10.96.0.77"))
    reconciler = table.reconciler()
    reconciler.remember(IPFamily.IPV4, [Destination("10.96.0.66", 53), Destination(None, 30066)])
    assert reconciler.reconcile(plan(), None) == 2
    assert table.held == [flow("10.96.0.77")]


def test_released_frontends_are_forgotten() -> None:
    """Whoever gets the address next is not kproxy's business."""
    table = FakeTable(flow("10.96.0.10"))
    reconciler = table.reconciler()
    stats = service(STATS, "10.96.0.11", ENDPOINT)
    reconciler.reconcile(plan(service(DNS, "10.96.0.10", ENDPOINT), stats), None)
    assert reconciler.reconcile(plan(stats), {DNS}) == 1
    table.held = [flow("10.96.0.10")]
    assert reconciler.reconcile(plan(stats), None) == 0


def test_what_came_and_went_is_looked_at() -> None:
    """A Service has moved to another address and back, and its endpoint is as it was."""
    table = FakeTable()
    reconciler = table.reconciler()
    reconciler.reconcile(plan(service(DNS, "10.96.0.10", ENDPOINT)), None)
    table.held = [flow("10.96.0.10"), flow("10.96.0.10", goes_to="10.96.0.10"), flow("10.96.0.99"), flow("10.96.0.98")]
    between = {Protocol.UDP: {Destination(ip, 53) for ip in ("10.96.0.10", "10.96.0.99")}}
    assert reconciler.reconcile(plan(service(DNS, "10.96.0.10", ENDPOINT)), {DNS}, between) == 2
    assert table.held == [flow("10.96.0.10"), flow("10.96.0.98")]


@pytest.mark.parametrize("method", ["open", "flows", "release"])
@pytest.mark.parametrize("later", [None, set(), {WEB}])
def test_a_failure_is_made_up_for_by_the_next_call(method: str, later: set[ServicePortName] | None) -> None:
    table = FakeTable()
    reconciler = table.reconciler()
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
    reconciler = table.reconciler()
    reconciler.reconcile(plan(service(DNS, "10.96.0.10", ENDPOINT)), None)
    v6 = NodePlan(family=IPFamily.IPV6)
    assert reconciler.reconcile(plan(node=v6), None) is None
    assert reconciler.reconcile(plan(service(DNS, "10.96.0.10", ENDPOINT)), set()) is None
