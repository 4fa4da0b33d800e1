"""Which endpoints a node uses, with packets: internal policy Local, terminating endpoints, hints, health checks."""

import http.client
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import pytest

from hack.lab import Host, Outcome, Pod, until
from tests.kit.packets import (
    FAMILIES,
    PATIENCE,
    PORT,
    PROTOCOLS,
    SILENCE,
    Behind,
    World,
    address,
    assert_all,
    assert_refused,
    behind,
    each_family,
    each_protocol,
    nodes,
    service,
)

pytestmark = pytest.mark.kernel

WEB = ("web-1", "web-2", "web-3")
LOCAL = ("web-1", "web-2")
LEAVING = {"ready": False, "serving": True, "terminating": True}
GONE = {"ready": False, "serving": False, "terminating": True}


@pytest.fixture(scope="module")
def kproxy_args() -> Sequence[str]:
    return ()  # in either layout the same, as the flow tests show; this is about what is planned


def all_pods(world: World) -> list[Pod]:
    return [world.lab.pod(name) for name in WEB]


# internalTrafficPolicy Local.

INTERNAL_LOCAL = {"internalTrafficPolicy": "Local"}


@each_protocol
@each_family
def test_internal_policy_local_keeps_connections_on_the_node(world: World, family: str, protocol: str) -> None:
    inner = world.expose("inner", 10, all_pods(world), protocols=PROTOCOLS, spec=INTERNAL_LOCAL)
    asker = world.lab.pod("asker")
    tally = asker.ask_many(inner.ip(family), PORT, protocol, times=40)
    assert_all(tally, servers=LOCAL, source=address(asker, family))
    assert_all(world.lab.node.ask_many(inner.ip(family), PORT, protocol, times=40), servers=LOCAL)


@each_family
def test_internal_policy_local_is_silent_where_only_other_nodes_have_pods(world: World, family: str) -> None:
    away = world.expose("away", 11, [world.lab.pod("web-3")], spec=INTERNAL_LOCAL)
    hosts: list[Host] = [world.lab.pod("asker"), world.lab.node]
    for host in hosts:
        assert host.ask(away.ip(family), PORT, timeout=SILENCE).outcome is Outcome.DROPPED
    world.rescale("away", [])
    for host in hosts:
        assert_refused(host.ask(away.ip(family), PORT))


@each_family
def test_the_two_policies_are_independent(world: World, family: str) -> None:
    spec = {**INTERNAL_LOCAL, "externalTrafficPolicy": "Cluster"}
    mixed = world.expose("mixed", 12, all_pods(world), type="NodePort", spec=spec)
    asker, client, node = world.lab.pod("asker"), world.lab.client, address(world.lab.node, family)
    assert_all(asker.ask_many(mixed.ip(family), PORT, times=60), servers=LOCAL)
    assert_all(client.ask_many(node, mixed.node_port, times=60), servers=WEB)
    world.put(service("mixed", 12, type="NodePort", spec={"externalTrafficPolicy": "Local"}))
    assert_all(asker.ask_many(mixed.ip(family), PORT, times=60), servers=WEB)
    assert_all(client.ask_many(node, mixed.node_port, times=60), servers=LOCAL)


# Terminating endpoints: who of (web-1 here, web-2 here, web-3 there) is used, by policy.

Case = tuple[Sequence[dict[str, Any]], Sequence[str], Sequence[str]]
READY: dict[str, Any] = {}
TERMINATING: dict[str, Case] = {
    "one here leaves": ((LEAVING, READY, READY), ("web-2", "web-3"), ("web-2",)),
    "all here leave": ((LEAVING, LEAVING, READY), ("web-3",), LOCAL),
    "all leave": ((LEAVING, LEAVING, LEAVING), WEB, LOCAL),
    "all leave and one has closed": ((GONE, LEAVING, LEAVING), ("web-2", "web-3"), ("web-2",)),
    "all here have closed": ((GONE, GONE, LEAVING), ("web-3",), ()),
}


@pytest.mark.parametrize("case", list(TERMINATING))
def test_endpoints_that_leave_are_used_where_no_other_is_left(world: World, case: str) -> None:
    conditions, by_cluster, by_local = TERMINATING[case]
    backends = [Behind(pod, more) for pod, more in zip(all_pods(world), conditions, strict=True)]
    spec = {"externalTrafficPolicy": "Local"}
    ending = world.expose("ending", 13, backends, type="NodePort", spec=spec)
    for family in FAMILIES:
        assert_all(world.lab.pod("asker").ask_many(ending.ip(family), PORT, times=60), servers=by_cluster)
        target = (address(world.lab.node, family), ending.node_port)
        if by_local:
            assert_all(world.lab.client.ask_many(*target, times=60), servers=by_local)
        else:
            assert world.lab.client.ask(*target, timeout=SILENCE).outcome is Outcome.DROPPED


# Hints.

Hints = Sequence[dict[str, Any]]
HERE, THERE = {"hint_zones": ["zone-a"]}, {"hint_zones": ["zone-b"]}
BOTH, NONE = {"hint_zones": ["zone-a", "zone-b"]}, READY
THIS_NODE = {"hint_zones": ["zone-b"], "hint_nodes": ["node-a"]}
THAT_NODE = {"hint_zones": ["zone-a"], "hint_nodes": ["node-b"]}
HINTS: dict[str, tuple[Hints, Sequence[str]]] = {
    "each for one zone": ((HERE, THERE, THERE), ("web-1",)),
    "one for both zones": ((HERE, THERE, BOTH), ("web-1", "web-3")),
    "one without": ((HERE, THERE, NONE), WEB),
    "none for this zone": ((THERE, THERE, THERE), WEB),
    "one not ready without": ((HERE, THERE, {"ready": False, "serving": False}), ("web-1",)),
    "for nodes, before those for zones": ((THAT_NODE, THAT_NODE, THIS_NODE), ("web-3",)),
    "for other nodes only, then those for zones": ((THAT_NODE, {**THAT_NODE, **THERE}, THAT_NODE), ("web-1", "web-3")),
    "for nodes, but one without": ((THAT_NODE, HERE, THIS_NODE), ("web-1", "web-2")),
}


@pytest.mark.parametrize("case", list(HINTS))
def test_hints_are_followed_if_all_have_them_and_one_is_for_here(world: World, case: str) -> None:
    hints, expected = HINTS[case]
    backends = [Behind(pod, more) for pod, more in zip(all_pods(world), hints, strict=True)]
    hinted = world.expose("hinted", 14, backends, type="NodePort")
    for family in FAMILIES:
        assert_all(world.lab.pod("asker").ask_many(hinted.ip(family), PORT, times=80), servers=expected)
        target = (address(world.lab.node, family), hinted.node_port)
        assert_all(world.lab.client.ask_many(*target, times=80), servers=expected)


def test_policy_local_ignores_hints(world: World) -> None:
    backends = [Behind(pod, more) for pod, more in zip(all_pods(world), (HERE, THERE, THERE), strict=True)]
    spec = {**INTERNAL_LOCAL, "externalTrafficPolicy": "Local"}
    near = world.expose("near", 15, backends, type="NodePort", spec=spec)
    assert_all(world.lab.pod("asker").ask_many(near.ip("ipv4"), PORT, times=60), servers=LOCAL)
    assert_all(world.lab.client.ask_many(world.lab.node.ip, near.node_port, times=60), servers=LOCAL)


def test_a_node_that_moves_to_another_zone_follows_its_hints(world: World) -> None:
    backends = [Behind(pod, more) for pod, more in zip(all_pods(world), (HERE, THERE, THERE), strict=True)]
    zoned = world.expose("zoned", 16, backends)
    asker = world.lab.pod("asker")

    def servers() -> set[str]:
        tally = asker.ask_many(zoned.ip("ipv4"), PORT, times=60)
        assert not tally.failures
        return set(tally.servers)

    assert servers() == {"web-1"}
    world.control.put(*nodes(world.lab, node_a="zone-b"))  # the Node's watch is another one than the marker's
    until(lambda: servers() == {"web-2", "web-3"}, PATIENCE, "the other zone's endpoints")
    world.control.put(*nodes(world.lab, node_a="zone-c"))
    until(lambda: servers() == set(WEB), PATIENCE, "all endpoints, as there are none for zone-c")
    world.control.put(*nodes(world.lab))
    until(lambda: servers() == {"web-1"}, PATIENCE, "the first zone's endpoints again")


# Health-check node ports.


CHECKED_PORT = 31999
# A node that lets nothing in must still let the load balancer ask.
WALL = "*filter\n-{} INPUT -i eth0 -p tcp --dport 31990:31999 -j DROP\nCOMMIT\n"


@pytest.fixture
def wall(world: World) -> Iterator[None]:
    for family in FAMILIES:
        world.lab.node.iptables_restore(WALL.format("A"), family)
    yield
    for family in FAMILIES:
        world.lab.node.iptables_restore(WALL.format("D"), family)


class Health(NamedTuple):
    """What a health-check node port says; status 0 where nothing listens."""

    status: int
    endpoints: int = 0
    weight: str | None = None
    service: Mapping[str, str] = {}


CLOSING = Health(-1)
"""Who comes just then hears that no service has the port, or is cut off."""


def health(world: World, family: str = "ipv4") -> Health:
    connection = http.client.HTTPConnection(address(world.lab.node, family), CHECKED_PORT, timeout=PATIENCE)
    try:
        with world.lab.client.namespace.entered():
            connection.connect()
        connection.request("GET", "/healthz")
        response = connection.getresponse()
        if response.getheader("Content-Type") != "application/json":
            return CLOSING
        body = json.loads(response.read())
        weight = response.getheader("X-Load-Balancing-Endpoint-Weight")
        return Health(response.status, body["localEndpoints"], weight, body["service"])
    except ConnectionRefusedError:
        return Health(0)
    except ConnectionResetError:
        return CLOSING
    finally:
        connection.close()


def wait_for_health(world: World, status: int, endpoints: int) -> None:
    def said() -> bool:
        return health(world)[:2] == (status, endpoints)

    until(said, PATIENCE, f"the health check to say {status}")


def test_health_checks_tell_load_balancers_which_node_has_endpoints(world: World) -> None:
    spec = {"externalTrafficPolicy": "Local", "healthCheckNodePort": CHECKED_PORT}
    one, two, three = all_pods(world)
    world.expose("checked", 17, [one, two, three], type="LoadBalancer", spec=spec)
    wait_for_health(world, 200, 2)
    for family in FAMILIES:
        assert health(world, family) == Health(200, 2, "2", {"namespace": "default", "name": "checked"})
    changes: list[tuple[list[Pod | Behind], int, int]] = [
        ([one, three], 200, 1),
        ([three], 503, 0),
        ([one], 200, 1),
        ([behind(one, **LEAVING), three], 503, 0),  # still serving, but no reason to send more clients here
    ]
    for backends, status, endpoints in changes:
        world.rescale("checked", backends)
        wait_for_health(world, status, endpoints)
    world.put(service("checked", 17, type="LoadBalancer"))  # policy Cluster has no health check
    wait_for_health(world, 0, 0)


@pytest.mark.usefixtures("wall")
@each_family
def test_health_checks_get_through_whatever_else_is_blocked(world: World, family: str) -> None:
    with closing(world.lab.node.serve(CHECKED_PORT - 1)):
        blocked = world.lab.client.ask(address(world.lab.node, family), CHECKED_PORT - 1, timeout=SILENCE)
    assert blocked.outcome is Outcome.DROPPED
    spec = {"externalTrafficPolicy": "Local", "healthCheckNodePort": CHECKED_PORT}
    world.expose("walled", 18, [world.lab.pod("web-1")], type="LoadBalancer", spec=spec)
    wait_for_health(world, 200, 1)
    assert health(world, family).status == 200
    world.remove("walled")
