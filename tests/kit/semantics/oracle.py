"""What must become of a packet, straight from Kubernetes' documentation.

Written to be checked against the documents, not to be fast: it looks at the API objects in their JSON form, knows of no
plan and no rules, and starts anew for every packet. Its sources are the pages "Virtual IPs and Service Proxies",
"Service", "EndpointSlices", "Service Internal Traffic Policy" and "Topology Aware Routing", and KEP-1669 (terminating
endpoints), KEP-1860 (ipMode), KEP-2086 (internal policy), KEP-2447 (proxy name), KEP-3015 (node hints). For what only
kube-proxy's mode iptables does, the comment says so.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from kproxy.backends.packet import DROPPED, REFUSED, UNTOUCHED, Outcome, Packet
from kproxy.state.model import IPFamily
from tests.kit.semantics.cluster import HERE, Cluster


class _Frontend(NamedTuple):
    """What a packet's destination turned out to be."""

    service: Mapping[str, Any]
    port: Mapping[str, Any]
    kind: str
    """cluster, external, balancer or node; or "shadow": a node port's number at an address where it does not answer."""


def expected(cluster: Cluster, packet: Packet) -> dict[Outcome, Fraction]:
    """Return what must become of a new connection's first packet."""
    return _Oracle(cluster, packet).judge()


class _Oracle:
    def __init__(self, cluster: Cluster, packet: Packet) -> None:
        self.cluster = cluster
        self.packet = packet
        self.mode_section: Mapping[str, Any] = cluster.config.get("iptables", {})

    def judge(self) -> dict[Outcome, Fraction]:
        frontend = self.frontend()
        if frontend is None:
            return self.certainly(DROPPED if self.guarded() else UNTOUCHED)
        if not self.usable(self.endpoints(frontend)):
            return self.certainly(self.unserved(frontend))
        if not self.permitted(frontend):
            return self.certainly(DROPPED)
        return self.served(frontend)

    def certainly(self, to: str) -> dict[Outcome, Fraction]:
        return {Outcome(to): Fraction(1)}

    # --- whose address is it? --------------------------------------------------------------------------------------

    def frontend(self) -> _Frontend | None:
        """An address that leads somewhere comes before a node port of the same number; else the first there is."""
        found = list(self.frontends())
        by_address = next((one for one in found if one.kind not in ("node", "shadow")), None)
        if by_address is not None and self.usable(self.endpoints(by_address)):
            return by_address
        return found[0] if found else None

    def frontends(self) -> Iterator[_Frontend]:
        for service in self.cluster.services.values():
            spec = service["spec"]
            if spec["type"] == "ExternalName" or service["metadata"]["labels"]:
                continue
            for port in spec["ports"]:
                if port["protocol"] != self.packet.protocol.name:
                    continue
                if port["port"] == self.packet.port:
                    yield from self.by_address(service, port)
                if port.get("nodePort") == self.packet.port and self.is_own(self.packet.destination):
                    answers = self.packet.destination in self.node_port_addresses()
                    yield _Frontend(service, port, "node" if answers else "shadow")

    def by_address(self, service: Mapping[str, Any], port: Mapping[str, Any]) -> Iterator[_Frontend]:
        to = self.packet.destination
        if to == service["spec"]["clusterIP"]:
            yield _Frontend(service, port, "cluster")
        if to in service["spec"]["externalIPs"]:
            yield _Frontend(service, port, "external")
        for entry in service["status"]["loadBalancer"]["ingress"]:
            if entry["ip"] == to and entry["ipMode"] != "Proxy":
                yield _Frontend(service, port, "balancer")

    def node_port_addresses(self) -> list[str]:
        """nodePortAddresses: all the node's addresses if empty, "primary", or those in the given ranges."""
        wanted = self.cluster.config["nodePortAddresses"]
        own = [ip for ip in self.cluster.addresses if ip != self.cluster.plane.loopback]
        if self.localhost_node_ports():
            own.append(self.cluster.plane.loopback)
        if wanted == ["primary"]:
            return [self.cluster.plane.node]
        return [ip for ip in own if not wanted or any(_within(ip, cidr) for cidr in wanted)]

    def localhost_node_ports(self) -> bool:
        """localhostNodePorts: for IPv4 only, and only where nodePortAddresses takes loopback in."""
        wanted = self.cluster.config["nodePortAddresses"]
        loopback = not wanted or any(cidr != "primary" and _within("127.0.0.1", cidr) for cidr in wanted)
        return (
            self.cluster.family is IPFamily.IPV4
            and self.mode_section.get("localhostNodePorts", True) is True
            and loopback
        )

    def guarded(self) -> bool:
        """Where node ports answer at localhost, the network is kept out of it."""
        to, source = (ipaddress.ip_address(ip) for ip in (self.packet.destination, self.packet.source))
        return self.localhost_node_ports() and to.is_loopback and not source.is_loopback

    def permitted(self, frontend: _Frontend) -> bool:
        """loadBalancerSourceRanges: who may use the load balancer's addresses, and nothing else."""
        ranges = frontend.service["spec"].get("loadBalancerSourceRanges", [])
        if frontend.kind != "balancer" or not ranges:
            return True
        if any(_within(self.packet.source, cidr) for cidr in ranges):
            return True
        # What the node itself sends to an address of the balancer's that it carries comes from that very address.
        vips = [
            entry["ip"] for entry in frontend.service["status"]["loadBalancer"]["ingress"] if entry["ipMode"] != "Proxy"
        ]
        return self.packet.source in vips and any(_within(self.cluster.plane.node, cidr) for cidr in ranges)

    # --- which endpoints? ------------------------------------------------------------------------------------------

    def endpoints(self, frontend: _Frontend) -> dict[str, Mapping[str, Any]]:
        """All endpoints of the service port: those of all its slices, each once."""
        found = {}
        for endpoint_slice in self.cluster.slices.values():
            owner = endpoint_slice["metadata"]["labels"]["kubernetes.io/service-name"]
            if owner != frontend.service["metadata"]["name"]:
                continue
            for port in endpoint_slice["ports"]:
                if (port["name"], port["protocol"]) == (frontend.port["name"], frontend.port["protocol"]):
                    for endpoint in endpoint_slice["endpoints"]:
                        found[_spelt(endpoint["addresses"][0], port["port"])] = endpoint
        return found

    def usable(self, endpoints: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
        """Ready endpoints or, if there are none, terminating ones that still serve."""
        ready = {name: one for name, one in endpoints.items() if _is(one, "ready", default=True)}
        leaving = {
            name: one
            for name, one in endpoints.items()
            if _is(one, "serving", default=True) and _is(one, "terminating", default=False)
        }
        return ready or leaving

    def near(self, endpoints: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
        """Follow hints, unless an endpoint lacks one, or none is for here."""
        if not all(_is(one, "ready", default=True) for one in endpoints.values()):
            return endpoints
        zone = self.cluster.node["metadata"]["labels"].get("topology.kubernetes.io/zone", "")
        for kind, here in (("forNodes", HERE), ("forZones", zone)):
            hints = {name: [h["name"] for h in one.get("hints", {}).get(kind, [])] for name, one in endpoints.items()}
            chosen = {name: endpoints[name] for name, names in hints.items() if here in names}
            if all(hints.values()) and chosen:
                return chosen
        return endpoints

    # --- what becomes of it? ---------------------------------------------------------------------------------------

    def served(self, frontend: _Frontend) -> dict[Outcome, Fraction]:
        everywhere = self.endpoints(frontend)
        here = {name: one for name, one in everywhere.items() if one.get("nodeName") == HERE}
        if frontend.kind == "shadow":
            # Mode iptables refuses and drops at all addresses of the node, whatever nodePortAddresses says.
            silent = self.is_local(frontend) and not self.usable(here)
            return self.certainly(DROPPED if silent or self.guarded() else UNTOUCHED)
        local = self.is_local(frontend) and not (frontend.kind != "cluster" and self.short_cut())
        chosen = self.usable(here) if local else self.near(self.usable(everywhere))
        if not chosen:
            return self.certainly(DROPPED)
        share = Fraction(1, len(chosen))
        found: dict[Outcome, Fraction] = {}
        for name, endpoint in chosen.items():
            outcome = Outcome(name, self.masqueraded(frontend, endpoint["addresses"][0]))
            found[outcome] = found.get(outcome, Fraction(0)) + share
        return found

    def unserved(self, frontend: _Frontend) -> str:
        """With no endpoint anywhere everybody is refused, permitted or not."""
        if self.guarded():
            return DROPPED
        # Mode iptables does not refuse what the node itself sends to outside addresses that it does not carry.
        overlooked = (
            not self.packet.in_interface and frontend.kind != "cluster" and not self.is_own(self.packet.destination)
        )
        return UNTOUCHED if overlooked else REFUSED

    def is_local(self, frontend: _Frontend) -> bool:
        policy = "internalTrafficPolicy" if frontend.kind == "cluster" else "externalTrafficPolicy"
        return bool(frontend.service["spec"][policy] == "Local")

    def short_cut(self) -> bool:
        """External policy Local does not cut off pods, nor the node itself."""
        return self.from_pod() is True or self.is_own(self.packet.source)

    def from_pod(self) -> bool | None:
        """Whether the packet is from a local pod, as detectLocalMode tells; None if it cannot tell."""
        config, plane = self.cluster.config, self.cluster.plane
        match config.get("detectLocalMode", "ClusterCIDR"):
            case "ClusterCIDR":
                return _within(self.packet.source, config["clusterCIDR"]) if config["clusterCIDR"] else None
            case "NodeCIDR":
                return _within(self.packet.source, plane.node_cidr)
            case "BridgeInterface":
                return bool(self.packet.in_interface == config["detectLocal"]["bridgeInterface"])
        return bool(self.packet.in_interface.startswith(config["detectLocal"]["interfaceNamePrefix"]))

    def masqueraded(self, frontend: _Frontend, endpoint_ip: str) -> bool:
        """Whether the endpoint sees the node's address. What stays on the node keeps its source."""
        if self.packet.in_interface and self.is_own(endpoint_ip):
            return False
        if self.packet.source == endpoint_ip:
            return True  # hairpin
        if frontend.kind == "cluster":
            return self.mode_section.get("masqueradeAll") is True or self.from_pod() is False
        if not self.is_local(frontend):
            return True
        return self.is_own(self.packet.source) and not self.from_pod()

    def is_own(self, ip: str) -> bool:
        return ip in self.cluster.addresses or ipaddress.ip_address(ip).is_loopback


def _is(endpoint: Mapping[str, Any], condition: str, *, default: bool) -> bool:
    value = endpoint["conditions"].get(condition)
    return default if value is None else bool(value)


def _within(ip: str, cidr: str) -> bool:
    return ipaddress.ip_address(ip) in ipaddress.ip_network(cidr, strict=False)


def _spelt(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
