"""With which endpoints a flow may stay that is there already."""

import pytest

from kproxy.plan.model import ServicePlan
from kproxy.plan.node import plan_node
from kproxy.plan.service import plan_service
from kproxy.plan.settings import NodeFacts, ProxySettings
from kproxy.state.model import Endpoint, IPFamily, Protocol, ServicePort, ServicePortName

NODE, SETTINGS = NodeFacts(name="node-a", zone="zone-a"), ProxySettings()
PLAIN = Endpoint("10.244.0.1", 53)
UNREADY = Endpoint("10.244.0.2", 53, ready=False, serving=False)
LEAVING = Endpoint("10.244.0.3", 53, ready=False, serving=True, terminating=True)
LEFT = Endpoint("10.244.0.4", 53, ready=False, serving=False, terminating=True)
PUBLISHED_UNREADY = Endpoint("10.244.0.5", 53, ready=True, serving=False)
NEAR = Endpoint("10.244.0.6", 53, zone_hints=("zone-a",))
FAR = Endpoint("10.244.0.7", 53, zone_hints=("zone-b",))


def planned(*endpoints: Endpoint, protocol: Protocol = Protocol.UDP) -> ServicePlan:
    port = ServicePort(name=ServicePortName("default", "dns", "", protocol), cluster_ip="10.96.0.10", port=53)
    return plan_service(port, endpoints, NODE, plan_node(IPFamily.IPV4, NODE, SETTINGS), SETTINGS)


@pytest.mark.parametrize(
    ("endpoints", "keeping"),
    [
        ((PLAIN, UNREADY), (PLAIN,)),
        ((PLAIN, LEAVING, LEFT), (PLAIN, LEAVING)),
        ((LEAVING, LEFT), (LEAVING,)),
        ((UNREADY, LEFT), ()),
        ((PUBLISHED_UNREADY,), (PUBLISHED_UNREADY,)),
        ((NEAR, FAR), (NEAR, FAR)),
    ],
)
def test_flows_stay_with_what_serves(endpoints: tuple[Endpoint, ...], keeping: tuple[Endpoint, ...]) -> None:
    assert planned(*endpoints).serving_endpoints == keeping


def test_new_flows_never_go_where_old_ones_may_not_stay() -> None:
    plan = planned(PLAIN, UNREADY, LEAVING, LEFT, PUBLISHED_UNREADY, NEAR, FAR)
    assert set(plan.reachable_endpoints) <= set(plan.serving_endpoints)


def test_endpoint_that_stops_serving_changes_the_plan() -> None:
    """Otherwise nobody would look at its flows: it got no new ones before."""
    assert planned(PLAIN, LEAVING) != planned(PLAIN, LEFT)


@pytest.mark.parametrize("protocol", list(Protocol))
def test_all_protocols_are_told(protocol: Protocol) -> None:
    """Of TCP and SCTP it is about connections that wait for an answer."""
    assert planned(PLAIN, LEAVING, LEFT, protocol=protocol).serving_endpoints == (PLAIN, LEAVING)


def test_plans_share_what_is_the_same() -> None:
    """A cluster has tens of thousands of endpoints, nearly all of which get new connections."""
    plan = planned(PLAIN, UNREADY)
    assert plan.serving_endpoints is plan.cluster_endpoints
