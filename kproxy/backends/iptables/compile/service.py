"""Translates the plan of one service port into rules.

No decision is taken here. Which chains there are follows from the plan alone:

    KUBE-SERVICES / KUBE-NODEPORTS ──► KUBE-SVC-…  one of the cluster's endpoints ──► KUBE-SEP-…  DNAT
                                   ──► KUBE-SVL-…  one of this node's endpoints   ──► KUBE-SEP-…
                                   ──► KUBE-EXT-…  from outside: masquerade or short-cut, then SVC or SVL
                                   ──► KUBE-FW-…   only permitted sources go on to EXT
"""

from collections.abc import Iterator, Mapping

import msgspec

from kproxy.backends.iptables.compile.draw import flat_draw, flat_turn, split_draw, split_turn
from kproxy.backends.iptables.compile.lists import Entry, Layout, SharedList
from kproxy.backends.iptables.rules import names
from kproxy.backends.iptables.rules.ruleset import (
    Accept,
    Chain,
    Comment,
    DestinationNat,
    DestinationPort,
    Drop,
    Interface,
    Jump,
    LocalAddress,
    Match,
    Prefix,
    RecentCheck,
    RecentSet,
    Reject,
    Rule,
    Side,
    TargetTerm,
)
from kproxy.plan.model import Frontend, FrontendKind, LocalTraffic, Masquerade, NodePlan, Route, ServicePlan, Target
from kproxy.state.model import Endpoint, Protocol

MASQUERADE = Jump(names.MARK_MASQ)
_REFUSALS: Mapping[Target, tuple[TargetTerm, str]] = {
    Target.REJECT: (Reject(), "has no endpoints"),
    Target.DROP: (Drop(), "has no local endpoints"),
}


class ServiceRules(msgspec.Struct, frozen=True):
    """The rules of one service port: its own chains in nat, and its entries in the shared lists."""

    chains: Mapping[str, Chain]
    entries: tuple[Entry, ...]


def compile_service(plan: ServicePlan, node: NodePlan, layout: Layout) -> ServiceRules:
    """Translate one service port's plan."""
    compiler = _ServiceCompiler(plan, node, layout)
    return ServiceRules(compiler.chains(), tuple(compiler.entries()))


def from_local_pod(local: LocalTraffic, *, inverted: bool = False) -> tuple[Prefix | None, Interface | None]:
    """Return what a rule's source and in-interface must be for it to match packets from this node's pods, or others."""
    if local.cidr is not None:
        return Prefix(local.cidr, inverted), None
    name = local.bridge if local.bridge is not None else f"{local.interface_prefix}+"
    return None, Interface(name, inverted)


class _ServiceCompiler:
    """What the functions below share about one service port."""

    def __init__(self, plan: ServicePlan, node: NodePlan, layout: Layout) -> None:
        self.plan = plan
        self.node = node
        self.layout = layout
        self.name = plan.name
        self.text = str(plan.name)
        self.protocol: Protocol = plan.name.protocol
        self.cluster_chain = names.cluster_chain(plan.name)
        self._all_need_chains = layout is Layout.CLASSIC or bool(plan.affinity_seconds)

    @property
    def local_chain(self) -> str:
        """The chain that spreads over this node's endpoints."""
        return names.local_chain(self.name)

    @property
    def external_chain(self) -> str:
        """The chain that connections from outside come to."""
        return names.external_chain(self.name)

    # --- entries in the shared lists -------------------------------------------------------------------------------

    def entries(self) -> Iterator[Entry]:
        """Yield the service port's rules in the shared lists."""
        for frontend in self.plan.frontends:
            yield from self._frontend_entries(frontend, self.plan.route(frontend))
        if self.plan.health_check_node_port:
            # The health checker of a load balancer must get through whatever else the filter table blocks.
            matches = self._comment(f"{self.text} health check node port")
            port = self.plan.health_check_node_port
            matches += (DestinationPort(Protocol.TCP, port, port),)
            rule = Rule(target=Accept(), protocol=Protocol.TCP, matches=matches)
            yield Entry(SharedList.FILTER_HEALTH_CHECKS, rule)

    def _frontend_entries(self, frontend: Frontend, route: Route) -> Iterator[Entry]:
        internal = frontend.kind is FrontendKind.CLUSTER_IP
        node_port = frontend.kind is FrontendKind.NODE_PORT
        if route.forwards:
            comment = self.text if node_port else f"{self.text} {frontend.kind.value}"
            chain = self._policy_chain(route) if internal else self._way_in(frontend)
            rule = self._to_frontend(frontend, comment, Jump(chain))
            yield Entry(SharedList.NAT_NODE_PORTS if node_port else SharedList.NAT_SERVICES, rule)
        if route.forwards and frontend.sources:
            # What the firewall chain in nat let pass has another destination by now; the rest ends here.
            comment = f"{self.text} traffic not accepted by {names.firewall_chain(self.name)}"
            yield Entry(SharedList.FILTER_FIREWALL, self._to_frontend(frontend, comment, Drop()))
        if route.to in _REFUSALS:
            target, comment = _REFUSALS[route.to]
            rule = self._to_frontend(frontend, f"{self.text} {comment}", target)
            if node_port:
                local = (LocalAddress(Side.DESTINATION),)
                rule = msgspec.structs.replace(rule, matches=(*rule.matches[:-1], *local, *rule.matches[-1:]))
                yield Entry(SharedList.FILTER_EXTERNAL_NODE_PORTS, rule)
            else:
                yield Entry(SharedList.FILTER_SERVICES if internal else SharedList.FILTER_EXTERNAL_IPS, rule)

    def _way_in(self, frontend: Frontend) -> str:
        """Return the chain that traffic from outside comes to first."""
        return names.firewall_chain(self.name) if frontend.sources else self.external_chain

    def _policy_chain(self, route: Route) -> str:
        return self.local_chain if route.to is Target.LOCAL else self.cluster_chain

    # --- the service port's own chains -----------------------------------------------------------------------------

    def chains(self) -> dict[str, Chain]:
        """Return the service port's own chains."""
        plan = self.plan
        chains: dict[str, Chain] = {}
        if plan.cluster_endpoints:
            chains |= self._policy_chains(self.cluster_chain, Target.CLUSTER, plan.cluster_endpoints)
        if plan.local_endpoints:
            chains |= self._policy_chains(self.local_chain, Target.LOCAL, plan.local_endpoints)
        if plan.external is not None and plan.external.to is not Target.REJECT:
            chains[self.external_chain] = tuple(self._external_rules(plan.external))
            guarded = [frontend for frontend in plan.frontends if frontend.sources]
            if guarded:
                chains[names.firewall_chain(self.name)] = tuple(self._firewall_rules(guarded[0]))
        for endpoint in filter(self._needs_chain, plan.reachable_endpoints):
            chains[names.endpoint_chain(self.name, endpoint)] = self._endpoint_rules(endpoint)
        return chains

    def _policy_chains(self, chain: str, target: Target, endpoints: tuple[Endpoint, ...]) -> dict[str, Chain]:
        """Return the chain that spreads over ``endpoints``, and the chains below it if the draw is split."""
        head: tuple[Rule, ...] = ()
        internal = self.plan.internal
        frontend = next((found for found in self.plan.frontends if found.kind is FrontendKind.CLUSTER_IP), None)
        if frontend is not None and internal.to is target and internal.masquerade is not Masquerade.NEVER:
            head = (self._masquerade_internal(frontend, internal.masquerade),)
        if self.plan.affinity_seconds:
            head += tuple(self._affinity_rule(endpoint) for endpoint in endpoints)
        if self.layout is Layout.LARGE:
            split = split_turn if self.plan.in_turn else split_draw
            drawn = split(chain, endpoints, self._to_endpoint)
        else:
            flat = flat_turn if self.plan.in_turn else flat_draw
            drawn = {chain: flat(endpoints, self._to_endpoint)}
        return drawn | {chain: head + drawn[chain]}

    def _masquerade_internal(self, frontend: Frontend, masquerade: Masquerade) -> Rule:
        rule = self._to_frontend(frontend, f"{self.text} {frontend.kind.value}", MASQUERADE)
        if masquerade is Masquerade.ALWAYS or self.node.local_traffic is None:
            return rule
        source, interface = from_local_pod(self.node.local_traffic, inverted=True)
        return msgspec.structs.replace(rule, source=source, in_interface=interface)

    def _affinity_rule(self, endpoint: Endpoint) -> Rule:
        """Send a client back to the endpoint that it was sent to before, if that was not too long ago."""
        chain = names.endpoint_chain(self.name, endpoint)
        matches = self._comment(f"{self.text} -> {endpoint}")
        return Rule(target=Jump(chain), matches=(*matches, RecentCheck(chain, self.plan.affinity_seconds)))

    def _to_endpoint(self, endpoint: Endpoint, matches: tuple[Match, ...]) -> Rule:
        if not self._needs_chain(endpoint):
            target = DestinationNat(endpoint.ip, endpoint.port)
            return Rule(target=target, protocol=self.protocol, matches=matches)
        chain = names.endpoint_chain(self.name, endpoint)
        return Rule(target=Jump(chain), matches=(*self._comment(f"{self.text} -> {endpoint}"), *matches))

    def _needs_chain(self, endpoint: Endpoint) -> bool:
        """Tell whether an endpoint gets a chain of its own.

        It is there for pods that connect to themselves and for affinity; the large layout does without for all others.
        """
        return self._all_need_chains or self.plan.may_hairpin(endpoint)

    def _endpoint_rules(self, endpoint: Endpoint) -> Chain:
        comment = self._comment(self.text)
        # A pod that is sent to itself must not see its own address as the client's: it would answer itself directly,
        # without the way back through this node that turns the addresses round again ("hairpin").
        hairpin = Rule(target=MASQUERADE, source=_host(endpoint.ip), matches=comment)
        matches: tuple[Match, ...] = comment
        if self.plan.affinity_seconds:
            matches += (RecentSet(names.endpoint_chain(self.name, endpoint)),)
        if self.layout is Layout.CLASSIC:
            matches += (DestinationPort(self.protocol, 0, 65_535),)
        target = DestinationNat(endpoint.ip, endpoint.port)
        return hairpin, Rule(target=target, protocol=self.protocol, matches=matches)

    def _external_rules(self, route: Route) -> Iterator[Rule]:
        what = f"{self.text} external destinations"
        if route.masquerade is Masquerade.ALWAYS:
            yield Rule(target=MASQUERADE, matches=self._comment(f"masquerade traffic for {what}"))
        if route.short_cut:
            to_cluster = Jump(self.cluster_chain)
            if self.node.local_traffic is not None:
                source, interface = from_local_pod(self.node.local_traffic)
                matches = self._comment(f"pod traffic for {what}")
                yield Rule(target=to_cluster, source=source, in_interface=interface, matches=matches)
            from_node = LocalAddress(Side.SOURCE)
            matches = (*self._comment(f"masquerade LOCAL traffic for {what}"), from_node)
            yield Rule(target=MASQUERADE, matches=matches)
            yield Rule(target=to_cluster, matches=(*self._comment(f"route LOCAL traffic for {what}"), from_node))
        if route.to is not Target.DROP:
            yield Rule(target=Jump(self._policy_chain(route)))

    def _firewall_rules(self, frontend: Frontend) -> Iterator[Rule]:
        comment = self._comment(f"{self.text} {frontend.kind.value}")
        for cidr in frontend.sources:
            yield Rule(target=Jump(self.external_chain), source=Prefix(cidr), matches=comment)
        if self.layout is Layout.CLASSIC:
            # Does nothing: tells the reader where the rest of the story is.
            told = f"other traffic to {self.text} will be dropped by {names.PROXY_FIREWALL}"
            yield Rule(target=None, matches=self._comment(told))

    # --- parts -----------------------------------------------------------------------------------------------------

    def _comment(self, text: str) -> tuple[Match, ...]:
        return (Comment(text),) if self.layout is Layout.CLASSIC else ()

    def _to_frontend(self, frontend: Frontend, comment: str, target: TargetTerm) -> Rule:
        """Return a rule for the packets that are sent to a frontend."""
        return Rule(
            target=target,
            destination=_host(frontend.ip) if frontend.ip else None,
            protocol=self.protocol,
            matches=(*self._comment(comment), DestinationPort(self.protocol, frontend.port, frontend.port)),
        )


def _host(ip: str) -> Prefix:
    return Prefix(f"{ip}/{128 if ':' in ip else 32}")
