"""Pairs of clusters, of which one gives way to the other in a single sync, and the packets that this may concern.

Whatever may be written of a Service changes, several at a time and of several Services; addresses and node ports pass
from one to another. What the node is and how kproxy is set stays: with these, kproxy starts anew.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from hypothesis import strategies as st

from kproxy.backends.packet import Packet
from kproxy.state.model import IPFamily
from tests.kit.semantics.cluster import (
    POLICIES,
    Cluster,
    Plane,
    clusters,
    port_numbers,
    slices_of,
    source_ranges,
)
from tests.kit.semantics.traffic import senders

Manifest: TypeAlias = dict[str, Any]


class Change(NamedTuple):
    """A cluster as it was, and as it is now."""

    before: Cluster
    after: Cluster

    @property
    def reversed(self) -> "Change":
        """The way back."""
        return Change(self.after, self.before)


class _Draft:
    """A cluster that is being changed."""

    def __init__(self, draw: st.DrawFn, cluster: Cluster) -> None:
        self.draw = draw
        self.plane: Plane = cluster.plane
        self.services: dict[str, Manifest] = copy.deepcopy(dict(cluster.services))  # type: ignore[arg-type]
        self.slices: dict[str, Manifest] = copy.deepcopy(dict(cluster.slices))  # type: ignore[arg-type]

    def slices_of(self, name: str) -> list[str]:
        return [number for number, one in self.slices.items() if one["metadata"]["name"].rpartition("-")[0] == name]


def _endpoints(draft: _Draft, name: str) -> None:
    for number in draft.slices_of(name):
        del draft.slices[number]
    draft.slices |= slices_of(draft.draw, name, draft.services[name]["spec"]["ports"], draft.plane)


def _none_left(draft: _Draft, name: str) -> None:
    for number in draft.slices_of(name):
        del draft.slices[number]


def _places(draft: _Draft, name: str) -> None:
    """Endpoints move to another node, which is what policies Local ask about."""
    place = draft.draw(st.sampled_from(["node-a", "node-b"]))
    for number in draft.slices_of(name):
        for endpoint in draft.slices[number]["endpoints"]:
            endpoint["nodeName"] = place


def _policies(draft: _Draft, name: str) -> None:
    for policy in ("internalTrafficPolicy", "externalTrafficPolicy"):
        draft.services[name]["spec"][policy] = draft.draw(POLICIES)


def _ranges(draft: _Draft, name: str) -> None:
    if draft.services[name]["spec"]["type"] == "LoadBalancer":
        draft.services[name]["spec"]["loadBalancerSourceRanges"] = draft.draw(source_ranges(draft.plane))


def _affinity(draft: _Draft, name: str) -> None:
    spec = draft.services[name]["spec"]
    spec["sessionAffinity"] = "None" if spec["sessionAffinity"] == "ClientIP" else "ClientIP"


def _type(draft: _Draft, name: str) -> None:
    """Anything becomes a Service without ways in from outside; the reverse is the way back."""
    service = draft.services[name]
    service["spec"] |= {"type": "ClusterIP", "loadBalancerSourceRanges": [], "externalIPs": []}
    service["status"]["loadBalancer"]["ingress"] = []
    _no_node_ports(draft, name)


def _no_node_ports(draft: _Draft, name: str) -> None:
    """As by allocateLoadBalancerNodePorts: false."""
    for port in draft.services[name]["spec"]["ports"]:
        port.pop("nodePort", None)


def _no_balancer(draft: _Draft, name: str) -> None:
    draft.services[name]["status"]["loadBalancer"]["ingress"] = []


def _no_external_ips(draft: _Draft, name: str) -> None:
    draft.services[name]["spec"]["externalIPs"] = []


def _modes(draft: _Draft, name: str) -> None:
    for entry in draft.services[name]["status"]["loadBalancer"]["ingress"]:
        entry["ipMode"] = "VIP" if entry["ipMode"] == "Proxy" else "Proxy"


def _ports(draft: _Draft, name: str) -> None:
    ports = draft.services[name]["spec"]["ports"]
    for port, number in zip(ports, draft.draw(port_numbers(len(ports))), strict=True):
        port["port"] = number


def _gone(draft: _Draft, name: str) -> None:
    del draft.services[name]


def _not_ours(draft: _Draft, name: str) -> None:
    draft.services[name]["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "another"}


def _left_alone(draft: _Draft, name: str) -> None:
    del draft, name


_CHANGES: tuple[Callable[[_Draft, str], None], ...] = (
    *(_endpoints, _none_left, _none_left, _places, _policies, _ranges, _ranges, _affinity, _type),
    *(_no_node_ports, _no_balancer, _no_external_ips, _modes, _ports, _gone, _not_ours, _left_alone),
)


def _exchange(draft: _Draft) -> None:
    """Two Services exchange what clients come by, or what is behind it."""
    if len(draft.services) < 2:
        return
    one, other = draft.draw(st.permutations(sorted(draft.services)))[:2]
    first, second = draft.services[one], draft.services[other]
    match draft.draw(st.sampled_from(["external IPs", "balancers", "ClusterIPs", "kind", "roles"])):
        case "external IPs":
            _swap(first["spec"], second["spec"], "externalIPs")
        case "balancers":
            _swap(first, second, "status")
            for service in (first, second):
                if service["status"]["loadBalancer"]["ingress"]:
                    service["spec"]["type"] = "LoadBalancer"
        case "ClusterIPs":
            _swap(first["spec"], second["spec"], "clusterIP", "clusterIPs")
        case "kind":  # an external IP becomes a balancer's address, of the other's
            ips = first["spec"]["externalIPs"]
            first["spec"]["externalIPs"] = []
            second["spec"]["type"] = "LoadBalancer"
            second["status"]["loadBalancer"]["ingress"] += [{"ip": ip, "ipMode": "VIP"} for ip in ips]
        case _:
            _swap(first, second, "spec", "status")


def _swap(first: Manifest, second: Manifest, *fields: str) -> None:
    for field in fields:
        first[field], second[field] = second[field], first[field]


@st.composite
def changes(draw: st.DrawFn, max_services: int = 3, family: IPFamily | None = None) -> Change:
    """Draw a change, in any family if in none."""
    before = draw(clusters(max_services, family))
    draft = _Draft(draw, before)
    for name in sorted(draft.services):
        for change in draw(st.lists(st.sampled_from(_CHANGES), min_size=1, max_size=3, unique=True)):
            if name in draft.services:
                change(draft, name)
    if draw(st.booleans()):
        _exchange(draft)
    found = Change(before, before._replace(services=draft.services, slices=draft.slices))
    return found.reversed if draw(st.booleans()) else found


def concerned(change: Change) -> list[Packet]:
    """Return the packets from anybody to any frontend that there is before or after."""
    world = change.before.world
    to = {
        (ip, frontend.port, name.protocol)
        for plan in (change.before.plan(), change.after.plan())
        for name, service in plan.services.items()
        for frontend in service.frontends
        for ip in ([frontend.ip] if frontend.ip else sorted(world.own_addresses))
    }
    who: Mapping[str, str] = dict([*senders(change.before), *senders(change.after)])
    return [
        Packet(source, ip, port, protocol, interface)
        for source, interface in who.items()
        for ip, port, protocol in sorted(to)
    ]
