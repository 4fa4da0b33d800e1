"""Every packet that anything might become of in a cluster: who may send, where to, and how much later again."""

import ipaddress

from kproxy.backends.packet import Memory, Packet
from kproxy.state.model import Protocol
from tests.kit.semantics.cluster import HERE, PROTOCOLS, Cluster


def _neighbours(ip: str, network: str) -> list[str]:
    address = ipaddress.ip_address(ip)
    return [str(near) for near in (address - 1, address + 1) if near in ipaddress.ip_network(network)]


def destinations(cluster: Cluster) -> list[tuple[str, int, str]]:
    """Return where packets may be sent that anything might become of: every frontend, and what is near to one."""
    found = []
    node_ports: set[tuple[int, str]] = set()
    for service in cluster.services.values():
        spec = service["spec"]
        ingress = [entry["ip"] for entry in service["status"]["loadBalancer"]["ingress"]]
        ips = [
            spec["clusterIP"],
            *spec["externalIPs"],
            *ingress,
            *_neighbours(spec["clusterIP"], cluster.plane.services),
        ]
        for port in spec["ports"]:
            ports = [number for number in (port["port"] - 1, port["port"], port["port"] + 1) if 0 < number < 65_536]
            found += [(ip, number, port["protocol"]) for ip in ips for number in ports]
            found += [(spec["clusterIP"], port["port"], protocol) for protocol in PROTOCOLS]
            if "nodePort" in port:
                node_ports |= {(port["nodePort"], protocol) for protocol in PROTOCOLS}
                node_ports |= {(min(port["nodePort"] + 1, 65_535), port["protocol"])}
    own = [*cluster.addresses, cluster.plane.node[:-1] + "2"]
    return found + [(ip, number, protocol) for ip in own for number, protocol in sorted(node_ports)]


def senders(cluster: Cluster) -> list[tuple[str, str]]:
    """Return who may send packets, with the interface each comes in by (none for the node itself)."""
    plane = cluster.plane
    found = {plane.client: "eth0", plane.other_client: "eth0"}
    found |= {plane.pods_here.format(50): "cni0", plane.pods_there.format(50): "eth0"}
    for endpoint_slice in cluster.slices.values():
        for endpoint in endpoint_slice["endpoints"]:
            there = endpoint.get("nodeName") == "node-b"
            found[endpoint["addresses"][0]] = "eth0" if there else "cni0"
    found |= dict.fromkeys(cluster.addresses, "")
    return list(found.items())


def packets(cluster: Cluster) -> list[Packet]:
    """Return all packets from anybody to anywhere."""
    return [
        Packet(source, ip, port, Protocol[protocol], interface)
        for source, interface in senders(cluster)
        for ip, port, protocol in dict.fromkeys(destinations(cluster))
    ]


def pods_elsewhere(cluster: Cluster) -> set[str]:
    """Return the addresses of endpoints that are known to be on another node."""
    return {
        endpoint["addresses"][0]
        for endpoint_slice in cluster.slices.values()
        for endpoint in endpoint_slice["endpoints"]
        if endpoint.get("nodeName", HERE) != HERE
    }


def aged(memory: Memory, seconds: int) -> Memory:
    """Return what is remembered of clients when some time has passed."""
    return frozenset(entry._replace(seconds_ago=entry.seconds_ago + seconds) for entry in memory)
