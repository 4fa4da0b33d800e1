"""What the plan says becomes of a new connection, and why.

The plan takes the decisions; here they are looked up for one packet, together with what the modes of kube-proxy do
about packets that no frontend is for. Held to the rules, in all layouts, and to the oracle by the tests.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import NamedTuple

import msgspec

from kproxy.backends.packet import DROPPED, REFUSED, UNTOUCHED, Outcome, Packet, World, within
from kproxy.explain.model import Verdict
from kproxy.explain.sender import is_from_pod
from kproxy.explain.view import Met, View
from kproxy.plan.model import Frontend, FrontendKind, Masquerade, Route, ServicePlan, Target
from kproxy.state.model import Endpoint, ServicePortName

NFTABLES = "nftables"


class Masquerading(NamedTuple):
    """Whether the source address is replaced, apart from hairpins, and why."""

    done: bool
    reason: str


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a connection."""

    verdict: Verdict
    reason: str
    met: Met | None = None
    also: tuple[Met, ...] = ()
    """Other frontends of the same address and port, which get nothing."""
    route: Route | None = None
    pool: tuple[Endpoint, ...] = ()
    """What it is spread over."""
    local: bool = False
    """Whether policy Local chose the pool."""
    masquerading: Masquerading = Masquerading(False, "")
    hairpin: frozenset[Endpoint] = frozenset()
    """Endpoints that would be connected to themselves, and are masqueraded for it alone."""
    kept: frozenset[Endpoint] = frozenset()
    """Endpoints that see the sender's address in any case: what stays on the node is not masqueraded."""
    dropped: frozenset[Endpoint] = frozenset()
    """Endpoints that the node's own policy for forwarded packets keeps the connection from."""

    def masquerades(self, endpoint: Endpoint) -> bool:
        """Tell whether an endpoint sees the node's address instead of the sender's."""
        return endpoint not in self.kept and (self.masquerading.done or endpoint in self.hairpin)

    def share(self, endpoint: Endpoint) -> Fraction:
        """Return an endpoint's part of new connections."""
        if self.verdict is not Verdict.FORWARD or endpoint not in self.pool:
            return Fraction(0)
        return Fraction(1, len(self.pool))

    def outcomes(self) -> dict[Outcome, Fraction]:
        """Return what the rules must make of the packet."""
        if self.verdict is not Verdict.FORWARD:
            return {Outcome(_RULES_SAY[self.verdict]): Fraction(1)}
        found: dict[Outcome, Fraction] = {}
        for endpoint in self.pool:
            blocked = endpoint in self.dropped
            outcome = Outcome(DROPPED) if blocked else Outcome(str(endpoint), self.masquerades(endpoint))
            found[outcome] = found.get(outcome, Fraction(0)) + Fraction(1, len(self.pool))
        return found


_RULES_SAY: Mapping[Verdict, str] = {Verdict.REJECT: REFUSED, Verdict.DROP: DROPPED, Verdict.NONE: UNTOUCHED}


def decide(view: View, packet: Packet, world: World, *, returning: str | None = None) -> Decision:
    """Return what becomes of a new connection's first packet.

    ``returning`` is the endpoint (``ip:port``) that session affinity remembers for its sender.
    """
    return _Decider(view, packet, world, returning).decide()


class _Decider:
    def __init__(self, view: View, packet: Packet, world: World, returning: str | None) -> None:
        self.view = view
        self.node = view.plan.node
        self.packet = packet
        self.world = world
        self.returning = returning
        self.in_nftables = view.mode == NFTABLES
        self.from_pod = is_from_pod(self.node.local_traffic, packet.source, packet.in_interface)
        self.from_node = world.is_own(packet.source)
        self.to_node = world.is_own(packet.destination)

    def decide(self) -> Decision:
        claims = sorted(self.frontends(), key=self.order)
        if not claims:
            return self.nobodys()
        met, *also = claims
        decided = self.at(met)
        return msgspec.structs.replace(decided, met=met, also=tuple(also), route=met.service.route(met.frontend))

    # --- whose address is it? --------------------------------------------------------------------------------------

    def frontends(self) -> Iterator[Met]:
        """Yield the frontends that a packet is for, those by address before node ports."""
        packet = self.packet
        for met in self.view.frontends(packet.protocol):
            frontend = met.frontend
            if frontend.port != packet.port:
                continue
            if frontend.ip == packet.destination or (frontend.ip is None and self.answers_node_ports()):
                yield met

    def order(self, met: Met) -> tuple[bool, bool, ServicePortName]:
        """Sort by who gets a packet that several are for: in mode iptables, translation comes before all refusals."""
        return not self.in_nftables and not self.translates(met), met.frontend.ip is None, met.service.name

    def translates(self, met: Met) -> bool:
        """Tell whether a frontend leads this packet to an endpoint, so that nobody else can refuse it."""
        route = met.service.route(met.frontend)
        short_cut = route.short_cut and (self.from_pod or self.from_node)
        return route.forwards and self.may_use(met.frontend) and (route.to is not Target.DROP or short_cut)

    def may_use(self, frontend: Frontend) -> bool:
        """Tell whether the sender is in a frontend's source ranges."""
        return not frontend.sources or any(within(self.packet.source, cidr) for cidr in frontend.sources)

    def answers_node_ports(self) -> bool:
        ips, destination = self.node.node_port_ips, self.packet.destination
        if ips is not None:
            return destination in ips
        if ipaddress.ip_address(destination).is_loopback:
            return self.node.localhost_node_ports and not self.in_nftables
        return self.to_node

    # --- what becomes of it? ---------------------------------------------------------------------------------------

    def at(self, met: Met) -> Decision:
        route = met.service.route(met.frontend)
        if not route.forwards:
            return self.refusal(met, route.to)
        if not self.may_use(met.frontend):
            ranges = ", ".join(met.frontend.sources)
            return _drop(f"the source range: only {ranges} may use this address, and {self.packet.source} is not in it")
        if route.short_cut and self.from_pod:
            why = "external policy Local is a promise to the outside; pods of this node are sent to all endpoints"
            keeps = Masquerading(False, "the short cut for pods of this node keeps their addresses")
            return self.forward(met.service, met.service.cluster_endpoints, keeps, f"the short cut: {why}", local=False)
        if route.short_cut and self.from_node:
            why = "external policy Local is a promise to the outside; the node itself is sent to all endpoints"
            node = Masquerading(True, "the node's own connection may leave by another address, so it gets that one")
            return self.forward(met.service, met.service.cluster_endpoints, node, f"the short cut: {why}", local=False)
        if route.to is Target.DROP:
            return self.refusal(met, route.to)
        local = route.to is Target.LOCAL
        pool = met.service.local_endpoints if local else met.service.cluster_endpoints
        return self.forward(met.service, pool, self.masquerading(route, met.frontend), self.why(met, pool), local=local)

    def forward(
        self, service: ServicePlan, pool: tuple[Endpoint, ...], masquerading: Masquerading, why: str, *, local: bool
    ) -> Decision:
        back = tuple(endpoint for endpoint in pool if str(endpoint) == self.returning)
        if back and service.affinity_seconds:
            pool, why = (
                back,
                f"session affinity: this client was at {back[0]} less than {service.affinity_seconds} s ago",
            )
        passing_in = bool(self.packet.in_interface)
        own = frozenset(endpoint for endpoint in pool if passing_in and self.world.is_own(endpoint.ip))
        hairpin = frozenset(endpoint for endpoint in pool if endpoint.ip == self.packet.source)
        decided = Decision(
            verdict=Verdict.FORWARD,
            reason=why,
            pool=pool,
            local=local,
            masquerading=masquerading,
            hairpin=hairpin,
            kept=own,
        )
        blocked = frozenset(e for e in pool if passing_in and e not in own and self.is_blocked(decided, e))
        if blocked == frozenset(pool):
            return _drop("the node's own firewall drops what it forwards, this connection, too")
        return msgspec.structs.replace(decided, dropped=blocked)

    def is_blocked(self, decided: Decision, endpoint: Endpoint) -> bool:
        """Tell whether the node's policy for forwarded packets stops it: mode iptables lets pass what it has marked."""
        if self.world.forward_accept:
            return False
        marked = decided.masquerading.done or endpoint in decided.hairpin
        return self.in_nftables or not marked

    def why(self, met: Met, pool: tuple[Endpoint, ...]) -> str:
        """Say why connections are spread over these endpoints."""
        terminating = bool(pool) and not any(endpoint.ready for endpoint in pool)
        if terminating:
            return "the fall-back: no endpoint is ready, so those that terminate but still serve are used"
        route = met.service.route(met.frontend)
        internal = met.frontend.kind is FrontendKind.CLUSTER_IP
        policy = f"{'internal' if internal else 'external'}TrafficPolicy"
        if route.to is Target.LOCAL:
            return f"{policy} Local: only the endpoints on this node are used"
        ready = [endpoint for endpoint in self.view.endpoints(met.service.name) if endpoint.ready]
        if len(pool) < len(ready):
            return f"topology hints: of {len(ready)} ready endpoints those meant for this node or zone are used"
        return f"{policy} Cluster: all ready endpoints are used"

    def masquerading(self, route: Route, frontend: Frontend) -> Masquerading:
        internal = frontend.kind is FrontendKind.CLUSTER_IP
        if route.masquerade is Masquerade.ALWAYS:
            if internal:
                return Masquerading(True, "masqueradeAll is set")
            return Masquerading(True, "the endpoint may be on another node, and answers have to come back through here")
        if route.masquerade is Masquerade.NEVER:
            if internal:
                return Masquerading(False, "nothing tells pods of this node from others (no clusterCIDR)")
            return Masquerading(False, "external policy Local keeps the client's address")
        if self.from_pod:
            return Masquerading(False, "the sender counts as a pod of this node")
        return Masquerading(True, "the sender is no pod of this node, and the answer has to come back through here")

    def refusal(self, met: Met, to: Target) -> Decision:
        name = met.service.name
        if to is Target.REJECT:
            if self.is_guarded():
                return self.guarded()
            if self.is_overlooked(met):
                return Decision(
                    verdict=Verdict.NONE,
                    reason=f"{name} has no endpoints, but mode iptables does not refuse what the node itself sends to "
                    "outside addresses",
                )
            return Decision(verdict=Verdict.REJECT, reason=self.why_nobody(met))
        internal = met.frontend.kind is FrontendKind.CLUSTER_IP
        policy = f"{'internal' if internal else 'external'}TrafficPolicy"
        return _drop(
            f"{policy} Local, and {name} has no usable endpoint on this node; silence lets others try elsewhere"
        )

    def why_nobody(self, met: Met) -> str:
        name = met.service.name
        endpoints = self.view.endpoints(name)
        if endpoints:
            number = len(endpoints)
            return f"{name} has no ready endpoint ({number} {'is' if number == 1 else 'are'} known)"
        others = self.view.ports_in_slices(name.service)
        if any(others.values()):
            has = ", ".join(sorted(f"'{port}' ({protocol.upper()})" for port, protocol in others))
            wanted = f"'{name.port}' ({name.protocol.upper()})"
            return f"{name} has no endpoints: its EndpointSlices have no port named {wanted}, they have {has}"
        if self.view.tracker.slices_of(name.service):
            return f"{name} has no endpoints: its EndpointSlices are empty (does its selector match any pod?)"
        return f"{name} has no endpoints: no EndpointSlice belongs to it (label kubernetes.io/service-name)"

    def is_overlooked(self, met: Met) -> bool:
        """Tell whether mode iptables does not look at a packet in the place where it refuses."""
        outside = met.frontend.kind is not FrontendKind.CLUSTER_IP
        return not self.in_nftables and not self.packet.in_interface and outside and not self.to_node

    # --- nobody's --------------------------------------------------------------------------------------------------

    def nobodys(self) -> Decision:
        """Say what becomes of packets that no frontend is for."""
        if self.is_guarded():
            return self.guarded()
        if not self.in_nftables:
            shadow = self.shadow()
            if shadow is not None:
                return shadow
        elif not self.to_node:
            guarded = self.cluster_ip_guard()
            if guarded is not None:
                return guarded
        return self.left_alone()

    def shadow(self) -> Decision | None:
        """Mode iptables refuses and drops node ports at all addresses of the node, whatever nodePortAddresses says."""
        if not self.to_node:
            return None
        for met in self.view.frontends(self.packet.protocol):
            if met.frontend.ip is None and met.frontend.port == self.packet.port:
                to = met.service.route(met.frontend).to
                if to in (Target.REJECT, Target.DROP):
                    decided = self.refusal(met, to)
                    return msgspec.structs.replace(decided, met=met, route=met.service.route(met.frontend))
        return None

    def cluster_ip_guard(self) -> Decision | None:
        destination = self.packet.destination
        for met in self.view.frontends():
            if met.frontend.kind is FrontendKind.CLUSTER_IP and met.frontend.ip == destination:
                return Decision(
                    verdict=Verdict.REJECT,
                    reason=f"{destination} is a ClusterIP, and no Service has port {self.packet.port} "
                    f"({self.packet.protocol.upper()}) there; mode nftables refuses that",
                )
        if any(within(destination, cidr) for cidr in self.node.service_cidrs):
            return _drop(
                f"{destination} is in the range of ClusterIPs, and no Service has it; mode nftables drops that"
            )
        return None

    def left_alone(self) -> Decision:
        passes = self.world.input_accept if self.to_node else self.world.forward_accept or not self.packet.in_interface
        if passes or (self.to_node and self.is_health_check()):
            return Decision(verdict=Verdict.NONE, reason="no Service has this address and port")
        return _drop("no Service has this address and port, and the node's own firewall drops what no rule speaks of")

    def is_health_check(self) -> bool:
        """Tell whether mode iptables lets a load balancer's health checks pass."""
        if self.in_nftables or self.packet.protocol.name != "TCP":
            return False
        ports = {service.health_check_node_port for service in self.view.plan.services.values()}
        return self.packet.port in ports - {0}

    def is_guarded(self) -> bool:
        """Tell whether it is for 127.0.0.0/8 from elsewhere, which node ports at localhost would open to all."""
        guards = self.node.localhost_node_ports and not self.in_nftables
        to, source = ipaddress.ip_address(self.packet.destination), ipaddress.ip_address(self.packet.source)
        return guards and to.is_loopback and not source.is_loopback

    def guarded(self) -> Decision:
        return _drop("127.0.0.0/8 is for the node itself: a rule keeps others out (CVE-2020-8558)")


def _drop(reason: str) -> Decision:
    return Decision(verdict=Verdict.DROP, reason=reason)
