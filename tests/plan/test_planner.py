"""Planning: what of it does not show in the table of flows."""

from collections.abc import Iterable

import msgspec
import pytest

from kproxy.plan.model import Frontend, FrontendKind, LocalTraffic, ServicePlan
from kproxy.plan.node import plan_node
from kproxy.plan.planner import Planner
from kproxy.plan.service import plan_service
from kproxy.plan.settings import PRIMARY, DetectLocalMode, NodeFacts, ProxySettings
from kproxy.state.model import Endpoint, IPFamily, Protocol, ServicePort, ServicePortName
from kproxy.state.tracker import Tracker
from tests.state.test_tracker import WEB, endpoint_slice, service

V4, V6 = IPFamily.IPV4, IPFamily.IPV6
NODE = NodeFacts(
    name="node-a",
    zone="zone-a",
    ips={V4: "10.0.0.1", V6: "fd00:a::1"},
    pod_cidrs={V4: "10.244.0.0/24"},
    interface_addresses=("10.0.0.1", "10.244.0.1", "127.0.0.1", "::1", "fd00:a::1", "fe80::1"),
)
SETTINGS = ProxySettings(cluster_cidrs={V4: "10.244.0.0/16"})
HERE = Endpoint("10.244.0.1", 80, is_local=True)
LEAVING = Endpoint("10.244.0.2", 80, is_local=True, ready=False, terminating=True)
THERE = Endpoint("10.244.1.1", 80, is_remote=True)
UNKNOWN = Endpoint("10.244.1.2", 80)


def planned(port: ServicePort, *endpoints: Endpoint, node: NodeFacts = NODE) -> ServicePlan:
    return plan_service(port, endpoints, node, plan_node(V4, node, SETTINGS), SETTINGS)


PORT = ServicePort(name=ServicePortName("shop", "web", "http", Protocol.TCP), cluster_ip="10.96.0.10", port=80)
BALANCED = msgspec.structs.replace(
    PORT,
    node_port=30080,
    external_ips=("198.51.100.1",),
    load_balancer_vips=("203.0.113.1", "203.0.113.2"),
    source_ranges=("192.0.2.0/24",),
    external_local=True,
    health_check_node_port=32000,
)

# --- service ports -------------------------------------------------------------------------------------------------


def test_every_address_is_a_frontend() -> None:
    ranges = ("192.0.2.0/24",)
    assert planned(BALANCED, HERE).frontends == (
        Frontend(FrontendKind.CLUSTER_IP, "10.96.0.10", 80),
        Frontend(FrontendKind.EXTERNAL_IP, "198.51.100.1", 80),
        Frontend(FrontendKind.LOAD_BALANCER, "203.0.113.1", 80, ranges),
        Frontend(FrontendKind.LOAD_BALANCER, "203.0.113.2", 80, ranges),
        Frontend(FrontendKind.NODE_PORT, None, 30080),
    )


@pytest.mark.parametrize(
    ("ranges", "ips", "sources"),
    [
        (("10.0.0.0/8",), {V4: "10.0.0.1"}, ("10.0.0.0/8", "203.0.113.1/32", "203.0.113.2/32")),
        (("192.0.2.0/24",), {V4: "10.0.0.1"}, ("192.0.2.0/24",)),
        (("10.0.0.0/8",), {}, ("10.0.0.0/8",)),
        ((), {V4: "10.0.0.1"}, ()),
    ],
)
def test_sources(ranges: tuple[str, ...], ips: dict[IPFamily, str], sources: tuple[str, ...]) -> None:
    port = msgspec.structs.replace(BALANCED, source_ranges=ranges)
    plan = planned(port, HERE, node=msgspec.structs.replace(NODE, ips=ips))
    assert {frontend.sources for frontend in plan.frontends if frontend.kind is FrontendKind.LOAD_BALANCER} == {sources}


def test_the_health_check_counts_ready_endpoints_of_this_node() -> None:
    plan = planned(BALANCED, HERE, LEAVING, THERE, UNKNOWN)
    assert (plan.health_check_node_port, plan.local_ready) == (32000, 1)
    assert planned(BALANCED, LEAVING).local_ready == 0
    assert planned(BALANCED, HERE, msgspec.structs.replace(HERE, port=81)).local_ready == 1


def test_a_frontend_without_a_route_is_a_mistake() -> None:
    plan = planned(PORT, HERE)
    assert plan.external is None
    with pytest.raises(ValueError, match="shop/web:http: node port frontend without an external route"):
        plan.route(Frontend(FrontendKind.NODE_PORT, None, 30080))


@pytest.mark.parametrize(
    ("port", "endpoint", "may"),
    [(PORT, HERE, True), (PORT, UNKNOWN, True), (PORT, THERE, False), (BALANCED, THERE, True)],
)
def test_who_may_come_to_itself(port: ServicePort, endpoint: Endpoint, may: bool) -> None:
    assert planned(port, endpoint).may_hairpin(endpoint) is may


def test_reachable_endpoints_are_each_there_once_in_order() -> None:
    plan = planned(BALANCED, LEAVING, THERE)
    assert (plan.cluster_endpoints, plan.local_endpoints) == ((THERE,), (LEAVING,))
    assert plan.reachable_endpoints == (LEAVING, THERE)


# --- the node ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "family", "local"),
    [
        (SETTINGS, V4, LocalTraffic(cidr="10.244.0.0/16")),
        (SETTINGS, V6, None),
        (ProxySettings(), V4, None),
        (ProxySettings(detect_local_mode=DetectLocalMode.NODE_CIDR), V4, LocalTraffic(cidr="10.244.0.0/24")),
        (ProxySettings(detect_local_mode=DetectLocalMode.NODE_CIDR), V6, None),
        (
            ProxySettings(detect_local_mode=DetectLocalMode.BRIDGE_INTERFACE, bridge_interface="cni0"),
            V6,
            LocalTraffic(bridge="cni0"),
        ),
        (
            ProxySettings(detect_local_mode=DetectLocalMode.INTERFACE_NAME_PREFIX, interface_name_prefix="veth"),
            V4,
            LocalTraffic(interface_prefix="veth"),
        ),
    ],
)
def test_local_traffic(settings: ProxySettings, family: IPFamily, local: LocalTraffic | None) -> None:
    assert plan_node(family, NODE, settings).local_traffic == local


@pytest.mark.parametrize(
    ("said", "family", "ips", "localhost"),
    [
        ((), V4, None, True),
        ((), V6, None, False),
        (("0.0.0.0/0",), V4, None, True),
        (("10.0.0.0/8",), V4, ("10.0.0.1", "10.244.0.1"), False),
        (("10.0.0.0/8",), V6, None, False),
        (("10.0.0.0/8", "127.0.0.0/8"), V4, ("10.0.0.1", "10.244.0.1", "127.0.0.1"), True),
        (("::1/128", "fd00::/16"), V6, ("fd00:a::1",), False),
        ((PRIMARY,), V4, ("10.0.0.1",), False),
        ((PRIMARY,), V6, ("fd00:a::1",), False),
        (("198.51.100.0/24",), V4, (), False),
    ],
)
def test_node_port_addresses(
    said: tuple[str, ...], family: IPFamily, ips: tuple[str, ...] | None, localhost: bool
) -> None:
    plan = plan_node(family, NODE, ProxySettings(node_port_addresses=said))
    assert (plan.node_port_ips, plan.localhost_node_ports) == (ips, localhost)


def test_primary_without_an_address_is_nowhere() -> None:
    nameless = msgspec.structs.replace(NODE, ips={})
    assert plan_node(V4, nameless, ProxySettings(node_port_addresses=(PRIMARY,))).node_port_ips == ()


# --- the planner ---------------------------------------------------------------------------------------------------


@pytest.fixture
def planner() -> Planner:
    tracker = Tracker(V4, "node-a")
    tracker.update_service(service("http", "admin"))
    tracker.update_slice(endpoint_slice("10.244.0.11"))
    return Planner(SETTINGS, NODE, tracker)


def update(planner: Planner, names: Iterable[ServicePortName] = (WEB,)) -> frozenset[ServicePortName]:
    return planner.update(names)


def test_only_what_is_named_is_planned(planner: Planner) -> None:
    assert update(planner) == {WEB}
    assert planner.plan.services.keys() == {WEB}


def test_what_comes_out_the_same_is_no_change(planner: Planner) -> None:
    update(planner)
    assert update(planner) == frozenset()


def test_a_condition_that_changes_nothing_is_no_change() -> None:
    tracker = Tracker(V4, "node-a")
    tracker.update_service(service("http"))
    planner = Planner(SETTINGS, NODE, tracker)
    tracker.update_slice(endpoint_slice("10.244.0.11"))
    update(planner)
    unready = {"addresses": ["10.244.0.12"], "conditions": {"ready": False, "serving": False}}
    assert tracker.update_slice(endpoint_slice("10.244.0.11", unready)).changed
    assert update(planner) == frozenset()


def test_a_service_that_goes_leaves_the_plan() -> None:
    tracker = Tracker(V4, "node-a")
    tracker.update_service(service("http"))
    planner = Planner(SETTINGS, NODE, tracker)
    update(planner)
    tracker.delete_service(WEB.service)
    assert update(planner) == {WEB}
    assert planner.plan.services == {}
    assert update(planner) == frozenset()


def test_a_node_that_moves_to_another_zone_plans_everything_anew() -> None:
    tracker = Tracker(V4, "node-a")
    tracker.update_service(service("http"))
    near, far = (
        {"addresses": [ip], "hints": {"forZones": [{"name": zone}]}}
        for ip, zone in (("10.1.0.1", "zone-a"), ("10.1.0.2", "zone-b"))
    )
    tracker.update_slice(endpoint_slice(near, far))
    planner = Planner(SETTINGS, NODE, tracker)
    update(planner, tracker.pending)
    tracker.applied(list(tracker.pending))
    assert not planner.set_node(NODE)
    assert tracker.pending == set()
    assert planner.set_node(msgspec.structs.replace(NODE, zone="zone-b"))
    assert tracker.pending == {WEB}
    assert update(planner, tracker.pending) == {WEB}
    assert [endpoint.ip for endpoint in planner.plan.services[WEB].cluster_endpoints] == ["10.1.0.2"]
