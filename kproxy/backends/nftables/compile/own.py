"""Session affinity and turns: service ports that have chains of their own, as a map of endpoints can do neither.

What a map draws cannot be remembered: nft has no variable to put the number in, and no way to write what conntrack
knows of the first destination's port into a key (1.0.6). And what counts turns counts for all that come by. So services
with affinity, and those that take turns, each get a chain that tries the endpoints one by one, as kube-proxy has it:

    chain affinity/shop/web/http/tcp/cluster {
        ip saddr . S . E0 @affinity-clients update @affinity-clients { ip saddr . S . E0 timeout 3h } … dnat to E0's
        …                                                                          # above: back again? below: new
        numgen random mod 3 0 update @affinity-clients { ip saddr . S . E0 timeout 3h } … dnat to E0's address
        numgen random mod 2 0 update @affinity-clients { ip saddr . S . E1 timeout 3h } … dnat to E1's address
        …
    }
    chain turn/shop/web/http/tcp/cluster {
        numgen inc mod 3 0 … dnat to E0's address  # every third time; which of three, is random when it is written
        numgen inc mod 2 1 … dnat to E1's address  # every second time of those that are left
        … dnat to E2's address
    }

In turn, of any n*k connections each of n endpoints gets exactly k, for each rule takes its part of what is left,
wherever its count stands.

S and E0 stand for service and endpoint: numbers, spelt as random ones without a choice (``numgen random mod 1 offset
S``), for nft takes no constant there. So one set does for all. kube-proxy has one for each endpoint of each service,
which costs the kernel a megabyte apiece, and libnftables, which lists all sets for every command, more than the change.

A set that is full takes no more clients, which makes ``update`` false: for them the draw stands there once more
without it. Better forgotten than not served.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from kproxy.backends.nftables.compile.shared import masquerade_rules, short_cut_rules
from kproxy.backends.nftables.rules import names
from kproxy.backends.nftables.rules.ruleset import (
    Chain,
    Chance,
    Column,
    CountFor,
    DeliverTo,
    GoTo,
    Numbers,
    Remember,
    Returning,
    Rule,
    SetSpec,
    Speaks,
    Term,
    Turn,
)
from kproxy.plan.model import NodePlan, Route, ServicePlan, Target
from kproxy.state.model import Endpoint, endpoint_text

SETS = {
    names.AFFINITY_CLIENTS: SetSpec(columns=(Column.SOURCE, Column.NUMBER, Column.NUMBER), remembers=True),
    names.OWN_ENDPOINTS: SetSpec(columns=(Column.NUMBER, Column.NUMBER), counted=True),
}


class OwnRules(NamedTuple):
    """What one service port has of its own."""

    chains: Mapping[str, Chain]
    endpoints: Mapping[Numbers, str]
    """Its endpoints as ``ip:port``, by the keys of the elements that count their connections."""


NOTHING = OwnRules({}, {})


def compile_own(plan: ServicePlan, node: NodePlan) -> OwnRules:
    """Translate the routes of a service port, if it is of those that have chains of their own."""
    if not has_own(plan):
        return NOTHING
    prefix = _prefix(plan)
    pick = _pick_again if plan.affinity_seconds else _pick_in_turn
    chains = {}
    for pool, endpoints in ((Target.CLUSTER, plan.cluster_endpoints), (Target.LOCAL, plan.local_endpoints)):
        if endpoints:
            chains[f"{prefix}/{pool.value}"] = Chain(tuple(pick(plan, endpoints)))
    for way_in, route in (("internal", plan.internal), ("external", plan.external)):
        if route is not None and forwards(plan, route):
            chains[f"{prefix}/{way_in}"] = Chain(tuple(_route_rules(plan, node, prefix, route)))
    endpoints_text = (endpoint_text(endpoint.ip, endpoint.port) for endpoint in plan.reachable_endpoints)
    return OwnRules(chains, {_numbers(plan, text): text for text in endpoints_text})


def has_own(plan: ServicePlan) -> bool:
    """Tell whether a service port has chains of its own."""
    return bool(plan.affinity_seconds) or plan.in_turn


def own_chain(plan: ServicePlan, *, internal: bool) -> str:
    """Return the chain that connections to the service port's frontends of a kind go to."""
    return f"{_prefix(plan)}/{'internal' if internal else 'external'}"


def _prefix(plan: ServicePlan) -> str:
    return names.own_prefix("affinity" if plan.affinity_seconds else "turn", plan.name)


def forwards(plan: ServicePlan, route: Route) -> bool:
    """Tell whether a route leads anybody to an endpoint."""
    return route.to in (Target.CLUSTER, Target.LOCAL) or short_cuts(plan, route)


def short_cuts(plan: ServicePlan, route: Route) -> bool:
    """Tell whether a route leads some senders elsewhere than all others."""
    return route.short_cut and bool(plan.cluster_endpoints)


def _route_rules(plan: ServicePlan, node: NodePlan, prefix: str, route: Route) -> Iterator[Rule]:
    if short_cuts(plan, route):
        yield from short_cut_rules(node, f"{prefix}/{Target.CLUSTER.value}")
    yield from masquerade_rules(node, route.masquerade)
    if route.to in (Target.CLUSTER, Target.LOCAL):
        yield (GoTo(f"{prefix}/{route.to.value}"),)


def _pick_in_turn(plan: ServicePlan, endpoints: Sequence[Endpoint]) -> Iterator[Rule]:
    of_protocol = Speaks(plan.name.protocol)
    for passed, endpoint in enumerate(endpoints):
        left = len(endpoints) - passed
        place = _to(plan, endpoint)
        yield of_protocol, *((Turn(left),) if left > 1 else ()), place.count_for, place.deliver


def _pick_again(plan: ServicePlan, endpoints: Sequence[Endpoint]) -> Iterator[Rule]:
    of_protocol = Speaks(plan.name.protocol)
    places = [_to(plan, endpoint) for endpoint in endpoints]
    for place in places:
        yield of_protocol, place.back_again, place.remember, place.count_for, place.deliver
    chances = [_one_in(len(places) - passed) for passed in range(len(places))]
    for chance, place in zip(chances, places, strict=True):
        yield of_protocol, *chance, place.remember, place.count_for, place.deliver
    for chance, place in zip(chances, places, strict=True):
        yield of_protocol, *chance, place.count_for, place.deliver


class _Place(NamedTuple):
    """The terms of which rules for one endpoint are made."""

    back_again: Returning
    remember: Remember
    count_for: CountFor
    deliver: DeliverTo


def _to(plan: ServicePlan, endpoint: Endpoint) -> _Place:
    numbers = _numbers(plan, endpoint_text(endpoint.ip, endpoint.port))
    return _Place(
        Returning(names.AFFINITY_CLIENTS, numbers),
        Remember(names.AFFINITY_CLIENTS, numbers, plan.affinity_seconds),
        CountFor(names.OWN_ENDPOINTS, numbers),
        DeliverTo(endpoint.ip, endpoint.port),
    )


def _numbers(plan: ServicePlan, endpoint: str) -> Numbers:
    return Numbers(names.number_for(_prefix(plan)), names.number_for(endpoint))


def _one_in(several: int) -> tuple[Term, ...]:
    return (Chance(several),) if several > 1 else ()
