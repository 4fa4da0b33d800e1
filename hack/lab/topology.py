"""The wires of the lab, from a veth pair to a pod that reaches the world. Each function returns lines for `ip`.

Nothing is carried out here: the lines are what one would type after ``ip -n NAMESPACE``, so this file is also the place
to learn how such a network is made. Read from the bottom of the network upwards:

1. `router`: the network between the machines. A bridge is the switch that the nodes plug into; its own address is
   their way out. A client hangs on another leg of it, off the cluster's networks.
2. `client`: a machine outside, with several addresses.
3. `node`: eth0 on the switch; a bridge of its own, cni0, for its pods; a route to the pods of every other node.
4. `pod_inside` and `pod_port`: the two ends of a pod's veth pair, and which end does what.
5. `cni_masquerade`: the rules that let pods talk to the outside, where nobody has a route back to a pod.

Where do Service addresses come in? Nowhere: no interface carries them and no route names them. A pod sends a packet for
10.96.0.10 along its default route, to its node. There netfilter's nat table rewrites the destination *before* the node
decides where to route the packet, and undoes it on the answers. Writing those rules is all that kproxy does.
"""

from collections.abc import Iterable
from typing import TypeAlias

from hack.lab.addresses import (
    CLIENT_HOSTS,
    CLUSTER_CIDR,
    CLUSTER_CIDR6,
    OUTSIDE,
    ROUTER_ON_UNDERLAY,
    ROUTER_OUTSIDE,
    SENT_TO_NODE_A,
    SENT_TO_NODE_A6,
    UNDERLAY,
    Net,
    Pair,
    pod_net,
)

Settings: TypeAlias = tuple[tuple[str, int | str], ...]

NODE_A = 1
OUTSIDE_TABLE = 7  # the router's second routing table, for packets that come from the client

# Kernel settings (sysctls) are each namespace's own. Those of every machine, before its first interface is made:
EVERYWHERE: Settings = (
    # Duplicate address detection would leave IPv6 silent for a second.
    ("net.ipv6.conf.all.accept_dad", 0),
    ("net.ipv6.conf.default.accept_dad", 0),
    # Say "refused" to each of a hundred connections in the same second; by default a host hears it six times at once,
    # then once a second.
    ("net.ipv4.icmp_ratemask", 0),
    ("net.ipv6.icmp.ratemask", ""),
)

# Whatever passes packets on needs:
FORWARDING: Settings = (("net.ipv4.ip_forward", 1), ("net.ipv6.conf.all.forwarding", 1))

# Without these, a packet between two pods on one bridge is switched past netfilter, so that a pod's answer to its
# neighbour would bypass the node and never get its Service address back: the reason why Kubernetes asks for the
# br_netfilter module.
BRIDGE_NETFILTER: Settings = (("net.bridge.bridge-nf-call-iptables", 1), ("net.bridge.bridge-nf-call-ip6tables", 1))


def _interface(name: str, *addresses: Pair) -> list[str]:
    """Give an interface its addresses and switch it on.

    Without ``nodad``, an IPv6 address could not be bound to until a worker of the kernel's has looked at it. See
    `hack.lab.namespaces.await_addresses` for what it is still waited for.
    """
    lines = [
        f"address add {address} dev {name}{' nodad' if ':' in address else ''}"
        for pair in addresses
        for address in pair
    ]
    return [*lines, f"link set {name} up"]


def _bridge(name: str, address: Pair) -> list[str]:
    """A switch inside the kernel, whose own address makes it an interface of the machine as well.

    By default a bridge takes over the lowest hardware address among its ports, so that it gets another one whenever a
    pod comes or goes, and its neighbours send to the old one for a while. Given one, it keeps it.
    """
    options = f"address {_hardware(address.v4)} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
    return [f"link add {name} {options}", *_interface(name, address)]


def _hardware(address: str) -> str:
    """A hardware address made from an IPv4 address, as network plug-ins make it."""
    return "0a:58:" + ":".join(f"{int(part):02x}" for part in address.partition("/")[0].split("."))


def _default_routes(gateway: Pair) -> list[str]:
    return [f"route add default via {address}" for address in gateway]


def router(nodes: Iterable[tuple[str, str]], client_namespace: str) -> list[str]:
    """The network between the machines. `nodes` are (name, namespace) pairs.

    A packet to an address that nobody has is dropped here without an answer, as on the Internet.
    """
    lines = ["link set lo up", *_bridge("underlay", UNDERLAY.with_length(ROUTER_ON_UNDERLAY))]
    for name, namespace in nodes:
        port = f"to-{name}"
        lines += [
            f"link add {port} type veth peer name eth0 netns {namespace}",
            f"link set {port} master underlay",
            f"link set {port} up",
        ]
    return [
        *lines,
        f"link add to-client type veth peer name eth0 netns {client_namespace}",
        *_interface("to-client", OUTSIDE.with_length(ROUTER_OUTSIDE)),
        "route add blackhole 0.0.0.0/0",
        "route add blackhole ::/0",
    ]


def to_node_a() -> dict[str, list[str]]:
    """More of the router, by family (``-4``, ``-6``: a rule's addresses do not tell).

    What the client sends to an external or Service address goes to node-a, as a load balancer or a router in front of a
    cluster would do. Only what comes from the client does, lest packets that node-a lets pass come round again.
    """
    via = UNDERLAY.host(NODE_A)
    rule = f"rule add iif to-client table {OUTSIDE_TABLE}"
    return {
        "-4": [rule, *(f"route add {prefix} via {via.v4} table {OUTSIDE_TABLE}" for prefix in SENT_TO_NODE_A)],
        "-6": [rule, *(f"route add {prefix} via {via.v6} table {OUTSIDE_TABLE}" for prefix in SENT_TO_NODE_A6)],
    }


def client() -> list[str]:
    """A machine outside. Its interface was made with the router's end of the pair."""
    first, *others = (OUTSIDE.with_length(number) for number in CLIENT_HOSTS)
    return [
        "link set lo up",
        *_interface("eth0", first),
        *(spare_address(address) for pair in others for address in pair),
        *_default_routes(OUTSIDE.host(ROUTER_OUTSIDE)),
    ]


def spare_address(address: str) -> str:
    """One more address on eth0, used only by those who ask for it: the first remains the one to send from."""
    return f"address add {address} dev eth0 preferred_lft 0{' nodad' if ':' in address else ''}"


def node(number: int, others: Iterable[int]) -> list[str]:
    """Node `number`: its place on the underlay, the bridge of its pods, and the way to the pods of the `others`."""
    lines = [
        "link set lo up",
        *_interface("eth0", UNDERLAY.with_length(number)),
        *_default_routes(UNDERLAY.host(ROUTER_ON_UNDERLAY)),
        *_bridge("cni0", pod_net(number).with_length(1)),
    ]
    for other in others:
        pods, there = pod_net(other).cidr, UNDERLAY.host(other)
        lines += [f"route add {pods.v4} via {there.v4}", f"route add {pods.v6} via {there.v6}"]
    return lines


def pod_port(host: int) -> str:
    """The name of a pod's veth on its node: veth11 leads to 10.244.….11."""
    return f"veth{host}"


def pod_inside(net: Net, host: int, node_namespace: str) -> list[str]:
    """The pod's end of the pair: to the pod it is just its network card. The node's bridge is the way to all else.

    The hardware address is made from the IPv4 address: when a new pod takes over an old one's address, what its
    neighbours remember is still right.
    """
    hardware = _hardware(net.host(host).v4)
    return [
        "link set lo up",
        f"link add eth0 address {hardware} type veth peer name {pod_port(host)} netns {node_namespace}",
        *_interface("eth0", net.with_length(host)),
        *_default_routes(net.host(1)),
    ]


def pod_outside(host: int) -> list[str]:
    """The node's end of the pair: a port of the bridge.

    A switch never sends a frame back out of the port it came in by. But that is where it must go when a pod connects to
    a Service and is itself the endpoint picked; ``hairpin on`` allows it.
    """
    port = pod_port(host)
    return [f"link set {port} master cni0", f"link set {port} type bridge_slave hairpin on", f"link set {port} up"]


def cni_masquerade(number: int) -> Pair:
    """The nat rules that a network plug-in writes on node `number`, as iptables-restore reads them.

    What a pod sends out of the cluster leaves under the node's address. To kproxy they are a neighbour's: it shares the
    table with them and must not touch them.
    """
    net = pod_net(number).cidr
    return Pair(_masquerade(net.v4, CLUSTER_CIDR), _masquerade(net.v6, CLUSTER_CIDR6))


def _masquerade(pods: str, cluster: str) -> str:
    return f"""\
*nat
:CNI-MASQUERADE - [0:0]
-A POSTROUTING -s {pods} -m comment --comment "cni: pods of this node" -j CNI-MASQUERADE
-A CNI-MASQUERADE -d {cluster} -m comment --comment "cni: stay yourself within the cluster" -j RETURN
-A CNI-MASQUERADE -m comment --comment "cni: be the node to the outside" -j MASQUERADE
COMMIT
"""
