"""Decides which flows are as the plan wants them, which are stale, and which are none of kproxy's business.

A flow is kproxy's if it was sent to a frontend of a service: one that there is, or one that there was (then only if it
is translated, which was kproxy's doing). Everything else in conntrack belongs to others: host ports, another proxy's
services, pods talking to each other.

A flow of kproxy's is right if it goes to an endpoint of its service that serves, and that the service's own promises
allow: policy Local for where it came in, and the sources that may use a load balancer. What merely steers new
connections (hints, readiness ahead of termination, affinity) does not make a flow wrong; taking a working flow from a
pod that still answers would be a failure of its own. kube-proxy asks for less: it leaves policies and source ranges
aside (pkg/proxy/conntrack/cleanup.go), so that a client which never pauses never feels them.

All this holds for connections of TCP and SCTP, too, of which only those come here that nobody has answered: a SYN from
before there was the service, or one to an endpoint that is gone. (kube-proxy leaves them alone; conntrack keeps such an
entry for two minutes, and every SYN with the same ports, be it a retransmission or a new try, goes where the first one
went.)

Releasing a flow is safe in that it cannot go on for ever: the next packet either makes a flow that is right, or is
refused or dropped by the filter rules, and then conntrack keeps nothing of it.
"""

import ipaddress
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from typing import TypeAlias

import msgspec

from kproxy.conntrack.flows import Flow, packed, socket_address, split
from kproxy.plan.model import Destination, Frontend, LocalTraffic, Plan, ServicePlan, Target
from kproxy.state.model import Endpoint, Protocol

IsLocal: TypeAlias = Callable[[str], bool]
"""Tells whether an address is the node's own, as the addrtype match of a rule would."""

Places: TypeAlias = Mapping[Protocol, Collection[Destination]]
"""Where flows are sent to: a port number of one protocol has nothing to do with that of another."""

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

    def __init__(self, plan: Plan, former: Places | None = None, only: Places | None = None) -> None:
        """``former`` are frontends whose flows must go, unless the plan has them too.

        Flows to ``only`` these places will be asked about; of others nothing is known then. None: any may be.
        """
        self._plan = plan
        self._tells_pods = plan.node.local_traffic is not None
        self._local_pods = _local_pods(plan.node.local_traffic)
        self._node_port_ips = None if plan.node.node_port_ips is None else set(map(packed, plan.node.node_port_ips))
        self._localhost_node_ports = plan.node.localhost_node_ports
        self._former = {protocol: frozenset(places) for protocol, places in (former or {}).items()}
        self._ports = None if only is None else _ports(only)
        self._rightful: dict[tuple[Protocol, bytes], tuple[_Rightful, ...]] = {}

    def stale(self, flow: Flow, is_local: IsLocal) -> bool:
        """Tell whether a flow must be released."""
        key = flow.protocol, flow.destination
        found = self._rightful.get(key)
        if found is None:
            found = self._rightful[key] = tuple(self._find(flow, is_local))
        if found:
            return not any(self._is_allowed(flow, rightful, is_local) for rightful in found)
        return flow.translated and self._was_frontend(flow, is_local)

    @cached_property
    def _claims(self) -> Mapping[tuple[Protocol, str | None, int], list[tuple[ServicePlan, Frontend]]]:
        """Who claims which frontend; made when the first flow is asked about, since often there is none."""
        claims: dict[tuple[Protocol, str | None, int], list[tuple[ServicePlan, Frontend]]] = {}
        for name, service in self._plan.services.items():
            # By port and not by address as well: whether an address is the node's is only asked if nobody claims it.
            ports = None if self._ports is None else self._ports.get(name.protocol, frozenset())
            for frontend in service.frontends:
                if ports is None or frontend.port in ports:
                    claims.setdefault((name.protocol, frontend.ip, frontend.port), []).append((service, frontend))
        return claims

    def _find(self, flow: Flow, is_local: IsLocal) -> Iterable[_Rightful]:
        """Yield what the services say that claim a flow's destination.

        Should two of them do so, then either's flows may live: which of them wins is a matter of the backend's order,
        and not worth cutting a flow for.
        """
        ip, port = split(flow.destination)
        claims = self._claims.get((flow.protocol, ip, port))
        if claims is None:
            claims = self._claims.get((flow.protocol, None, port), [])
            if claims and not self._answers_node_ports(ip, is_local):
                return
        for service, frontend in claims:
            yield _rightful(service, frontend)

    def _was_frontend(self, flow: Flow, is_local: IsLocal) -> bool:
        former = self._former.get(flow.protocol)
        if not former:
            return False
        ip, port = split(flow.destination)
        return Destination(ip, port) in former or (Destination(None, port) in former and is_local(ip))

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

    def _answers_node_ports(self, ip: str, is_local: IsLocal) -> bool:
        if self._node_port_ips is not None:
            return packed(ip) in self._node_port_ips
        if ipaddress.ip_address(ip).is_loopback and not self._localhost_node_ports:
            return False
        return is_local(ip)


def destinations(service: ServicePlan | None) -> frozenset[Destination]:
    """Return where clients of a service send to; of none, nothing."""
    if service is None:
        return frozenset()
    return frozenset(Destination(frontend.ip, frontend.port) for frontend in service.frontends)


def may_strand(before: ServicePlan | None, now: ServicePlan | None) -> bool:
    """Tell whether a change of a service can have made flows wrong.

    It can't if they may go wherever they could before: a rollout's new endpoints strand nobody, nor do those that leave
    but still serve. Where a service had no endpoint at all, though, somebody else's rule may have let packets pass that
    kproxy's would have refused; these have led nowhere since.
    """
    if before is None or now is None:
        return True
    asked = (now.frontends, now.internal, now.external)
    return asked != (before.frontends, before.internal, before.external) or not (
        _whereabouts(before.serving_endpoints) <= _whereabouts(now.serving_endpoints)
    )


def _rightful(service: ServicePlan, frontend: Frontend) -> _Rightful:
    route = service.route(frontend)
    if route.to is Target.REJECT:
        return _Rightful(frozenset(), frozenset())
    everywhere = _addresses(service.serving_endpoints)
    here = _addresses(endpoint for endpoint in service.serving_endpoints if endpoint.is_local)
    # A Local policy that finds no endpoint here has become a DROP, yet flows from this node may still be cut short.
    confined = route.to is not Target.CLUSTER
    sources = tuple(ipaddress.ip_network(cidr) for cidr in frontend.sources)
    return _Rightful(everywhere, here, confined, route.short_cut, sources)


def _ports(places: Places) -> Mapping[Protocol, frozenset[int]]:
    return {protocol: frozenset(place.port for place in these) for protocol, these in places.items()}


def _whereabouts(endpoints: Iterable[Endpoint]) -> set[tuple[str, int, bool]]:
    """Return what of endpoints decides which flows may stay; conditions and hints only steer new ones."""
    return {(endpoint.ip, endpoint.port, endpoint.is_local) for endpoint in endpoints}


def _addresses(endpoints: Iterable[Endpoint]) -> frozenset[bytes]:
    return frozenset(socket_address(endpoint.ip, endpoint.port) for endpoint in endpoints)


def _local_pods(local: LocalTraffic | None) -> Network | None:
    return ipaddress.ip_network(local.cidr) if local is not None and local.cidr is not None else None


def _text(address: bytes) -> str:
    return str(ipaddress.ip_address(address))
