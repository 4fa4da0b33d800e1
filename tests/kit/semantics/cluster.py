"""Clusters as hypothesis draws them: API objects in their JSON form, settings, and the node they are looked at from.

All addresses and ports are handed out once, so that no two Services claim the same: what happens then is nobody's
promise. Everything else is left to chance. An address has one account only (node, conditions, hints) however many
slices it is in.

Strategies are made once, what they are made from the same cluster after cluster: hypothesis looks each new one over.
"""

import ipaddress
import json
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from hypothesis import reject
from hypothesis import strategies as st

from kproxy.api.decode import convert_object
from kproxy.api.kinds import Kind, ObjectKind
from kproxy.api.types import ApiObject, Node, ObjectKey
from kproxy.backends.packet import World
from kproxy.config import parse_config
from kproxy.node.facts import node_facts, proxy_settings
from kproxy.plan.model import Plan
from kproxy.plan.settings import NodeFacts, ProxySettings
from kproxy.state.model import IPFamily
from kproxy.tools.render import plan_objects

HERE = "node-a"
PROTOCOLS = ("TCP", "UDP", "SCTP")


class Plane(NamedTuple):
    """The addresses that play each part in one family."""

    node: str
    bridge: str
    loopback: str
    pods_here: str
    pods_there: str
    cluster_cidr: str
    node_cidr: str
    services: str
    balancers: str
    externals: str
    client: str
    other_client: str
    everyone: str


PLANES = {
    IPFamily.IPV4: Plane(
        *("10.0.0.1", "10.244.0.1", "127.0.0.1", "10.244.0.{}", "10.244.1.{}", "10.244.0.0/16", "10.244.0.0/24"),
        *("10.96.0.0/12", "203.0.113.{}", "198.51.100.{}", "192.0.2.7", "192.0.2.8", "0.0.0.0/0"),
    ),
    IPFamily.IPV6: Plane(
        *("fd00:a::1", "fd00:244::1", "::1", "fd00:244::{}", "fd00:244:0:1::{}", "fd00:244::/56", "fd00:244::/64"),
        *("fd00:10:96::/112", "2001:db8:e::{}", "2001:db8:f::{}", "2001:db8:c::7", "2001:db8:c::8", "::/0"),
    ),
}


@cache
def _settings(text: str) -> ProxySettings:
    return proxy_settings(parse_config(text))


class Cluster(NamedTuple):
    """Everything that the rules of one family depend on."""

    family: IPFamily
    services: Mapping[str, Mapping[str, Any]]
    slices: Mapping[str, Mapping[str, Any]]
    node: Mapping[str, Any]
    config: Mapping[str, Any]
    """Fields of KubeProxyConfiguration."""
    addresses: tuple[str, ...]
    """What the node's interfaces carry."""
    liberal: bool

    @property
    def plane(self) -> Plane:
        """The addresses of this cluster's family."""
        return PLANES[self.family]

    @property
    def settings(self) -> ProxySettings:
        """The settings as kproxy knows them."""
        kind = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "iptables"}
        return _settings(json.dumps(kind | {"hostnameOverride": HERE} | dict(self.config)))

    @property
    def facts(self) -> NodeFacts:
        """The node as kproxy knows it."""
        node = convert_object(Kind.NODE, self.node).object
        assert isinstance(node, Node)
        return node_facts(HERE, node, interface_addresses=self.addresses, tcp_be_liberal=self.liberal)

    @property
    def world(self) -> World:
        """What there is around the rules."""
        return World(frozenset(self.addresses))

    def objects(self) -> dict[ObjectKind, dict[ObjectKey, ApiObject]]:
        """Return the objects as kproxy knows them."""
        found: dict[ObjectKind, dict[ObjectKey, ApiObject]] = {Kind.SERVICE: {}, Kind.ENDPOINT_SLICE: {}}
        for kind, manifests in ((Kind.SERVICE, self.services), (Kind.ENDPOINT_SLICE, self.slices)):
            for manifest in manifests.values():
                decoded = convert_object(kind, manifest)
                assert decoded.problems == ()
                assert decoded.object is not None
                found[kind][decoded.object.metadata.key] = decoded.object
        return found

    def plan(self) -> Plan:
        """Return the plan."""
        plan, problems = plan_objects(self.objects(), self.family, self.settings, self.facts)
        assert problems == ()
        return plan


_EITHER = st.booleans()

# --- settings and node ---------------------------------------------------------------------------------------------


@cache
def configs(plane: Plane) -> st.SearchStrategy[dict[str, Any]]:
    """Settings, each way of telling local pods among them."""
    local = st.sampled_from(
        [
            {"clusterCIDR": plane.cluster_cidr},
            {"clusterCIDR": plane.cluster_cidr},
            {"clusterCIDR": ""},
            {"detectLocalMode": "NodeCIDR"},
            {"detectLocalMode": "BridgeInterface", "detectLocal": {"bridgeInterface": "cni0"}},
            {"detectLocalMode": "InterfaceNamePrefix", "detectLocal": {"interfaceNamePrefix": "cni"}},
        ]
    )
    node_ports = st.sampled_from(
        [[], [], [], ["primary"], [f"{plane.node}/32"], [plane.node_cidr, f"{plane.loopback}/8"], [plane.everyone]]
    )
    section = st.fixed_dictionaries(
        {},
        optional={
            "masqueradeAll": st.booleans(),
            "masqueradeBit": st.sampled_from([0, 14, 31]),
            "localhostNodePorts": st.booleans(),
        },
    )
    return st.builds(
        lambda local, ports, section: local | {"nodePortAddresses": ports, "iptables": section},
        local,
        node_ports,
        section,
    )


@cache
def nodes(plane: Plane) -> st.SearchStrategy[dict[str, Any]]:
    """The node, in a zone or in none."""
    return st.builds(
        lambda zone: {
            "metadata": {"name": HERE, "labels": {"topology.kubernetes.io/zone": zone} if zone else {}},
            "spec": {"podCIDRs": [plane.node_cidr]},
            "status": {"addresses": [{"type": "InternalIP", "address": plane.node}]},
        },
        st.sampled_from(["zone-a", "zone-b", ""]),
    )


# --- endpoints -----------------------------------------------------------------------------------------------------

_LEAVING: list[dict[str, Any]] = [
    {"ready": False, "serving": True, "terminating": True},
    {"ready": False, "serving": False, "terminating": True},
    {"ready": False, "serving": True},
    {"ready": False},
]
_CONDITIONS: dict[str, list[dict[str, Any]]] = {
    "well": [
        *[{}] * 6,
        {"ready": True},
        {"ready": True, "serving": False, "terminating": True},
        {"ready": None, "serving": None, "terminating": None},
        *_LEAVING,
    ],
    "leaving": _LEAVING,
}
_CONDITIONS_OF = {mood: st.sampled_from(conditions) for mood, conditions in _CONDITIONS.items()}
_MOODS = st.sampled_from(["well", "well", "leaving"])
_HINTED = st.sampled_from(["none", "none", "all", "some"])
_PLACES = st.sampled_from(["here", "there", "unknown"])
_ADDRESSES = st.integers(0, 8)
_ONE_IN_SIX = st.integers(0, 5)
_ZONES = st.sampled_from(["zone-a", "zone-a", "zone-b", "zone-c"])
_SOME_ZONES = {few: st.lists(_ZONES, min_size=few, max_size=2, unique=True) for few in (0, 1)}
_SOME_NODES = st.lists(st.sampled_from([HERE, "node-b"]), max_size=2, unique=True)
_SLICES = st.integers(0, 3)
_TARGETS = st.sampled_from([8080, 8081])
_FOUR_IN_FIVE = st.integers(0, 4)


def _accounts(draw: st.DrawFn, plane: Plane) -> list[dict[str, Any]]:
    """Draw what there is to say of the addresses behind one Service, no two of which are the same."""
    conditions = _CONDITIONS_OF[draw(_MOODS)]
    hinted = draw(_HINTED)
    found = []
    for number in range(draw(_ADDRESSES)):
        place = draw(_PLACES)
        pool = plane.pods_there if place == "there" else plane.pods_here
        ip = pool.format(100 + number)
        if not number and draw(_ONE_IN_SIX) == 0:
            ip, place = plane.node, "here"  # in the host's network
        account = {"addresses": [ip], "conditions": draw(conditions)}
        if place != "unknown":
            account["nodeName"] = HERE if place == "here" else "node-b"
        if hinted == "all" or (hinted == "some" and draw(_EITHER)):
            zones, names = draw(_SOME_ZONES[hinted == "all"]), draw(_SOME_NODES)
            account["hints"] = {"forZones": [{"name": z} for z in zones], "forNodes": [{"name": n} for n in names]}
        found.append(account)
    return found


@cache
def _some_of(number: int, *, at_least: int = 0, at_most: int | None = None) -> st.SearchStrategy[list[int]]:
    """Some of so many things, in any order, by their indexes."""
    return st.lists(st.integers(0, number - 1), min_size=at_least, max_size=at_most or number, unique=True)


def slices_of(draw: st.DrawFn, service: str, ports: list[dict[str, Any]], plane: Plane) -> dict[str, dict[str, Any]]:
    """Draw the slices of one Service."""
    accounts = _accounts(draw, plane)
    found = {}
    for number in range(draw(_SLICES) if accounts else 0):
        chosen = [accounts[index] for index in draw(_some_of(len(accounts)))]
        slice_ports = [
            {"name": port["name"], "port": draw(_TARGETS), "protocol": port["protocol"]}
            for port in ports
            if draw(_FOUR_IN_FIVE)
        ]
        name = f"{service}-{number}"
        found[name] = {
            "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv6" if ":" in plane.node else "IPv4",
            "endpoints": chosen,
            "ports": slice_ports,
        }
    return found


# --- Services ------------------------------------------------------------------------------------------------------


_TRIES = 6


class _Numbers:
    """Hands out numbers, none of them twice."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self._taken: dict[str, set[int]] = {}

    def one(self, of: str, numbers: st.SearchStrategy[int]) -> int:
        taken = self._taken.setdefault(of, set())
        for _ in range(_TRIES):
            number = self._draw(numbers)
            if number not in taken:
                break
        else:
            reject()
        taken.add(number)
        return number


POLICIES = st.sampled_from(["Cluster", "Local", None])
# No number is in both: a balancer's address may be the node's own, and a node port of that number be meant, too.
_NODE_PORTS = st.integers(30_000, 30_020) | st.sampled_from([30_767, 32_767, 4_095, 65_535])
_PORT_NUMBERS = st.sampled_from([1, 80, 81, 443, 4_096, 65_534])
_PORTS = st.lists(st.tuples(_PORT_NUMBERS, st.sampled_from(PROTOCOLS)), min_size=1, max_size=3, unique=True)
_TYPES = st.sampled_from(["ClusterIP", "NodePort", "NodePort", "LoadBalancer", "LoadBalancer", "ExternalName"])
_CLUSTER_IPS = st.sampled_from([1, 2, 15, 16, 17, 255, 256, 4_095, 4_096, 65_534]) | st.integers(1, 65_534)
_AFFINITIES = st.sampled_from(["None", "None", "ClientIP"])
_EXTERNAL_IPS = st.sampled_from([0, 0, 1, 2])
_BALANCERS = st.integers(0, 2)
_IP_MODES = st.sampled_from(["VIP", "VIP", "Proxy", None])
_HOSTS = st.integers(1, 99)
_ONE_IN_TEN = st.integers(0, 9)


def _ports_of(draw: st.DrawFn, kind: str, numbers: _Numbers, *, contested: bool) -> list[dict[str, Any]]:
    found = []
    for index, (number, protocol) in enumerate(draw(_PORTS)):
        port: dict[str, Any] = {"name": f"p{index}", "port": number, "protocol": protocol}
        if kind == "NodePort" or (kind == "LoadBalancer" and draw(_EITHER)):
            port["nodePort"] = numbers.one(f"node port {protocol}", _PORT_NUMBERS if contested else _NODE_PORTS)
        found.append(port)
    return found


def _service(draw: st.DrawFn, name: str, numbers: _Numbers, plane: Plane, *, contested: bool) -> dict[str, Any]:
    kind = draw(_TYPES)
    network = ipaddress.ip_network(plane.services)
    cluster_ip = str(network[numbers.one("cluster IP", _CLUSTER_IPS)])
    spec: dict[str, Any] = {
        "type": kind,
        "clusterIP": cluster_ip,
        "clusterIPs": [cluster_ip],
        "ports": _ports_of(draw, kind, numbers, contested=contested),
        "internalTrafficPolicy": draw(POLICIES),
        "externalTrafficPolicy": draw(POLICIES),
        "sessionAffinity": draw(_AFFINITIES),
        "externalIPs": [plane.externals.format(numbers.one("external IP", _HOSTS)) for _ in range(draw(_EXTERNAL_IPS))],
    }
    metadata: dict[str, Any] = {"name": name, "namespace": "shop", "labels": {}}
    if draw(_ONE_IN_TEN) == 0:
        metadata["labels"]["service.kubernetes.io/service-proxy-name"] = "another"
    ingress = []
    if kind == "LoadBalancer":
        for _ in range(draw(_BALANCERS)):
            ip = plane.balancers.format(numbers.one("balancer", _HOSTS))
            ingress.append({"ip": ip, "ipMode": draw(_IP_MODES)})
        spec["loadBalancerSourceRanges"] = draw(source_ranges(plane))
        spec["healthCheckNodePort"] = 32_000
    return {"metadata": metadata, "spec": spec, "status": {"loadBalancer": {"ingress": ingress}}}


@cache
def source_ranges(plane: Plane) -> st.SearchStrategy[list[str]]:
    """Who may use a balancer: anyone, or some of a client, this node's pods, and the node with its neighbours."""
    ranges = [f"{plane.client}/{_bits(plane.client)}", plane.node_cidr, f"{plane.node}/24"]
    return st.lists(st.sampled_from(ranges), unique=True, max_size=2)


@cache
def port_numbers(count: int) -> st.SearchStrategy[list[int]]:
    """Numbers of so many ports, all different."""
    return st.lists(_PORT_NUMBERS, min_size=count, max_size=count, unique=True)


def _bits(ip: str) -> int:
    return 128 if ":" in ip else 32


_FAMILIES = st.sampled_from(IPFamily)


@st.composite
def clusters(
    draw: st.DrawFn, max_services: int = 3, family: IPFamily | None = None, *, contested: bool = False
) -> Cluster:
    """Draw a cluster of one family; a contested one has node ports of the numbers that balancers serve on the node."""
    family = family or draw(_FAMILIES)
    plane = PLANES[family]
    numbers = _Numbers(draw)
    services = {}
    slices: dict[str, dict[str, Any]] = {}
    for index in range(draw(st.integers(1, max_services))):
        name = f"s{index}"
        services[name] = _service(draw, name, numbers, plane, contested=contested)
        slices |= slices_of(draw, name, services[name]["spec"]["ports"], plane)
    balancers = [entry["ip"] for one in services.values() for entry in one["status"]["loadBalancer"]["ingress"]]
    carried = draw(_some_of(len(balancers), at_least=contested, at_most=1)) if balancers else []
    return Cluster(
        family,
        services,
        slices,
        draw(nodes(plane)),
        draw(configs(plane)),
        (plane.node, plane.bridge, plane.loopback, *(balancers[index] for index in carried)),
        draw(_EITHER),
    )
