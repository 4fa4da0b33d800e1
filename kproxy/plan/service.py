"""Plans one service port: its frontends, the routes behind them, and who may use them.

This is the whole of what a Service *means*, on one page. Where kube-proxy has a rule for a reason of its own, the
reason is given here; how a rule is spelt is the backends' business.
"""

from collections.abc import Collection, Sequence

import msgspec

from kproxy.plan.claims import Claim, claim_of
from kproxy.plan.model import Frontend, FrontendKind, Masquerade, NodePlan, Route, ServicePlan, Target
from kproxy.plan.settings import NodeFacts, ProxySettings
from kproxy.plan.topology import Usable, usable_endpoints
from kproxy.state.addresses import cidr_contains
from kproxy.state.model import Endpoint, LoadBalancing, ServicePort


def plan_service(
    port: ServicePort,
    endpoints: Sequence[Endpoint],
    node: NodeFacts,
    node_plan: NodePlan,
    settings: ProxySettings,
    lost: Collection[Claim] = (),
) -> ServicePlan:
    """Take every decision about one service port with the endpoints behind it.

    ``lost`` are addresses and ports that it names, but that belong to others.
    """
    if lost:
        port = _without(port, lost)
    usable = usable_endpoints(port, endpoints, node.name, node.zone)
    from_elsewhere = Masquerade.OFF_CLUSTER if node_plan.local_traffic else Masquerade.NEVER
    internal = _internal_route(port, usable, Masquerade.ALWAYS if settings.masquerade_all else from_elsewhere)
    external = _external_route(port, usable)
    if _is_in_turn(port, settings):
        internal = _in_turn(internal)
        external = None if external is None else _in_turn(external)
    return ServicePlan(
        name=port.name,
        frontends=_frontends(port, node.ips.get(node_plan.family), lost),
        internal=internal,
        external=external,
        cluster_endpoints=usable.cluster,
        local_endpoints=usable.local,
        serving_endpoints=_serving(endpoints, usable),
        affinity_seconds=port.affinity_seconds,
        health_check_node_port=port.health_check_node_port,
        local_ready=len({endpoint.ip for endpoint in endpoints if endpoint.is_local and endpoint.ready}),
    )


def _is_in_turn(port: ServicePort, settings: ProxySettings) -> bool:
    """Tell whether endpoints get connections in turn. A client that comes back has its endpoint: affinity wins."""
    wanted = port.load_balancing or settings.load_balancing
    return wanted is LoadBalancing.ROUND_ROBIN and not port.affinity_seconds


def _in_turn(route: Route) -> Route:
    return msgspec.structs.replace(route, in_turn=True) if route.forwards else route


def _serving(endpoints: Sequence[Endpoint], usable: Usable) -> tuple[Endpoint, ...]:
    """Return the endpoints that a flow may stay with which is there already.

    Serving is enough for that, as for kube-proxy. Being ready is, too, even without serving: where a Service publishes
    addresses that aren't ready, new flows go there, so old ones must not be taken away.
    """
    serving = tuple(endpoint for endpoint in endpoints if endpoint.serving or endpoint.ready)
    return usable.cluster if serving == usable.cluster else serving


def _without(port: ServicePort, lost: Collection[Claim]) -> ServicePort:
    """Return the service port without the ways in from outside that it has lost."""

    def kept(ip: str | None, number: int) -> bool:
        return Claim(ip, number, port.name.protocol) not in lost

    return msgspec.structs.replace(
        port,
        external_ips=tuple(ip for ip in port.external_ips if kept(ip, port.port)),
        load_balancer_vips=tuple(ip for ip in port.load_balancer_vips if kept(ip, port.port)),
        node_port=port.node_port if kept(None, port.node_port) else 0,
    )


def _frontends(port: ServicePort, node_ip: str | None, lost: Collection[Claim]) -> tuple[Frontend, ...]:
    found = [Frontend(FrontendKind.CLUSTER_IP, port.cluster_ip, port.port)]
    found += [Frontend(FrontendKind.EXTERNAL_IP, ip, port.port) for ip in port.external_ips]
    sources = _permitted_sources(port, node_ip)
    found += [Frontend(FrontendKind.LOAD_BALANCER, ip, port.port, sources) for ip in port.load_balancer_vips]
    if port.node_port:
        found.append(Frontend(FrontendKind.NODE_PORT, None, port.node_port))
    if lost:
        found = [frontend for frontend in found if claim_of(frontend, port.name.protocol) not in lost]
    return tuple(found)


def _permitted_sources(port: ServicePort, node_ip: str | None) -> tuple[str, ...]:
    """Return who may use the load balancer's addresses: the source ranges, and sometimes those addresses themselves.

    A load balancer that leaves the destination as it is often has the node carry its address on an interface of its
    own. A connection from the node to that address then has it for its source as well, so where the node itself is
    among those permitted, the load balancer's addresses must be too (kubernetes/kubernetes#36500).
    """
    ranges = port.source_ranges
    if node_ip is None or not any(cidr_contains(cidr, node_ip) for cidr in ranges):
        return ranges
    bits = 128 if ":" in node_ip else 32
    return (*ranges, *(f"{ip}/{bits}" for ip in port.load_balancer_vips))


def _internal_route(port: ServicePort, usable: Usable, masquerade: Masquerade) -> Route:
    if not usable.anywhere:
        return Route(Target.REJECT)
    if not port.internal_local:
        return Route(Target.CLUSTER, masquerade)
    return Route(Target.LOCAL, masquerade) if usable.local else Route(Target.DROP)


def _external_route(port: ServicePort, usable: Usable) -> Route | None:
    if not port.externally_accessible:
        return None
    if not usable.anywhere:
        return Route(Target.REJECT)
    if not port.external_local:
        # The endpoint may be on another node, which would answer the client directly, from an address the client
        # never spoke to; so the connection has to come back through here.
        return Route(Target.CLUSTER, Masquerade.ALWAYS)
    # Local endpoints only: replies pass this node anyway, and the client's address is kept for the pod to see.
    return Route(Target.LOCAL if usable.local else Target.DROP, Masquerade.NEVER, short_cut=True)
