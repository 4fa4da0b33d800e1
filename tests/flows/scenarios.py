"""Reads the table of flows: each scenario becomes objects, settings and facts as the rest of kproxy knows them."""

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hack.lab.addresses import UNDERLAY, pod_net
from kproxy.api.decode import convert_object
from kproxy.api.kinds import Kind, ObjectKind
from kproxy.api.types import ApiObject, Node, ObjectKey
from kproxy.backends.packet import DROPPED, REFUSED, UNTOUCHED, Outcome, Packet, PacketState, World
from kproxy.config import Config, parse_config
from kproxy.node.facts import node_facts
from kproxy.plan.settings import NodeFacts
from kproxy.state.model import IPFamily, Protocol
from kproxy.tools.render import Objects
from tests.flows.addresses import mapped, to_ipv6

TABLE = Path(__file__).parent / "table"
NODE_NAME = "node-a"
NAMESPACE = "shop"

SENDERS = {
    "pod": "10.244.0.20",
    "far-pod": "10.244.1.20",
    "client": "192.0.2.7",
    "client2": "192.0.2.8",
    "node": "10.0.0.1",
    "localhost": "127.0.0.1",
}
OWN_ADDRESSES = ("127.0.0.1", "::1", *UNDERLAY.host(1), *pod_net(1).host(1))
POD_INTERFACE, UPLINK = "cni0", "eth0"
_POD_NETS = (pod_net(1).v4.removesuffix("{}"), pod_net(1).v6.removesuffix("{}"))

_OF_MODE = {"masqueradeAll", "masqueradeBit", "localhostNodePorts"}
"""Settings that each mode has a section of its own for."""

_RANGE = re.compile(r"(\d+\.\d+\.\d+\.)(\d+)\.\.(\d+)")
_AFTER = re.compile(r"(\d+)s after (\S+)")
_TARGET = re.compile(r"(.+?)(?:/(TCP|UDP|SCTP))?")


class After(NamedTuple):
    """The sender has been given ``endpoint`` some time ago."""

    endpoint: str
    seconds: int


class Flow(NamedTuple):
    """A packet and what must become of it. Those of ``to`` share evenly."""

    text: str
    packet: Packet
    to: tuple[Outcome, ...]
    modes: dict[str, tuple[Outcome, ...]]
    """What becomes of it instead in some of kube-proxy's modes."""
    after: After | None

    @property
    def family(self) -> IPFamily:
        """In which of the two worlds it is."""
        return IPFamily.IPV6 if ":" in self.packet.destination else IPFamily.IPV4

    def wanted(self, mode: str) -> tuple[Outcome, ...]:
        """Return what must become of it in a mode."""
        return self.modes.get(mode, self.to)


class Scenario(NamedTuple):
    """Objects, settings and a node, with flows."""

    name: str
    source: str
    """The file it is from."""
    raw: dict[str, Any]
    flows: tuple[Flow, ...]

    def __str__(self) -> str:
        return self.name

    def objects(self, *, before: bool = False) -> Objects:
        """Return the API objects; with ``before``, as they were when the connections in `After` were made."""
        raw = self.raw | self.raw.get("before", {}) if before else self.raw
        found: dict[ObjectKind, dict[ObjectKey, ApiObject]] = {kind: {} for kind in Kind}
        for kind, manifest in (*_services(raw), *_slices(raw)):
            decoded = convert_object(kind, manifest)
            assert decoded.object is not None, decoded.problems
            assert decoded.problems == ()
            found[kind][decoded.object.metadata.key] = decoded.object
        return found

    def manifests(self) -> list[dict[str, Any]]:
        """Return the objects as a cluster would hold them, for whoever needs them on disk."""
        return [_node(self.raw), *(manifest for _, manifest in (*_services(self.raw), *_slices(self.raw)))]

    def config(self, mode: str) -> Config:
        """Return the settings."""
        fields = {"clusterCIDR": self.raw["clusterCIDR"], **self.raw.get("config", {})}
        section = {name: fields.pop(name) for name in _OF_MODE & fields.keys()}
        if mode != "iptables":
            section.pop("localhostNodePorts", None)
        kind = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": mode}
        return _config(json.dumps(kind | {"hostnameOverride": NODE_NAME, mode: section} | fields))

    def facts(self) -> NodeFacts:
        """Return what there is to know of the node."""
        return _facts(json.dumps(_node(self.raw)), self._addresses(), liberal=self._said_of_node("liberal", False))

    def world(self) -> World:
        """Return what there is around the rules."""
        return World(
            frozenset(self._addresses()),
            forward_accept=self._said_of_node("forward", "accept") == "accept",
            input_accept=self._said_of_node("input", "accept") == "accept",
        )

    def _addresses(self) -> tuple[str, ...]:
        return (*OWN_ADDRESSES, *self._said_of_node("addresses", ()))

    def _said_of_node(self, field: str, default: Any) -> Any:
        return self.raw.get("node", {}).get(field, default)


_config = functools.cache(parse_config)
"""Most scenarios have the same settings."""


@functools.cache
def _facts(node: str, addresses: tuple[str, ...], *, liberal: bool) -> NodeFacts:
    """Most scenarios have the same node, too."""
    decoded = convert_object(Kind.NODE, json.loads(node)).object
    assert isinstance(decoded, Node)
    return node_facts(NODE_NAME, decoded, interface_addresses=addresses, tcp_be_liberal=liberal)


@functools.cache
def scenarios() -> tuple[Scenario, ...]:
    """Return all scenarios of the table, those of IPv4 also as ones of IPv6."""
    return tuple(scenario for path in sorted(TABLE.glob("*.yaml")) for scenario in read_scenarios(path))


def read_scenarios(path: Path) -> Iterator[Scenario]:
    """Yield the scenarios of one file."""
    for raw in yaml.load(path.read_text(), yaml.CSafeLoader):
        families = raw.get("families", ["ipv4", "ipv6"])
        raw = {"clusterCIDR": "10.244.0.0/16"} | _expanded(raw)
        both = "::" in json.dumps(raw)
        if both:
            raw["clusterCIDR"] += ",fd00:244::/56"
        yield _scenario(raw["scenario"], path.name, raw, SENDERS)
        if not both and "ipv6" in families:
            senders = mapped(SENDERS, to_ipv6)
            yield _scenario(f"{raw['scenario']} (IPv6)", path.name, mapped(raw, to_ipv6), senders)


def _scenario(name: str, source: str, raw: dict[str, Any], senders: dict[str, str]) -> Scenario:
    own = {*OWN_ADDRESSES, *raw.get("node", {}).get("addresses", ())}
    return Scenario(name, source, raw, tuple(_flow(entry, senders, own) for entry in raw["flows"]))


def _expanded(raw: Any) -> Any:
    """Write out ranges of addresses: in results as alternatives, among endpoints as endpoints."""
    match raw:
        case str() if " => " in raw:
            flow, _, result = raw.partition(" => ")
            return f"{flow} => " + " or ".join(one for part in result.split(" or ") for one in _spread(part))
        case dict():
            return {key: _expanded(value) for key, value in raw.items()}
        case list():
            return [_expanded(one) for item in raw for one in _several(item)]
    return raw


def _several(item: Any) -> list[Any]:
    if isinstance(item, dict) and isinstance(item.get("ip"), str):
        return [item | {"ip": ip} for ip in _spread(item["ip"])]
    return [item]


def _spread(text: str) -> list[str]:
    found = _RANGE.search(text)
    if not found:
        return [text]
    base, first, last = found.groups()
    return [f"{text[: found.start()]}{base}{n}{text[found.end() :]}" for n in range(int(first), int(last) + 1)]


# --- flows ---------------------------------------------------------------------------------------------------------


def _flow(entry: str | dict[str, Any], senders: dict[str, str], own: set[str]) -> Flow:
    text = entry if isinstance(entry, str) else entry["flow"]
    modes = {} if isinstance(entry, str) else entry.get("modes", {})
    head, _, result = text.partition(" => ")
    who, _, target = head.partition(" -> ")
    sender, _, state = who.partition(", ")
    parsed = _TARGET.fullmatch(target)
    assert result, f"{text}: a flow is SENDER -> ADDRESS:PORT => RESULT"
    assert parsed is not None, text
    place, _, port = parsed[1].rpartition(":")
    source = senders.get(sender, sender)
    after = _AFTER.fullmatch(state)
    packet = Packet(
        source,
        place.strip("[]"),
        int(port),
        Protocol[parsed[2] or "TCP"],
        _interface(source, own),
        PacketState.NEW if after or not state else PacketState(state),
    )
    remembered = After(after[2], int(after[1])) if after else None
    return Flow(text, packet, _outcomes(result), {mode: _outcomes(one) for mode, one in modes.items()}, remembered)


def _interface(source: str, own: set[str]) -> str:
    if source in own:
        return ""
    return POD_INTERFACE if source.startswith(_POD_NETS[0]) or _in_pod_net6(source) else UPLINK


def _in_pod_net6(source: str) -> bool:
    return source.startswith(_POD_NETS[1])


def _outcomes(text: str) -> tuple[Outcome, ...]:
    if text in (UNTOUCHED, REFUSED, DROPPED):
        return (Outcome(text),)
    endpoints, _, rest = text.partition(", ")
    assert rest in ("", "as node"), text
    parts = [part.partition(" as node") for part in endpoints.split(" or ")]
    return tuple(Outcome(to, bool(rest or masqueraded)) for to, masqueraded, _ in parts)


# --- objects -------------------------------------------------------------------------------------------------------


def _services(raw: dict[str, Any]) -> Iterator[tuple[ObjectKind, dict[str, Any]]]:
    for name, said in raw.get("services", {}).items():
        spec = {key: value for key, value in said.items() if key not in ("annotations", "labels", "loadBalancer")}
        metadata = {key: said[key] for key in ("annotations", "labels") if key in said}
        yield (
            Kind.SERVICE,
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": NAMESPACE, **metadata},
                "spec": spec,
                "status": {"loadBalancer": {"ingress": said.get("loadBalancer", [])}},
            },
        )


def _slices(raw: dict[str, Any]) -> Iterator[tuple[ObjectKind, dict[str, Any]]]:
    for owner, several in raw.get("slices", {}).items():
        for number, said in enumerate(several if isinstance(several, list) else [several]):
            endpoints = [_endpoint(endpoint) for endpoint in said.get("endpoints", [])]
            first = said["endpoints"][0]["ip"] if said.get("endpoints") else ""
            labels = {"kubernetes.io/service-name": owner} | said.get("labels", {})
            yield (
                Kind.ENDPOINT_SLICE,
                {
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": {"name": f"{owner}-{number}", "namespace": NAMESPACE, "labels": labels},
                    "addressType": said.get("addressType", "IPv6" if ":" in first else "IPv4"),
                    "endpoints": endpoints,
                    "ports": said["ports"],
                },
            )


def _endpoint(said: dict[str, Any]) -> dict[str, Any]:
    hints = {
        "forZones": [{"name": zone} for zone in said.get("zones", [])],
        "forNodes": [{"name": node} for node in said.get("nodes", [])],
    }
    return {
        "addresses": [said["ip"]],
        "nodeName": said.get("node"),
        "conditions": {key: said[key] for key in ("ready", "serving", "terminating") if key in said},
        "hints": {key: value for key, value in hints.items() if value} or None,
    }


def _node(raw: dict[str, Any]) -> dict[str, Any]:
    said = raw.get("node", {})
    addresses = said.get("reported", list(UNDERLAY.host(1)))
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE_NAME, "labels": {"topology.kubernetes.io/zone": said.get("zone", "zone-a")}},
        "spec": {"podCIDRs": list(pod_net(1).cidr)},
        "status": {"addresses": [{"type": "InternalIP", "address": address} for address in addresses]},
    }
