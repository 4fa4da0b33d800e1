"""The ways in from outside, with packets: node ports, external IPs, load balancer addresses, and who may use them."""

from collections.abc import Iterator
from typing import Any

import pytest

from hack.lab import Host, Outcome, Pod
from hack.lab.addresses import UNDERLAY, pod_net
from tests.kit.packets import (
    FAMILIES,
    PORT,
    PROTOCOLS,
    SILENCE,
    Exposed,
    World,
    address,
    assert_all,
    assert_even,
    assert_refused,
    bridge,
    carried,
    clients,
    each_family,
    each_protocol,
    external_ips,
    of,
    patience_for,
    service,
)

pytestmark = pytest.mark.kernel

WEB = ("web-1", "web-2", "web-3")
LOCAL = ("web-1", "web-2")
EXTERNAL = external_ips(10)
VIP = external_ips(20)


def all_pods(world: World) -> list[Pod]:
    return [world.lab.pod(name) for name in WEB]


def ingress(*ips: str, mode: str | None = None) -> list[dict[str, str]]:
    return [{"ip": ip} | ({"ipMode": mode} if mode else {}) for ip in ips]


@pytest.fixture(scope="module")
def shop(world: World) -> Exposed:
    """A Service with every way in."""
    spec = {"externalIPs": list(EXTERNAL)}
    more: dict[str, Any] = {"type": "LoadBalancer", "spec": spec, "ingress": ingress(*VIP)}
    return world.expose("shop", 10, all_pods(world), protocols=PROTOCOLS, **more)


def ways_in(world: World, service: Exposed, family: str) -> dict[str, tuple[str, int]]:
    return {
        "node port": (address(world.lab.node, family), service.node_port),
        "external IP": (of(EXTERNAL, family), PORT),
        "load balancer": (of(VIP, family), PORT),
    }


each_way_in = pytest.mark.parametrize("way", ["node port", "external IP", "load balancer"])


# Policy Cluster.


@each_protocol
@each_family
@each_way_in
def test_clients_outside_reach_every_pod_as_the_node(
    world: World, shop: Exposed, way: str, family: str, protocol: str
) -> None:
    """A pod on another node would otherwise answer the client directly, from an address it never spoke to."""
    tally = world.lab.client.ask_many(*ways_in(world, shop, family)[way], protocol, times=90)
    assert_all(tally, servers=WEB)
    node = address(world.lab.node, family)
    assert {(answer.server in LOCAL, answer.source) for answer in tally.answers} == {
        (True, of(bridge(), family)),
        (False, node),
    }


@each_family
def test_node_ports_spread_evenly(world: World, shop: Exposed, family: str) -> None:
    tally = world.lab.client.ask_many(address(world.lab.node, family), shop.node_port, times=900)
    assert_even(tally.servers, WEB)


@each_family
@each_way_in
def test_pods_and_nodes_may_come_from_outside_as_well(world: World, shop: Exposed, way: str, family: str) -> None:
    target = ways_in(world, shop, family)[way]
    hosts: list[Host] = [world.lab.pod("asker"), world.lab.pod("web-1"), world.lab.node]
    for host in hosts:
        assert_all(host.ask_many(*target, times=60), servers=WEB)


@each_family
def test_every_address_of_the_node_answers_at_node_ports(world: World, shop: Exposed, family: str) -> None:
    for host, ip in (
        (world.lab.client, address(world.lab.node, family)),
        (world.lab.pod("asker"), of(bridge(), family)),
    ):
        assert host.ask(ip, shop.node_port).server in WEB


def test_localhost_answers_at_node_ports_in_ipv4_alone(world: World, shop: Exposed) -> None:
    """There is no route_localnet for IPv6."""
    tally = world.lab.node.ask_many("127.0.0.1", shop.node_port, times=60)
    assert_all(tally, servers=WEB)
    assert set(tally.sources) == {bridge().v4, world.lab.node.ip}
    assert world.lab.node.ask("127.8.8.8", shop.node_port).server in WEB
    assert_refused(world.lab.node.ask("::1", shop.node_port))


@each_protocol
@each_family
@each_way_in
def test_without_endpoints_every_way_in_refuses_at_once(world: World, way: str, family: str, protocol: str) -> None:
    more: dict[str, Any] = {"spec": {"externalIPs": list(external_ips(11))}, "ingress": ingress(*external_ips(21))}
    empty = world.expose("empty", 11, [], protocols=PROTOCOLS, type="LoadBalancer", **more)
    targets = {
        "node port": (address(world.lab.node, family), empty.node_port),
        "external IP": (of(external_ips(11), family), PORT),
        "load balancer": (of(external_ips(21), family), PORT),
    }
    for host in (world.lab.client, world.lab.pod("asker")):
        assert_refused(host.ask(*targets[way], protocol))


# Policy Local.


@pytest.fixture(scope="module")
def local(world: World) -> Exposed:
    spec = {"externalTrafficPolicy": "Local", "externalIPs": list(external_ips(12))}
    more: dict[str, Any] = {"type": "LoadBalancer", "spec": spec, "ingress": ingress(*external_ips(22))}
    return world.expose("local", 12, all_pods(world), protocols=PROTOCOLS, **more)


def ways_into_local(world: World, local: Exposed, family: str) -> list[tuple[str, int]]:
    return [
        (address(world.lab.node, family), local.node_port),
        (of(external_ips(12), family), PORT),
        (of(external_ips(22), family), PORT),
    ]


@each_protocol
@each_family
def test_policy_local_leads_to_pods_here_that_see_the_client(
    world: World, local: Exposed, family: str, protocol: str
) -> None:
    for target in ways_into_local(world, local, family):
        tally = world.lab.client.ask_many(*target, protocol, times=40)
        assert_all(tally, servers=LOCAL, source=address(world.lab.client, family))


@each_family
def test_policy_local_is_no_concern_of_pods_here(world: World, local: Exposed, family: str) -> None:
    """The short cut: a Local policy is a promise to clients outside, and must not cut the node's own pods off."""
    asker = world.lab.pod("asker")
    for target in ways_into_local(world, local, family):
        assert_all(asker.ask_many(*target, times=60), servers=WEB, source=address(asker, family))
        tally = world.lab.node.ask_many(*target, times=60)
        assert_all(tally, servers=WEB)
        assert set(tally.sources) == {of(bridge(), family), address(world.lab.node, family)}


@each_family
def test_a_pod_reaches_itself_by_the_short_cut(world: World, family: str) -> None:
    pod = world.lab.pod("web-2")
    spec = {"externalTrafficPolicy": "Local", "externalIPs": list(external_ips(13))}
    world.expose("narcissus", 13, [pod], type="NodePort", spec=spec)
    assert_all(pod.ask_many(of(external_ips(13), family), PORT, times=10), servers=["web-2"])


@pytest.fixture
def undisguised(world: World) -> Iterator[None]:
    """Pods of node-b keep their addresses towards nodes, as with many a network plug-in."""
    rules = "*nat\n-{} CNI-MASQUERADE -d {} -j RETURN\nCOMMIT\n"
    node = world.lab.nodes["node-b"]
    for family in FAMILIES:
        node.iptables_restore(rules.format("I", of(UNDERLAY.cidr, family)), family)
    yield
    for family in FAMILIES:
        node.iptables_restore(rules.format("D", of(UNDERLAY.cidr, family)), family)


@pytest.mark.usefixtures("undisguised")
@each_family
def test_a_pod_of_another_node_reaches_itself_by_this_one(world: World, family: str) -> None:
    """To ClusterCIDR it is a pod like those here, and by the short cut it may be sent back to itself."""
    pod = world.lab.pod("web-3")
    boomerang = world.expose("boomerang", 21, [pod], type="NodePort", spec={"externalTrafficPolicy": "Local"})
    tally = pod.ask_many(address(world.lab.node, family), boomerang.node_port, times=10)
    assert_all(tally, servers=["web-3"], source=address(world.lab.node, family))


@each_family
def test_policy_local_is_silent_where_it_finds_nobody_here(world: World, family: str) -> None:
    """A load balancer tries the next node when this one is silent; a refusal would be passed on to the client."""
    spec = {"externalTrafficPolicy": "Local", "externalIPs": list(external_ips(14))}
    away = world.expose("away", 14, [world.lab.pod("web-3")], type="NodePort", spec=spec)
    targets = [(address(world.lab.node, family), away.node_port), (of(external_ips(14), family), PORT)]
    for target in targets:
        assert world.lab.client.ask(*target, timeout=SILENCE).outcome is Outcome.DROPPED
        assert world.lab.pod("asker").ask(*target).server == "web-3"
        assert world.lab.node.ask(*target).server == "web-3"
    world.rescale("away", [])
    for target in targets:
        assert_refused(world.lab.client.ask(*target))


def test_a_change_of_policy_takes_effect(world: World) -> None:
    client, node = world.lab.client, world.lab.node
    for policy, servers in (("Cluster", WEB), ("Local", LOCAL), ("Cluster", WEB)):
        spec = {"externalTrafficPolicy": policy}
        fickle = world.expose("fickle", 15, all_pods(world), type="NodePort", spec=spec)
        assert_all(client.ask_many(node.ip, fickle.node_port, times=60), servers=servers)


# What a Service's type opens and closes.


def test_ways_in_come_and_go_with_the_type(world: World) -> None:
    client, node, pods = world.lab.client, world.lab.node, [world.lab.pod("web-1")]
    vip = external_ips(23)

    def check(*wanted: Outcome) -> None:
        for target, outcome in zip([(node.ip, 30016), (vip.v4, PORT)], wanted, strict=True):
            assert client.ask(*target, timeout=patience_for(outcome)).outcome is outcome, target

    assert world.expose("grown", 16, pods).node_port == 30016
    check(Outcome.REFUSED, Outcome.DROPPED)
    world.put(service("grown", 16, type="NodePort"))
    check(Outcome.ANSWERED, Outcome.DROPPED)
    world.put(service("grown", 16, type="LoadBalancer"))
    check(Outcome.ANSWERED, Outcome.DROPPED)
    world.put(service("grown", 16, type="LoadBalancer", ingress=ingress(*vip)))
    check(Outcome.ANSWERED, Outcome.ANSWERED)
    world.put(service("grown", 16))
    check(Outcome.REFUSED, Outcome.DROPPED)


def test_a_load_balancer_may_do_without_node_ports(world: World) -> None:
    spec = {"allocateLoadBalancerNodePorts": False}
    without = service("portless", 17, type="LoadBalancer", spec=spec, ingress=ingress(*external_ips(24)))
    for port in without["spec"]["ports"]:
        del port["nodePort"]
    world.expose("portless", 17, [world.lab.pod("web-1")])
    world.put(without)
    for family in FAMILIES:
        assert world.lab.client.ask(of(external_ips(24), family), PORT).server == "web-1"
        assert_refused(world.lab.client.ask(address(world.lab.node, family), 30017))


def test_a_load_balancer_that_is_a_proxy_is_left_to_itself(world: World) -> None:
    """ipMode Proxy: packets for its address must reach the load balancer, not be short-circuited on the node."""
    proxy, vip = external_ips(25), external_ips(26)
    both = [*ingress(*proxy, mode="Proxy"), *ingress(*vip, mode="VIP"), {"hostname": "lb.example.org"}]
    world.expose("modes", 18, [world.lab.pod("web-1")], type="LoadBalancer", ingress=both)
    for family in FAMILIES:
        for host in (world.lab.client, world.lab.pod("asker")):
            assert host.ask(of(vip, family), PORT).server == "web-1"
            assert host.ask(of(proxy, family), PORT, timeout=SILENCE).outcome is Outcome.DROPPED


# Source ranges.

GUARDED, RESTRICTED = external_ips(27), external_ips(29)
FIRST_CLIENT = [f"{clients(0).v4}/32", f"{clients(0).v6}/128"]


@pytest.fixture(scope="module")
def guarded(world: World) -> Exposed:
    """A load balancer that the client's first address may use, and no other."""
    spec = {"loadBalancerSourceRanges": FIRST_CLIENT, "externalIPs": list(external_ips(19))}
    more: dict[str, Any] = {"type": "LoadBalancer", "spec": spec, "ingress": ingress(*GUARDED)}
    return world.expose("guarded", 19, all_pods(world), protocols=PROTOCOLS, **more)


def restrict(world: World, *ranges: str) -> None:
    """Make, or change, a load balancer that only these may use."""
    spec = {"loadBalancerSourceRanges": ranges}
    more: dict[str, Any] = {"type": "LoadBalancer", "spec": spec, "ingress": ingress(*RESTRICTED)}
    world.expose("restricted", 22, all_pods(world), **more)


@each_protocol
@each_family
@pytest.mark.usefixtures("guarded")
def test_source_ranges_let_in_who_is_named_and_nobody_else(world: World, family: str, protocol: str) -> None:
    client, vip = world.lab.client, of(GUARDED, family)
    assert_all(client.ask_many(vip, PORT, protocol, times=60), servers=WEB)
    refused = client.ask(vip, PORT, protocol, source=of(clients(1), family), timeout=SILENCE)
    assert refused.outcome is Outcome.DROPPED


@each_family
def test_source_ranges_guard_nothing_but_the_load_balancers_address(
    world: World, guarded: Exposed, family: str
) -> None:
    node = address(world.lab.node, family)
    for target in ((node, guarded.node_port), (of(external_ips(19), family), PORT), (guarded.ip(family), PORT)):
        assert world.lab.client.ask(*target, source=of(clients(1), family)).server in WEB


@each_family
def test_source_ranges_hold_for_pods_too(world: World, family: str) -> None:
    asker, vip = world.lab.pod("asker"), of(RESTRICTED, family)
    restrict(world, *FIRST_CLIENT)
    assert asker.ask(vip, PORT, timeout=SILENCE).outcome is Outcome.DROPPED
    restrict(world, *FIRST_CLIENT, *pod_net(1).cidr)
    assert asker.ask(vip, PORT).server in WEB


@each_family
def test_source_ranges_with_the_node_let_in_who_comes_from_the_address_itself(world: World, family: str) -> None:
    """Some load balancers have the node carry their address; then the node's own packets come from it."""
    vip = of(external_ips(28), family)
    with carried(world.lab.node, vip):
        for ranges, outcome in (
            (["10.0.0.0/24", "fd00:a::/64"], Outcome.ANSWERED),
            (["10.99.0.0/24", "fd00:99::/64"], Outcome.DROPPED),
        ):
            spec = {"loadBalancerSourceRanges": ranges}
            more: dict[str, Any] = {"type": "LoadBalancer", "spec": spec, "ingress": ingress(*external_ips(28))}
            world.expose("carried", 20, all_pods(world), **more)
            assert world.lab.node.ask(vip, PORT, source=vip, timeout=patience_for(outcome)).outcome is outcome


@each_family
def test_a_load_balancer_without_endpoints_refuses_strangers_too(world: World, family: str) -> None:
    """As kube-proxy has it: with nobody behind it there is nothing to guard."""
    restrict(world, *FIRST_CLIENT)
    world.rescale("restricted", [])
    for number in (0, 1):
        assert_refused(world.lab.client.ask(of(RESTRICTED, family), PORT, source=of(clients(number), family)))
