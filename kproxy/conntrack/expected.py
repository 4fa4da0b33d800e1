"""Decides which flows are as the plan wants them, which are stale, and which are none of kproxy's business.

A flow is kproxy's if it was sent to a frontend of a service: one that there is, or one that there was (then only if it
is translated, which was kproxy's doing). Everything else in conntrack belongs to others: host ports, another proxy's
services, pods talking to each other.

A flow of kproxy's is right if it goes to an endpoint of its service that serves, and that the service's own promises
allow: policy Local for where it came in, and the sources that may use a load balancer. What merely steers new
connections (hints, readiness ahead of termination, affinity) does not make a flow wrong; taking a working flow from a
pod that still answers would be a failure of its own. kube-proxy asks for less: it leaves policies and source ranges
aside (pkg/proxy/conntrack/cleanup.go), so that a client which never pauses never feels them.

Releasing a flow is safe in that it cannot go on for ever: the next packet either makes a flow that is right, or is
refused or dropped by the filter rules, and then conntrack keeps nothing of it.
"""

import ipaddress
from collections.abc import Callable, Collection, Iterable
from typing import TypeAlias

import msgspec

from kproxy.conntrack.flows import Flow, packed, packed_port, socket_address
from kproxy.plan.model import Destination, Frontend, LocalTraffic, Plan, ServicePlan, Target
from kproxy.state.model import Endpoint, Protocol

IsLocal: TypeAlias = Callable[[str], bool]
"""Tells whether an address is the node's own, as the addrtype match of a rule would."""

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class _Rightful(msgspec.Struct, frozen=True, gc=False):
    """Where flows to one frontend may go."""

    everywhere: frozenset[bytes]
    here: frozenset[bytes]
    """Of those, the endpoints on this node."""
    confined: bool = False
    """Whether policy Local keeps flows on this node."""
    short_cut: bool = False
    """Whether that does not hold for flows that come from this node."""
    sources: tuple[Network, ...] = ()
    """Who may use it; empty: anyone."""


class Expected:
    """What one family's flows should be like."""

    def __init__(self, plan: Plan, former: Collection[Destination] = ()) -> None:
        """``former`` are frontends whose flows must go, unless the plan has them too."""
        self._tells_pods = plan.node.local_traffic is not None
        self._local_pods = _local_pods(plan.node.local_traffic)
        self._node_port_ips = None if plan.node.node_port_ips is None else set(map(packed, plan.node.node_port_ips))
        self._localhost_node_ports = plan.node.localhost_node_ports
        self._by_address: dict[bytes, tuple[_Rightful, ...]] = {}
        self._by_node_port: dict[bytes, tuple[_Rightful, ...]] = {}
        for name, service in plan.services.items():
            if name.protocol is Protocol.UDP:
                self._add(service)
        self._former_addresses = {socket_address(ip, port) for ip, port in former if ip is not None}
        self._former_node_ports = {packed_port(port) for ip, port in former if ip is None}

    def _add(self, service: ServicePlan) -> None:
        everywhere = _addresses(service.serving_endpoints)
        here = _addresses(endpoint for endpoint in service.serving_endpoints if endpoint.is_local)
        for frontend in service.frontends:
            # Should two services claim one address, then either's flows may live: which of them wins is a matter of
            # the backend's order, and not worth cutting a flow for.
            rightful = _rightful(service, frontend, everywhere, here)
            if frontend.ip is None:
                port = packed_port(frontend.port)
                self._by_node_port[port] = (*self._by_node_port.get(port, ()), rightful)
            else:
                address = socket_address(frontend.ip, frontend.port)
                self._by_address[address] = (*self._by_address.get(address, ()), rightful)

    def stale(self, flow: Flow, is_local: IsLocal) -> bool:
        """Tell whether a flow must be released."""
        found = self._by_address.get(flow.destination)
        if found is not None:
            return not self._is_right(flow, found, is_local)
        address, port = flow.destination[:-2], flow.destination[-2:]
        found = self._by_node_port.get(port)
        if found is not None and self._answers_node_ports(address, is_local):
            return not self._is_right(flow, found, is_local)
        if not flow.translated:
            return False
        if flow.destination in self._former_addresses:
            return True
        return port in self._former_node_ports and is_local(_text(address))

    def _is_right(self, flow: Flow, found: tuple[_Rightful, ...], is_local: IsLocal) -> bool:
        return any(self._is_allowed(flow, rightful, is_local) for rightful in found)

    def _is_allowed(self, flow: Flow, rightful: _Rightful, is_local: IsLocal) -> bool:
        if flow.answering not in rightful.everywhere:
            return False
        if rightful.sources:
            source = ipaddress.ip_address(flow.source)
            if not any(source in network for network in rightful.sources):
                return False
        if not rightful.confined or flow.answering in rightful.here:
            return True
        return rightful.short_cut and self._may_take_short_cut(flow.source, is_local)

    def _may_take_short_cut(self, source: bytes, is_local: IsLocal) -> bool:
        """Tell whether a flow may have come from this node or its pods; by interface, conntrack doesn't know."""
        pods = self._local_pods
        from_pod = self._tells_pods and (pods is None or ipaddress.ip_address(source) in pods)
        return from_pod or is_local(_text(source))

    def _answers_node_ports(self, address: bytes, is_local: IsLocal) -> bool:
        if self._node_port_ips is not None:
            return address in self._node_port_ips
        if ipaddress.ip_address(address).is_loopback and not self._localhost_node_ports:
            return False
        return is_local(_text(address))


def udp_destinations(service: ServicePlan | None) -> frozenset[Destination]:
    """Return where clients of a service send to; of none, nothing."""
    if service is None:
        return frozenset()
    return frozenset(Destination(frontend.ip, frontend.port) for frontend in service.frontends)


def _rightful(
    service: ServicePlan, frontend: Frontend, everywhere: frozenset[bytes], here: frozenset[bytes]
) -> _Rightful:
    route = service.route(frontend)
    if route.to is Target.REJECT:
        return _Rightful(frozenset(), frozenset())
    # A Local policy that finds no endpoint here has become a DROP, yet flows from this node may still be cut short.
    confined = route.to is not Target.CLUSTER
    sources = tuple(ipaddress.ip_network(cidr) for cidr in frontend.sources)
    return _Rightful(everywhere, here, confined, route.short_cut, sources)


def _addresses(endpoints: Iterable[Endpoint]) -> frozenset[bytes]:
    return frozenset(socket_address(endpoint.ip, endpoint.port) for endpoint in endpoints)


def _local_pods(local: LocalTraffic | None) -> Network | None:
    return ipaddress.ip_network(local.cidr) if local is not None and local.cidr is not None else None


def _text(address: bytes) -> str:
    return str(ipaddress.ip_address(address))
