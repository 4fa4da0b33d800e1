"""Which endpoints a service port uses on a node: one table of everything that has a say."""

import pytest

from kproxy.plan.topology import usable_endpoints
from kproxy.state.model import Endpoint, Protocol, ServicePort, ServicePortName

NAME = ServicePortName("shop", "web", "http", Protocol.TCP)

HERE = Endpoint("10.244.0.1", 80, is_local=True)
THERE = Endpoint("10.244.1.1", 80, is_remote=True)
HERE_LEAVING = Endpoint("10.244.0.2", 80, is_local=True, ready=False, terminating=True)
THERE_LEAVING = Endpoint("10.244.1.2", 80, is_remote=True, ready=False, terminating=True)
HERE_LEFT = Endpoint("10.244.0.3", 80, is_local=True, ready=False, serving=False, terminating=True)
HERE_UNREADY = Endpoint("10.244.0.4", 80, is_local=True, ready=False)
NEAR = Endpoint("10.244.0.5", 80, is_local=True, zone_hints=("zone-a",))
FAR = Endpoint("10.244.1.5", 80, is_remote=True, zone_hints=("zone-b",))
BOTH = Endpoint("10.244.1.6", 80, is_remote=True, zone_hints=("zone-b", "zone-a"))
FAR_LEAVING = Endpoint("10.244.1.7", 80, is_remote=True, ready=False, terminating=True, zone_hints=("zone-b",))
MINE = Endpoint("10.244.0.8", 80, is_local=True, zone_hints=("zone-a",), node_hints=("node-a",))
YOURS = Endpoint("10.244.1.8", 80, is_remote=True, zone_hints=("zone-a",), node_hints=("node-b",))

Some = tuple[Endpoint, ...]


def port(*, internal_local: bool = False, external_local: bool = False, node_port: int = 0) -> ServicePort:
    return ServicePort(
        name=NAME,
        cluster_ip="10.96.0.10",
        port=80,
        node_port=node_port,
        internal_local=internal_local,
        external_local=external_local,
    )


CLUSTER = port()
INTERNAL_LOCAL = port(internal_local=True)
EXTERNAL_LOCAL = port(external_local=True, node_port=30080)
BOTH_LOCAL = port(internal_local=True, external_local=True, node_port=30080)
NO_WAY_IN = port(external_local=True)


@pytest.mark.parametrize(
    ("service_port", "endpoints", "cluster", "local", "anywhere"),
    [
        (CLUSTER, (), (), (), False),
        (CLUSTER, (HERE, THERE), (HERE, THERE), (), True),
        (CLUSTER, (HERE, THERE_LEAVING), (HERE,), (), True),
        (CLUSTER, (HERE_LEAVING, THERE_LEAVING, HERE_LEFT), (HERE_LEAVING, THERE_LEAVING), (), True),
        (CLUSTER, (HERE_LEFT, HERE_UNREADY), (), (), False),
        (INTERNAL_LOCAL, (HERE, THERE), (), (HERE,), True),
        (INTERNAL_LOCAL, (THERE,), (), (), True),
        (INTERNAL_LOCAL, (THERE_LEAVING,), (), (), True),
        (INTERNAL_LOCAL, (HERE_UNREADY,), (), (), False),
        (EXTERNAL_LOCAL, (HERE, THERE), (HERE, THERE), (HERE,), True),
        (EXTERNAL_LOCAL, (HERE_LEAVING, THERE), (THERE,), (HERE_LEAVING,), True),
        (EXTERNAL_LOCAL, (HERE_LEAVING, HERE), (HERE,), (HERE,), True),
        (EXTERNAL_LOCAL, (HERE_LEFT, THERE), (THERE,), (), True),
        (BOTH_LOCAL, (HERE, THERE), (HERE, THERE), (HERE,), True),
        (NO_WAY_IN, (HERE, THERE), (HERE, THERE), (), True),
        (CLUSTER, (NEAR, FAR, BOTH), (NEAR, BOTH), (), True),
        (CLUSTER, (NEAR, FAR, THERE), (NEAR, FAR, THERE), (), True),
        (CLUSTER, (FAR,), (FAR,), (), True),
        (CLUSTER, (NEAR, FAR_LEAVING), (NEAR,), (), True),
        (CLUSTER, (FAR_LEAVING, HERE_LEAVING), (FAR_LEAVING, HERE_LEAVING), (), True),
        (EXTERNAL_LOCAL, (BOTH, NEAR, FAR), (BOTH, NEAR), (NEAR,), True),
        (CLUSTER, (MINE, YOURS), (MINE,), (), True),
        (CLUSTER, (YOURS, FAR), (YOURS,), (), True),
        (CLUSTER, (MINE, NEAR), (MINE, NEAR), (), True),
    ],
)
def test_usable_endpoints(
    service_port: ServicePort, endpoints: Some, cluster: Some, local: Some, anywhere: bool
) -> None:
    assert usable_endpoints(service_port, endpoints, "node-a", "zone-a") == (cluster, local, anywhere)


def test_a_node_without_a_zone_is_in_no_endpoints_zone() -> None:
    nameless = Endpoint("10.244.1.9", 80, zone_hints=("",))
    assert usable_endpoints(CLUSTER, (NEAR, FAR), "node-a", "").cluster == (NEAR, FAR)
    assert usable_endpoints(CLUSTER, (nameless, FAR), "node-a", "zone-a").cluster == (nameless, FAR)
