"""Translates the plan of one service port into elements.

No decision is taken here. Each frontend becomes an entry: the elements that stand for it in sets and maps, all of which
belong to one service port only. What several may have in common (an endpoint that can be sent to itself, a ClusterIP)
is listed apart.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from kproxy.backends.nftables.compile.own import compile_own, has_own, own_chain
from kproxy.backends.nftables.rules import names
from kproxy.backends.nftables.rules.prefixes import merged
from kproxy.backends.nftables.rules.ruleset import Chain, Data, Key, Numbers
from kproxy.backends.nftables.rules.ways import Place, Way, frontend_key, size_for
from kproxy.plan.model import Frontend, FrontendKind, NodePlan, Route, ServicePlan, Target
from kproxy.state.model import Endpoint, Protocol

Pods = tuple[tuple[str, int], ...]
"""Addresses and ports of endpoints, by number."""


Element = tuple[str, Key, Data]
"""One element of a set or map: its name, the key, and what it leads to."""


class Claim(NamedTuple):
    """What a frontend is known by to clients: no two can have the same."""

    ip: str
    """Empty for a node port."""
    port: int
    protocol: Protocol


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One frontend of a service port."""

    elements: tuple[Element, ...]
    ways: tuple[Way, ...] = ()
    """The ways that its elements need to be there."""
    own: Place | None = None
    """Where it is looked up, if it belongs to a service with chains of its own, for affinity or to take turns."""


class ServiceRules(msgspec.Struct, frozen=True, gc=False):
    """All that one service port is made of."""

    entries: Mapping[Claim, Entry]
    common: tuple[Element, ...] = ()
    """Elements that other service ports may have as well."""
    cluster: Pods = ()
    local: Pods = ()
    chains: Mapping[str, Chain] = {}
    """Chains of its own, if it has affinity or takes turns."""
    own_endpoints: Mapping[Numbers, str] = {}
    """Its endpoints then, as ``ip:port``, by what stands for them."""


NOTHING = ServiceRules({})


def compile_service(plan: ServicePlan, node: NodePlan, before: ServiceRules = NOTHING) -> ServiceRules:
    """Translate one service port's plan.

    Endpoints that were there ``before`` keep their numbers where they can, so that one that comes or goes changes but
    itself and at most one other.
    """
    cluster = number_endpoints(before.cluster, plan.cluster_endpoints)
    local = number_endpoints(before.local, plan.local_endpoints)
    compiler = _ServiceCompiler(plan, cluster, local)
    own = compile_own(plan, node)
    return ServiceRules(
        entries={_claim(plan, frontend): compiler.entry(frontend) for frontend in reversed(plan.frontends)},
        common=(*_common(plan), *((names.OWN_ENDPOINTS, numbers, None) for numbers in own.endpoints)),
        cluster=cluster,
        local=local,
        chains=own.chains,
        own_endpoints=own.endpoints,
    )


def number_endpoints(before: Pods, endpoints: Sequence[Endpoint]) -> Pods:
    """Number endpoints from 0, without gaps: those that stay by their old numbers, the others where there is room."""
    wanted = dict.fromkeys((endpoint.ip, endpoint.port) for endpoint in endpoints)
    if not before or not wanted:
        return tuple(wanted)
    numbered: list[tuple[str, int] | None] = [pod if pod in wanted else None for pod in before[: len(wanted)]]
    numbered += [None] * (len(wanted) - len(numbered))
    kept = set(numbered)
    others = iter([pod for pod in wanted if pod not in kept])
    return tuple(pod if pod is not None else next(others) for pod in numbered)


def _claim(plan: ServicePlan, frontend: Frontend) -> Claim:
    return Claim(frontend.ip or "", frontend.port, plan.name.protocol)


def _common(plan: ServicePlan) -> Iterator[Element]:
    pods = [endpoint for endpoint in plan.reachable_endpoints if plan.may_hairpin(endpoint)]
    yield from dict.fromkeys((names.HAIRPIN, (pod.ip, pod.ip), None) for pod in pods)
    for frontend in plan.frontends:
        if frontend.kind is FrontendKind.CLUSTER_IP and frontend.ip:
            yield names.CLUSTER_IPS, (frontend.ip,), None


class _ServiceCompiler:
    """What the functions below share about one service port."""

    def __init__(self, plan: ServicePlan, cluster: Pods, local: Pods) -> None:
        self.plan = plan
        self.protocol = plan.name.protocol
        self.pools = {Target.CLUSTER: cluster, Target.LOCAL: local}

    def entry(self, frontend: Frontend) -> Entry:
        """Return the elements of a frontend."""
        route = self.plan.route(frontend)
        refusal = tuple(self._refusal(frontend, route))
        if not route.forwards:
            return Entry(refusal)
        guard = tuple(self._guard(frontend)) if frontend.sources else ()
        place = Place(self.protocol, node_port=frontend.kind is FrontendKind.NODE_PORT)
        key = frontend_key(place, frontend.ip, frontend.port)
        if has_own(self.plan):
            chain = own_chain(self.plan, internal=frontend.kind is FrontendKind.CLUSTER_IP)
            return Entry(((place.own_chains, key, (chain,)), *guard, *refusal), own=place)
        ways = tuple(self._ways(place, route))
        lookups: list[Element] = [(way.name, key, None) for way in ways]
        return Entry((*lookups, *self._endpoints(place, key, ways), *guard, *refusal), ways)

    def _ways(self, place: Place, route: Route) -> Iterator[Way]:
        pool = route.to if route.to in self.pools else Target.CLUSTER
        size = size_for(len(self.pools[pool])) if route.to in self.pools else 0
        yield Way(place, pool, size, route.masquerade, route.short_cut)
        if route.short_cut:
            short_cut = size_for(len(self.pools[Target.CLUSTER]))
            yield Way(place, Target.CLUSTER, short_cut, of_short_cut=True, alone=not size)

    def _endpoints(self, place: Place, key: Key, ways: Collection[Way]) -> list[Element]:
        pools = {way.pool: place.endpoints(way.pool) for way in ways if way.size}
        return [
            (endpoints, (*key, number), pod)
            for pool, endpoints in pools.items()
            for number, pod in enumerate(self.pools[pool])
        ]

    def _refusal(self, frontend: Frontend, route: Route) -> Iterator[Element]:
        by_port = frontend.kind is FrontendKind.NODE_PORT
        if route.to is Target.REJECT:
            yield names.REFUSED_NODE_PORTS if by_port else names.REFUSED, self._key(frontend), None
        elif route.to is Target.DROP:
            yield names.DROPPED_NODE_PORTS if by_port else names.DROPPED, self._key(frontend), None

    def _guard(self, frontend: Frontend) -> Iterator[Element]:
        key = self._key(frontend)
        yield names.GUARDED, key, None
        yield names.NOT_PERMITTED, key, None
        yield from ((names.PERMITTED, (*key, cidr), None) for cidr in merged(frontend.sources))

    def _key(self, frontend: Frontend) -> Key:
        """Return the key in sets for all protocols."""
        place: Key = (str(self.protocol), frontend.port)
        return (frontend.ip, *place) if frontend.ip else place
