"""Which flows are stale: the cases by hand, then flows and plans at random against a second way to say it."""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from kproxy.conntrack.expected import Expected, may_strand
from kproxy.conntrack.flows import Flow, packed, socket_address, split
from kproxy.plan.model import (
    Destination,
    Frontend,
    FrontendKind,
    LocalTraffic,
    NodePlan,
    Plan,
    Route,
    ServicePlan,
    Target,
)
from kproxy.state.model import Endpoint, IPFamily, Protocol, ServicePortName

NODE_IPS = {"10.0.0.1", "10.0.0.9", "127.0.0.1"}
CLIENT, POD, REMOTE_POD = "192.0.2.7", "10.244.0.11", "10.244.1.11"
PODS = LocalTraffic(cidr="10.244.0.0/16")
HERE = Endpoint("10.244.0.21", 8080, is_local=True)
THERE = Endpoint("10.244.1.21", 8080)
GONE = "10.244.0.99", 8080
CLUSTER_IP = Frontend(FrontendKind.CLUSTER_IP, "10.96.0.10", 53)
EXTERNAL_IP = Frontend(FrontendKind.EXTERNAL_IP, "203.0.113.1", 53)
LOAD_BALANCER = Frontend(FrontendKind.LOAD_BALANCER, "203.0.113.2", 53, ("192.0.2.0/28", "10.0.0.0/8"))
NODE_PORT = Frontend(FrontendKind.NODE_PORT, None, 30053)
FRONTENDS = (CLUSTER_IP, EXTERNAL_IP, LOAD_BALANCER, NODE_PORT)
CLUSTER, LOCAL, REJECT = Route(Target.CLUSTER), Route(Target.LOCAL), Route(Target.REJECT)
LOCAL_OUTSIDE = Route(Target.LOCAL, short_cut=True)
DROP_OUTSIDE = Route(Target.DROP, short_cut=True)


def name_of(text: str, protocol: Protocol = Protocol.UDP) -> ServicePortName:
    return ServicePortName("default", text, "dns", protocol)


def service(
    name: str = "dns",
    *,
    serving: Sequence[Endpoint] = (HERE, THERE),
    internal: Route = CLUSTER,
    external: Route = CLUSTER,
    frontends: Sequence[Frontend] = FRONTENDS,
    protocol: Protocol = Protocol.UDP,
) -> ServicePlan:
    return ServicePlan(
        name=name_of(name, protocol),
        frontends=tuple(frontends),
        internal=internal,
        external=external,
        serving_endpoints=tuple(serving),
    )


def plan_of(*services: ServicePlan, **node: Any) -> Plan:
    return Plan(
        node=NodePlan(family=IPFamily.IPV4, **{"local_traffic": PODS, **node}),
        services={one.name: one for one in services},
    )


def flow(
    to: tuple[str, int],
    goes_to: tuple[str, int] | Endpoint | None = None,
    source: str = POD,
    protocol: Protocol = Protocol.UDP,
) -> Flow:
    """A flow; without ``goes_to``, one that nobody translated."""
    if isinstance(goes_to, Endpoint):
        goes_to = goes_to.ip, goes_to.port
    return Flow(protocol, packed(source), socket_address(*to), socket_address(*(goes_to or to)), b"")


def stale(plan: Plan, one: Flow, former: Sequence[Destination] = ()) -> bool:
    """Ask in each way that there is: knowing of all services, and of those at the flow's place alone."""
    formers: Mapping[Protocol, Sequence[Destination]] = {one.protocol: former}
    verdict = Expected(plan, formers).stale(one, NODE_IPS.__contains__)
    ip, port = split(one.destination)
    for place in (Destination(ip, port), Destination(None, port)):
        assert Expected(plan, formers, {one.protocol: {place}}).stale(one, NODE_IPS.__contains__) == verdict
    return verdict


BY_CLUSTER_IP, BY_EXTERNAL_IP, BY_VIP = ("10.96.0.10", 53), ("203.0.113.1", 53), ("203.0.113.2", 53)
BY_NODE = "10.0.0.1", 30053
WAYS_IN = [BY_CLUSTER_IP, BY_EXTERNAL_IP, BY_VIP, BY_NODE, ("10.0.0.9", 30053)]


@pytest.mark.parametrize("way_in", WAYS_IN)
@pytest.mark.parametrize("protocol", list(Protocol))
def test_only_serving_endpoints_keep_flows(way_in: tuple[str, int], protocol: Protocol) -> None:
    plan = plan_of(service(protocol=protocol))
    assert not stale(plan, flow(way_in, HERE, protocol=protocol))
    assert not stale(plan, flow(way_in, THERE, protocol=protocol))
    assert stale(plan, flow(way_in, GONE, protocol=protocol))
    assert stale(plan, flow(way_in, (HERE.ip, 8081), protocol=protocol))  # its target port has moved
    assert stale(plan, flow(way_in, protocol=protocol))  # from before there were endpoints


@pytest.mark.parametrize("way_in", WAYS_IN)
def test_nobody_keeps_flows_of_a_service_without_endpoints(way_in: tuple[str, int]) -> None:
    plan = plan_of(service(serving=(), internal=REJECT, external=REJECT))
    assert stale(plan, flow(way_in, HERE))
    assert stale(plan, flow(way_in))


@pytest.mark.parametrize(
    "one",
    [
        flow(("10.96.0.10", 54), GONE),  # another port
        flow(("10.96.0.11", 53), GONE),  # another address: another proxy's service, perhaps
        flow(("10.0.0.1", 30054), GONE),  # a host port
        flow(("192.0.2.7", 30053), GONE),  # not the node's address, whatever the port
        flow(("192.0.2.7", 30053)),
        flow((HERE.ip, HERE.port)),  # straight to a pod
        flow(("127.0.0.1", 30053)),  # node ports don't answer there
    ],
)
def test_flows_to_no_frontend_are_not_our_business(one: Flow) -> None:
    assert not stale(plan_of(service()), one)


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.SCTP])
def test_same_port_of_another_protocol_is_another_matter(protocol: Protocol) -> None:
    plan = plan_of(service(protocol=protocol))
    former = [Destination("10.96.0.66", 53)]
    for way_in in WAYS_IN:
        assert not stale(plan, flow(way_in, GONE))
    expected = Expected(plan, {protocol: former})
    assert not expected.stale(flow(("10.96.0.66", 53), GONE), NODE_IPS.__contains__)
    assert expected.stale(flow(("10.96.0.66", 53), GONE, protocol=protocol), NODE_IPS.__contains__)


def test_node_ports_answer_where_the_plan_says() -> None:
    narrow = plan_of(service(), node_port_ips=("10.0.0.1",))
    assert stale(narrow, flow(BY_NODE, GONE))
    assert not stale(narrow, flow(("10.0.0.9", 30053), GONE))
    assert stale(plan_of(service(), localhost_node_ports=True), flow(("127.0.0.1", 30053), GONE))


@pytest.mark.parametrize("route", [LOCAL, Route(Target.DROP)])
def test_local_policy_holds_for_flows_to_the_cluster_ip(route: Route) -> None:
    plan = plan_of(service(internal=route))
    assert not stale(plan, flow(BY_CLUSTER_IP, HERE))
    assert stale(plan, flow(BY_CLUSTER_IP, THERE))
    assert not stale(plan, flow(BY_EXTERNAL_IP, THERE))


@pytest.mark.parametrize("route", [LOCAL_OUTSIDE, DROP_OUTSIDE])
@pytest.mark.parametrize(
    ("local_traffic", "source", "kept"),
    [
        (PODS, CLIENT, False),
        (PODS, POD, True),
        (PODS, "10.0.0.9", True),  # the node itself
        (None, POD, False),  # no way to tell pods: they are not cut short
        (None, "10.0.0.9", True),
        (LocalTraffic(bridge="cni0"), CLIENT, True),  # conntrack doesn't know interfaces: in doubt, keep
    ],
)
def test_local_policy_lets_this_nodes_flows_out(
    route: Route, local_traffic: LocalTraffic | None, source: str, kept: bool
) -> None:
    plan = plan_of(service(external=route), local_traffic=local_traffic)
    for way_in in (BY_EXTERNAL_IP, BY_NODE):
        assert stale(plan, flow(way_in, THERE, source)) is not kept
        assert not stale(plan, flow(way_in, HERE, source))
    assert not stale(plan, flow(BY_CLUSTER_IP, THERE, source))


def test_source_ranges_hold_for_flows() -> None:
    plan = plan_of(service())
    assert not stale(plan, flow(BY_VIP, HERE, CLIENT))
    assert stale(plan, flow(BY_VIP, HERE, "198.51.100.1"))
    assert not stale(plan, flow(BY_EXTERNAL_IP, HERE, "198.51.100.1"))


def test_former_frontends_lose_what_they_translated() -> None:
    former = [Destination(*BY_CLUSTER_IP), Destination(None, 30053)]
    nothing = plan_of()
    assert stale(nothing, flow(BY_CLUSTER_IP, HERE), former)
    assert stale(nothing, flow(BY_NODE, HERE), former)
    assert not stale(nothing, flow(BY_CLUSTER_IP), former)  # nobody's doing
    assert not stale(nothing, flow(("192.0.2.7", 30053), HERE), former)
    assert not stale(nothing, flow(BY_EXTERNAL_IP, HERE), former)
    assert not stale(plan_of(service()), flow(BY_CLUSTER_IP, HERE), former)  # it is back


def test_address_of_the_node_may_be_an_external_ip() -> None:
    """It counts before the node port of the same number, which is another service's."""
    outside = Frontend(FrontendKind.EXTERNAL_IP, *BY_NODE)
    own, other = plan_of(service("a", frontends=[outside], serving=[HERE])), service("b", serving=[THERE])
    plan = plan_of(*own.services.values(), other)
    assert not stale(plan, flow(BY_NODE, HERE))
    assert stale(plan, flow(BY_NODE, THERE))
    assert not stale(plan, flow(("10.0.0.9", 30053), THERE))


def test_address_claimed_twice_keeps_the_flows_of_both() -> None:
    other = Endpoint("10.244.0.55", 53, is_local=True)
    plan = plan_of(service(), service("other", serving=[other], frontends=[CLUSTER_IP, EXTERNAL_IP]))
    assert not stale(plan, flow(BY_EXTERNAL_IP, HERE))
    assert not stale(plan, flow(BY_EXTERNAL_IP, other))
    assert stale(plan, flow(BY_EXTERNAL_IP, GONE))


# --- a second way to say it: one rule for each thing that can be wrong, over text, without any index ------------------

IPS = ["10.96.0.10", "203.0.113.1", "203.0.113.2", "10.0.0.1", "10.0.0.9", "127.0.0.1", "192.0.2.7"]
PORTS = [53, 30053]
ADDRESSES = st.tuples(st.sampled_from(IPS), st.sampled_from(PORTS))
ENDPOINTS = st.lists(st.sampled_from([HERE, THERE, Endpoint("10.244.0.21", 53, is_local=True)]), unique=True)
INTERNAL = st.sampled_from([CLUSTER, LOCAL, REJECT, Route(Target.DROP)])
EXTERNAL = st.sampled_from([CLUSTER, LOCAL_OUTSIDE, DROP_OUTSIDE, REJECT])
SOURCES = st.sampled_from([CLIENT, POD, REMOTE_POD, "10.0.0.9", "198.51.100.1"])
TARGETS = st.sampled_from([(HERE.ip, 8080), (THERE.ip, 8080), (HERE.ip, 53), GONE, None])
FORMER = st.lists(
    st.sampled_from([Destination(None, 30053), Destination("10.96.0.10", 53), Destination("192.0.2.7", 53)])
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    services = [
        service(
            name,
            serving=draw(ENDPOINTS),
            internal=draw(INTERNAL),
            external=draw(EXTERNAL),
            frontends=draw(st.lists(st.sampled_from(FRONTENDS), unique=True)),
            protocol=draw(st.sampled_from([Protocol.UDP, Protocol.TCP])),
        )
        for name in draw(st.lists(st.sampled_from(["a", "b"]), unique=True))
    ]
    return plan_of(
        *services,
        node_port_ips=draw(st.sampled_from([None, ("10.0.0.1",)])),
        local_traffic=draw(st.sampled_from([None, PODS, LocalTraffic(bridge="cni0")])),
        localhost_node_ports=draw(st.booleans()),
    )


def sent_to(frontend: Frontend, ip: str, port: int, node: NodePlan) -> bool:
    if frontend.port != port:
        return False
    if frontend.ip is not None:
        return frontend.ip == ip
    if node.node_port_ips is not None:
        return ip in node.node_port_ips
    return ip in NODE_IPS and (node.localhost_node_ports or not ip.startswith("127."))


def wrongs(plan: Plan, one: ServicePlan, frontend: Frontend, goes_to: tuple[str, int], source: str) -> list[str]:
    found = []
    endpoints = {(endpoint.ip, endpoint.port): endpoint for endpoint in one.serving_endpoints}
    route = one.route(frontend)
    if goes_to not in endpoints:
        found.append("no endpoint")
    if route.to is Target.REJECT:
        found.append("nobody may be reached")
    if frontend.sources and not any(
        ipaddress.ip_address(source) in ipaddress.ip_network(cidr) for cidr in frontend.sources
    ):
        found.append("source not permitted")
    local = plan.node.local_traffic
    from_here = source in NODE_IPS or (local is not None and (local.cidr is None or source.startswith("10.244.")))
    confined = route.to in (Target.LOCAL, Target.DROP) and not (route.short_cut and from_here)
    if confined and goes_to in endpoints and not endpoints[goes_to].is_local:
        found.append("has left the node")
    return found


def oracle(plan: Plan, former: Sequence[Destination], one: Flow) -> bool:
    (ip, port), goes_to = split(one.destination), split(one.answering)
    source = str(ipaddress.ip_address(one.source))
    owners = [service for name, service in plan.services.items() if name.protocol is one.protocol]
    claims = [(owner, front) for owner in owners for front in owner.frontends if sent_to(front, ip, port, plan.node)]
    exact = [claim for claim in claims if claim[1].ip is not None]
    claims = exact or claims  # node ports come last in every list of rules
    if claims:
        return all(wrongs(plan, owner, frontend, goes_to, source) for owner, frontend in claims)
    was_ours = Destination(ip, port) in former or (Destination(None, port) in former and ip in NODE_IPS)
    return was_ours and goes_to != (ip, port)


@given(
    plan=plans(),
    former=FORMER,
    to=ADDRESSES,
    goes_to=TARGETS,
    source=SOURCES,
    protocol=st.sampled_from([Protocol.UDP, Protocol.TCP]),
)
def test_two_ways_to_say_it_agree(
    plan: Plan,
    former: list[Destination],
    to: tuple[str, int],
    goes_to: tuple[str, int] | None,
    source: str,
    protocol: Protocol,
) -> None:
    one = flow(to, goes_to, source, protocol)
    assert stale(plan, one, former) == oracle(plan, former, one)


# --- which changes can have made a connection wrong -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "now", "may"),
    [
        (None, service(), True),
        (service(), None, True),
        (service(), service(), False),
        (service(serving=[HERE]), service(serving=[HERE, THERE]), False),
        (service(serving=[HERE, THERE]), service(serving=[HERE]), True),
        (service(), service(serving=[Endpoint("10.244.0.21", 8081, is_local=True), THERE]), True),
        (service(), service(serving=[replace(HERE, is_local=False), THERE]), True),
        (service(), service(serving=[replace(HERE, ready=False, terminating=True), THERE]), False),
        (service(), service(serving=[replace(HERE, zone_hints=("a",)), replace(THERE, node_hints=("node-b",))]), False),
        (service(), service(frontends=FRONTENDS[1:]), True),
        (service(frontends=FRONTENDS[1:]), service(), True),
        (service(), service(internal=LOCAL), True),
        (service(), service(external=LOCAL_OUTSIDE), True),
        (service(serving=(), internal=REJECT, external=REJECT), service(), True),
    ],
)
def test_which_changes_need_a_look(before: ServicePlan | None, now: ServicePlan | None, may: bool) -> None:
    assert may_strand(before, now) is may


@given(before=plans(), serving=ENDPOINTS, to=ADDRESSES, goes_to=TARGETS, source=SOURCES)
def test_what_needs_no_look_makes_nothing_wrong(
    before: Plan, serving: list[Endpoint], to: tuple[str, int], goes_to: tuple[str, int] | None, source: str
) -> None:
    replaced = {name: replace(one, serving_endpoints=tuple(serving)) for name, one in before.services.items()}
    now = Plan(node=before.node, services=replaced)
    if any(may_strand(before.services[name], replaced[name]) for name in replaced):
        return
    for protocol in Protocol:
        one = flow(to, goes_to, source, protocol)
        assert stale(before, one) or not stale(now, one)
