"""Services whose clients come back to the endpoint they had: chains of their own, and a set of clients per endpoint.

What a map of endpoints draws cannot be remembered: nft has no variable to put the number in, and no way to write what
conntrack knows of the first destination's port into a key (1.0.6). Services with affinity are few; each gets a chain
that tries the endpoints one by one, as kube-proxy has it:

    chain affinity/shop/web/http/tcp/cluster {
        ip saddr @E0 update @E0 { ip saddr timeout 3h } counter name E0 dnat to 10.244.0.11:8080     # back again?
        …
        numgen random mod 3 0 update @E0 { ip saddr timeout 3h } counter name E0 dnat to 10.244.0.11:8080    # new
        numgen random mod 2 0 update @E1 …
        …
    }

where E0 stands for ``affinity/shop/web/http/tcp/10.244.0.11/8080``. A set that is full takes no more clients, which
makes ``update`` false: for them the draw stands there once more without it. Better forgotten than not served.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from kproxy.backends.nftables import names
from kproxy.backends.nftables.ruleset import (
    Chain,
    Chance,
    Column,
    Count,
    DeliverTo,
    GoTo,
    Member,
    Remember,
    Rule,
    SetSpec,
    Speaks,
    Term,
)
from kproxy.backends.nftables.shared import masquerade_rules, short_cut_rules
from kproxy.plan.model import NodePlan, Route, ServicePlan, Target
from kproxy.state.model import Endpoint, endpoint_text

CLIENTS = SetSpec(columns=(Column.SOURCE,), remembers=True)


class AffinityRules(NamedTuple):
    """What one service port has of its own."""

    chains: Mapping[str, Chain]
    sets: Mapping[str, tuple[SetSpec, str]]
    """With the endpoint, as ``ip:port``. Counters are called the same."""


def compile_affinity(plan: ServicePlan, node: NodePlan) -> AffinityRules:
    """Translate the routes of a service port with affinity."""
    prefix = names.affinity_prefix(plan.name)
    chains = {}
    for pool, endpoints in ((Target.CLUSTER, plan.cluster_endpoints), (Target.LOCAL, plan.local_endpoints)):
        if endpoints:
            chains[f"{prefix}/{pool.value}"] = Chain(tuple(_pick(plan, prefix, endpoints)))
    for way_in, route in (("internal", plan.internal), ("external", plan.external)):
        if route is not None and route.forwards:
            chains[f"{prefix}/{way_in}"] = Chain(tuple(_route_rules(node, prefix, route)))
    clients = {
        names.affinity_set(prefix, ip, port): (CLIENTS, endpoint_text(ip, port))
        for ip, port in _addresses(plan.reachable_endpoints)
    }
    return AffinityRules(chains, clients)


def affinity_chain(plan: ServicePlan, *, internal: bool) -> str:
    """Return the chain that connections to the service port's frontends of a kind go to."""
    return f"{names.affinity_prefix(plan.name)}/{'internal' if internal else 'external'}"


def _route_rules(node: NodePlan, prefix: str, route: Route) -> Iterator[Rule]:
    if route.short_cut:
        yield from short_cut_rules(node, f"{prefix}/{Target.CLUSTER.value}")
    yield from masquerade_rules(node, route.masquerade)
    if route.to in (Target.CLUSTER, Target.LOCAL):
        yield (GoTo(f"{prefix}/{route.to.value}"),)


def _pick(plan: ServicePlan, prefix: str, endpoints: Sequence[Endpoint]) -> Iterator[Rule]:
    of_protocol = Speaks(plan.name.protocol)
    places = [(names.affinity_set(prefix, ip, port), DeliverTo(ip, port)) for ip, port in _addresses(endpoints)]
    for clients, deliver in places:
        back_again = Member(clients, (Column.SOURCE,))
        yield of_protocol, back_again, Remember(clients, plan.affinity_seconds), Count(clients), deliver
    chances = [_one_in(len(places) - passed) for passed in range(len(places))]
    for chance, (clients, deliver) in zip(chances, places, strict=True):
        yield of_protocol, *chance, Remember(clients, plan.affinity_seconds), Count(clients), deliver
    for chance, (clients, deliver) in zip(chances, places, strict=True):
        yield of_protocol, *chance, Count(clients), deliver


def _one_in(several: int) -> tuple[Term, ...]:
    return (Chance(several),) if several > 1 else ()


def _addresses(endpoints: Sequence[Endpoint]) -> list[tuple[str, int]]:
    return [(endpoint.ip, endpoint.port) for endpoint in endpoints]
