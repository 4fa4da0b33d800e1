"""What an administrator's settings do to packets: which addresses answer at node ports, who is masqueraded.

The settings change while kproxy runs, which takes them up.
"""

import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest

from hack.lab import Host, Outcome, Pod, until
from hack.lab.addresses import SERVICE_CIDR, SERVICE_CIDR6
from tests.kit.packets import (
    FAMILIES,
    PATIENCE,
    PORT,
    SILENCE,
    TARGET_PORT,
    Exposed,
    World,
    address,
    assert_all,
    assert_refused,
    bridge,
    carried,
    each_family,
    of,
)

pytestmark = pytest.mark.kernel

WEB = ("web-1", "web-2", "web-3")


def all_pods(world: World) -> list[Pod]:
    return [world.lab.pod(name) for name in WEB]


@pytest.fixture(scope="module")
def kproxy_args() -> Sequence[str]:
    return ()


@pytest.fixture(scope="module")
def shop(world: World) -> Exposed:
    return world.expose("shop", 10, all_pods(world), type="NodePort")


# Node port addresses.


def places(world: World, service: Exposed) -> dict[str, bool | None]:
    """Where the node port answers (True), is refused (False), or nothing is heard (None)."""
    node, asker, client, port = world.lab.node, world.lab.pod("asker"), world.lab.client, service.node_port
    tries: dict[str, tuple[Host, str]] = {
        "eth0": (client, node.ip),
        "eth0 v6": (client, node.ip6),
        "cni0": (asker, bridge().v4),
        "cni0 v6": (asker, bridge().v6),
        "lo": (node, "127.0.0.1"),
        "lo v6": (node, "::1"),
    }
    said = {Outcome.ANSWERED: True, Outcome.REFUSED: False, Outcome.DROPPED: None}
    return {name: said[host.ask(ip, port).outcome] for name, (host, ip) in tries.items()}


ETH0, CNI0 = {"eth0": True, "eth0 v6": True}, {"cni0": True, "cni0 v6": True}
NOWHERE = dict.fromkeys(("eth0", "eth0 v6", "cni0", "cni0 v6", "lo", "lo v6"), False)
ANSWERING: dict[str, tuple[dict[str, Any], dict[str, bool]]] = {
    "everywhere": ({}, {**ETH0, **CNI0, "lo": True}),
    "primary": ({"nodePortAddresses": ["primary"]}, ETH0),
    "ranges": ({"nodePortAddresses": ["10.0.0.0/24", "fd00:a::/64"]}, ETH0),
    "a range of one family": ({"nodePortAddresses": ["10.0.0.0/24"]}, {"eth0": True, "eth0 v6": True, "cni0 v6": True}),
    "a range with localhost": ({"nodePortAddresses": ["127.0.0.0/8", "fd00:a::/64"]}, {"lo": True, "eth0 v6": True}),
    "not at localhost": ({"iptables": {"localhostNodePorts": False}}, {**ETH0, **CNI0}),
    "everything but localhost, by ranges": (
        {"nodePortAddresses": ["0.0.0.0/0", "::/0"], "iptables": {"localhostNodePorts": False}},
        {**ETH0, **CNI0},
    ),
}


@pytest.mark.parametrize("case", list(ANSWERING))
def test_node_ports_answer_where_they_are_told_to(world: World, shop: Exposed, case: str) -> None:
    settings, answering = ANSWERING[case]
    world.configure(**settings)
    assert places(world, shop) == NOWHERE | answering


def test_addresses_that_come_later_are_noticed(world: World, shop: Exposed) -> None:
    world.configure(nodePortAddresses=["203.0.113.0/24", "2001:db8:e::/64"])
    client = world.lab.client
    late = ("203.0.113.77", "2001:db8:e::77")

    def answered() -> bool:
        return all(client.ask(ip, shop.node_port, timeout=SILENCE).server for ip in late)

    with carried(world.lab.node, *late):
        until(answered, PATIENCE, "the node port to answer at the new addresses")
        assert_refused(client.ask(world.lab.node.ip, shop.node_port))


# Localhost node ports and what they open.


@contextmanager
def burglar(world: World) -> Iterator[Pod]:
    """A pod that sends packets for 127.0.0.1 out on the wire, to its node."""
    pod = world.lab.add_pod("burglar")
    pod.namespace.sysctl("net.ipv4.conf.all.route_localnet", 1)
    pod.namespace.ip(
        [
            "address delete 127.0.0.1/8 dev lo",
            f"route add 127.0.0.1 via {bridge().v4} src {pod.ip}",
        ]
    )
    try:
        yield pod
    finally:
        world.lab.remove_pod("burglar")


def test_nobody_gets_at_localhost_from_outside(world: World) -> None:
    """Node ports at localhost need route_localnet, which would open all of 127.0.0.0/8 to neighbours: CVE-2020-8558.

    The guard in KUBE-FIREWALL keeps it closed, and what kproxy opened is closed again when it goes; see also
    tests/daemon/test_localhost.py. Without the guard, the same packets do get in.
    """
    world.configure()
    node = world.lab.node
    node.addresses.append("127.0.0.1")
    server = node.serve(4321, name="treasure")
    node.addresses.remove("127.0.0.1")
    with burglar(world) as outsider, closing(server):
        assert node.ask("127.0.0.1", 4321).server == "treasure"
        assert outsider.ask("127.0.0.1", 4321, timeout=SILENCE).outcome is Outcome.DROPPED
        assert world.kproxy.stop() == 0
        assert outsider.ask("127.0.0.1", 4321, timeout=SILENCE).outcome is Outcome.DROPPED
        node.clean_up()
        assert outsider.ask("127.0.0.1", 4321, timeout=SILENCE).outcome is Outcome.DROPPED
        node.namespace.sysctl("net.ipv4.conf.all.route_localnet", 1)
        assert outsider.ask("127.0.0.1", 4321).server == "treasure"
        world.start()
        assert outsider.ask("127.0.0.1", 4321, timeout=SILENCE).outcome is Outcome.DROPPED


# Who is masqueraded.

OWN, HIDDEN = True, False
LOCAL_MODES: dict[str, tuple[dict[str, Any], dict[str, bool]]] = {
    "ClusterCIDR": ({}, {"asker": OWN, "web-3": OWN, "client": HIDDEN}),
    "NodeCIDR": ({"detectLocalMode": "NodeCIDR"}, {"asker": OWN, "web-3": HIDDEN, "client": HIDDEN}),
    "BridgeInterface": (
        {"detectLocalMode": "BridgeInterface", "detectLocal": {"bridgeInterface": "cni0"}},
        {"asker": OWN, "web-3": HIDDEN, "client": HIDDEN},
    ),
    "InterfaceNamePrefix": (
        {"detectLocalMode": "InterfaceNamePrefix", "detectLocal": {"interfaceNamePrefix": "cni"}},
        {"asker": OWN, "web-3": HIDDEN, "client": HIDDEN},
    ),
    "masqueradeAll": (
        {"iptables": {"masqueradeAll": True}},
        {"asker": HIDDEN, "web-3": HIDDEN, "client": HIDDEN},
    ),
    "another mark": ({"iptables": {"masqueradeBit": 3}}, {"asker": OWN, "web-3": OWN, "client": HIDDEN}),
}


@pytest.fixture(scope="module")
def visitors(world: World) -> None:
    """Pods of node-b use the Services of node-a: to it, they are pods, but not its own."""
    here, there = world.lab.node, world.lab.nodes["node-b"]
    for cidr, via, family in ((SERVICE_CIDR, here.ip, "ipv4"), (SERVICE_CIDR6, here.ip6, "ipv6")):
        there.namespace.ip([f"route add {cidr} via {via}"])
        there.iptables_restore(f"*nat\n-I CNI-MASQUERADE -d {cidr} -j RETURN\nCOMMIT\n", family)


@pytest.mark.usefixtures("visitors")
@pytest.mark.parametrize("case", list(LOCAL_MODES))
def test_connections_to_cluster_ips_are_masqueraded_unless_from_local_pods(world: World, case: str) -> None:
    settings, expected = LOCAL_MODES[case]
    world.configure(**settings)
    check_sources(world, expected)


@pytest.mark.usefixtures("visitors")
def test_where_nothing_tells_pods_apart_nobody_is_masqueraded(world: World) -> None:
    """Better a source address kept than one wrongly replaced."""
    assert world.kproxy.stop() == 0
    world.start("--cluster-cidr=")
    check_sources(world, {"asker": OWN, "web-3": OWN, "client": OWN})
    assert world.kproxy.stop() == 0
    world.start()


def check_sources(world: World, expected: Mapping[str, bool]) -> None:
    lab = world.lab
    hosts: dict[str, Host] = {"asker": lab.pod("asker"), "web-3": lab.pod("web-3"), "client": lab.client}
    here = world.expose("here", 11, all_pods(world)[:2])
    for family in FAMILIES:
        for name, host in hosts.items():
            source = address(host, family) if expected[name] else of(bridge(), family)
            assert_all(host.ask_many(here.ip(family), PORT, times=40), servers=WEB[:2], source=source)


@each_family
def test_traffic_from_outside_passes_a_closed_forward_chain(world: World, shop: Exposed, family: str) -> None:
    """Some container engines set its policy to DROP; then what goes through the node must be accepted by name."""
    world.configure()
    node, client = world.lab.node, world.lab.client
    program = {"ipv4": "iptables-legacy", "ipv6": "ip6tables-legacy"}[family]
    node.run([program, "-P", "FORWARD", "DROP"])
    try:
        assert_all(client.ask_many(address(node, family), shop.node_port, times=60), servers=WEB)
    finally:
        node.run([program, "-P", "FORWARD", "ACCEPT"])


# Packets that conntrack cannot place.


def stray_segment(source: tuple[str, int], destination: tuple[str, int], number: int) -> bytes:
    """A TCP segment with a sequence number out of the air."""
    body = struct.pack("!HHIIBBHHH", source[1], destination[1], number, 1, 5 << 4, 0x18, 512, 0, 0) + b"stray!"
    addresses = b"".join(socket.inet_aton(ip) for ip, _ in (source, destination))
    pseudo = addresses + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(body)) + body
    total = sum(struct.unpack(f"!{len(pseudo) // 2}H", pseudo))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return body[:16] + struct.pack("!H", ~total & 0xFFFF) + body[18:]


def raw_socket(host: Host) -> socket.socket:
    with host.namespace.entered():
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)


def strays(sniffer: socket.socket) -> set[str]:
    """From which addresses stray segments have come."""
    seen = set()
    with suppress(BlockingIOError):
        while packet := sniffer.recv(65536, socket.MSG_DONTWAIT):
            if packet.endswith(b"stray!"):
                seen.add(socket.inet_ntoa(packet[12:16]))
    return seen


def invalid_dropped(world: World) -> float:
    """How many packets the rule for those without a place has dropped."""
    name = "kubeproxy_iptables_ct_state_invalid_dropped_packets_total"
    return sum(value for sample, value in world.kproxy.metrics().items() if sample.startswith(name))


@pytest.mark.parametrize("liberal", [False, True])
def test_a_packet_that_conntrack_cannot_place_does_not_reach_the_client(world: World, liberal: bool) -> None:
    """It would come from the pod's address, and the client would answer with a reset that ends the connection.

    With conntrack.tcpBeLiberal, conntrack does place it; then it comes from the Service, and TCP itself drops it.
    """
    lab = world.lab
    pod, asker = lab.pod("web-1"), lab.pod("asker")
    lab.node.namespace.sysctl("net.netfilter.nf_conntrack_tcp_be_liberal", 0)
    world.configure(**({"conntrack": {"tcpBeLiberal": True}} if liberal else {}))
    one = world.expose("one", 12, [pod])
    with asker.connect(one.ip("ipv4"), PORT) as connection, raw_socket(pod) as sender, raw_socket(asker) as sniffer:
        client = (connection.greeting.source, connection.greeting.source_port)

        def seen() -> set[str]:
            for quarter in range(4):  # one or two are ahead of the window; what is behind it counts as a late duplicate
                segment = stray_segment((pod.ip, TARGET_PORT), client, quarter << 30)
                sender.sendto(segment, (asker.ip, 0))
            assert connection.echo()  # overtakes nothing: all take the same way
            return strays(sniffer)

        if liberal:
            until(lambda: seen() == {one.ip("ipv4")}, PATIENCE, "the packets to come from the Service")
        else:
            before = invalid_dropped(world)
            assert seen() <= {one.ip("ipv4")}
            assert invalid_dropped(world) > before
