"""What services share: the base chains, the rules that hold for all packets, and a chain for each way in use.

What each hook is for:

* ``nat-prerouting`` and ``nat-output`` translate the destination of what comes in and of what the node itself sends.
* ``nat-postrouting`` masquerades: what was marked for it, and what a pod sends to itself by way of a Service.
* ``filter-prerouting`` and ``filter-output`` look at source ranges, *before* the destination is translated.
* ``filter-input``, ``filter-forward`` and ``filter-output-after-nat`` refuse what no endpoint took, hence after it.
  (``reject`` is good only there before Linux 5.9.)

All come one step before kube-proxy's chain of the same kind, so that while both are there kproxy has the first word.

In nftables an accept binds only the table it is in. So unlike the iptables backend this one has no rules that let
forwarded packets or those to health-check node ports pass: they would do nothing, here as in kube-proxy. Nor are there
node ports at localhost, as in kube-proxy's nftables mode, hence no guard for 127.0.0.0/8 either.
"""

from collections.abc import Collection, Iterable, Iterator

from kproxy.backends.nftables.rules import names
from kproxy.backends.nftables.rules.prefixes import merged
from kproxy.backends.nftables.rules.ruleset import (
    CameBy,
    Chain,
    Column,
    Count,
    Deliver,
    FlipMark,
    FromPrefix,
    GoTo,
    GoToFound,
    Hook,
    Jump,
    Marked,
    Member,
    Own,
    Rule,
    SetMark,
    SetSpec,
    Speaks,
    State,
    Term,
    ToPrefixes,
    Translated,
    Verdict,
)
from kproxy.backends.nftables.rules.ways import Draw, Place, Way, draws
from kproxy.plan.model import LocalTraffic, Masquerade, NodePlan
from kproxy.state.model import IPFamily

ADDRESS = (Column.DESTINATION, Column.PROTOCOL, Column.PORT)
NODE_PORT = (Column.PROTOCOL, Column.PORT)

_BEFORE_DNAT, _DNAT, _AFTER_DNAT, _SNAT = -111, -101, -91, 99

FIXED_SETS = {
    names.HAIRPIN: SetSpec(columns=(Column.SOURCE, Column.DESTINATION)),
    names.CLUSTER_IPS: SetSpec(columns=(Column.DESTINATION,)),
    names.REFUSED: SetSpec(columns=ADDRESS, counted=True),
    names.DROPPED: SetSpec(columns=ADDRESS, counted=True),
    names.REFUSED_NODE_PORTS: SetSpec(columns=NODE_PORT, counted=True),
    names.DROPPED_NODE_PORTS: SetSpec(columns=NODE_PORT, counted=True),
    names.GUARDED: SetSpec(columns=ADDRESS),
    names.PERMITTED: SetSpec(columns=(*ADDRESS, Column.SOURCE), ranges=True),
    names.NOT_PERMITTED: SetSpec(columns=ADDRESS, counted=True),
}


def fixed_chains(node: NodePlan) -> dict[str, Chain]:
    """Return the chains that don't depend on services."""
    new = State.NEW
    return {
        names.REFUSE: Chain(
            (
                (Member(names.REFUSED, ADDRESS), Verdict.REJECT),
                # Silence: another node may have endpoints, and a load balancer tries there when this one says nothing.
                (Member(names.DROPPED, ADDRESS), Verdict.DROP),
            )
        ),
        names.REFUSE_NODE_PORTS: Chain(
            (
                (Member(names.REFUSED_NODE_PORTS, NODE_PORT), Verdict.REJECT),
                (Member(names.DROPPED_NODE_PORTS, NODE_PORT), Verdict.DROP),
            )
        ),
        names.CHECK_SOURCE: Chain(
            (
                (Member(names.PERMITTED, (*ADDRESS, Column.SOURCE)), Verdict.RETURN),
                (Member(names.NOT_PERMITTED, ADDRESS), Verdict.DROP),
            )
        ),
        names.GUARD_CLUSTER_IPS: Chain(tuple(_cluster_ip_guard(node))),
        names.NAT_PREROUTING: _base("nat", "prerouting", _DNAT, [(Jump(names.SERVICES),)]),
        names.NAT_OUTPUT: _base("nat", "output", _DNAT, [(Jump(names.SERVICES),)]),
        names.NAT_POSTROUTING: _base("nat", "postrouting", _SNAT, _masquerading(node)),
        names.FILTER_PREROUTING: _base("filter", "prerouting", _BEFORE_DNAT, [_SOURCE_CHECK]),
        names.FILTER_INPUT: _base("filter", "input", _BEFORE_DNAT, _input(node)),
        names.FILTER_FORWARD: _base(
            "filter",
            "forward",
            _BEFORE_DNAT,
            [*_invalid(node), (new, Jump(names.REFUSE)), (new, Jump(names.GUARD_CLUSTER_IPS))],
        ),
        names.FILTER_OUTPUT: _base("filter", "output", _BEFORE_DNAT, [_SOURCE_CHECK]),
        names.FILTER_OUTPUT_AFTER_NAT: _base(
            "filter", "output", _AFTER_DNAT, [(new, Jump(names.REFUSE)), (new, Jump(names.GUARD_CLUSTER_IPS))]
        ),
    }


_SOURCE_CHECK: Rule = (State.NEW, Member(names.GUARDED, ADDRESS), GoTo(names.CHECK_SOURCE))


def _base(kind: str, hook: str, priority: int, rules: Iterable[Rule]) -> Chain:
    return Chain(tuple(rules), Hook(kind, hook, priority))


def _masquerading(node: NodePlan) -> Iterator[Rule]:
    # The mark comes off again, lest the packet be masqueraded twice where it is encapsulated and passes here a second
    # time (kubernetes/kubernetes#78547).
    yield Marked(node.masquerade_mark), FlipMark(node.masquerade_mark), Verdict.MASQUERADE
    # A pod that is sent to itself must not see its own address as the client's: it would answer itself directly,
    # without the way back through this node that turns the addresses round again ("hairpin").
    yield Translated(), Member(names.HAIRPIN, (Column.SOURCE, Column.DESTINATION)), Verdict.MASQUERADE


def _input(node: NodePlan) -> Iterator[Rule]:
    yield State.NEW, Jump(names.REFUSE)
    to_node_port = _to_node_port(node)
    if to_node_port is not None:
        yield State.NEW, *to_node_port, Jump(names.REFUSE_NODE_PORTS)


def _invalid(node: NodePlan) -> Iterator[Rule]:
    if node.drop_invalid:
        # A packet that conntrack can't place (out of window, say) is not translated back, so the client gets it from
        # an address it never spoke to and resets the connection (kubernetes/kubernetes#74839).
        yield State.INVALID, Count(names.INVALID_DROPS), Verdict.DROP


def _cluster_ip_guard(node: NodePlan) -> Iterator[Rule]:
    """Keep what no service took from going round between node and router, as kube-proxy's nftables mode does.

    A ClusterIP is nobody's address: packets to a port that no service has would be routed out of the node.
    """
    yield Member(names.CLUSTER_IPS, (Column.DESTINATION,)), Verdict.REJECT
    if node.service_cidrs:
        # Silence, for a Service may just be coming.
        yield ToPrefixes(merged(node.service_cidrs)), Verdict.DROP


# --- ways ----------------------------------------------------------------------------------------------------------


def shared_sets(ways: Iterable[Way], with_own: Iterable[Place]) -> dict[str, SetSpec]:
    """Return the sets that services share."""
    sets = dict(FIXED_SETS)
    for way in ways:
        sets[way.name] = way.spec
        if way.size:
            sets[way.place.endpoints(way.pool)] = way.place.endpoints_spec
    return sets | {place.own_chains: place.own_chains_spec for place in with_own}


def draws_of(ways: Iterable[Way]) -> set[Draw]:
    """Return the draws that ways lead to."""
    found = {way.draw for way in ways if way.size}
    return found | {draw._replace(size=1) for draw in found if draws(draw.size) > 1}


def draw_chains(draw: Draw) -> dict[str, Chain]:
    """Return the chains that draw one of the endpoints."""
    place, times = draw.place, draws(draw.size)
    once = Chain(((Deliver(draw.endpoints, place.columns, place.protocol, draw.size),),))
    if times == 1:
        return {draw.chain: once}
    at_last = GoTo(draw._replace(size=1).chain)
    return {draw.once: once, draw.chain: Chain((*((Jump(draw.once),) for _ in range(times)), (at_last,)))}


def way_chains(node: NodePlan, ways: Collection[Way], with_own: Collection[Place]) -> dict[str, Chain]:
    """Return the chains that lead from a packet to a draw."""
    chains = {}
    places = {way.place for way in ways} | set(with_own)
    places |= {Place(place.protocol, node_port=False) for place in places}
    for place in sorted(places):
        here = [way for way in sorted(ways, key=_order) if way.place == place]
        chains[place.services] = Chain(tuple(_lookups(node, place, here, place in with_own, places)))
        if any(way.short_cut for way in here):
            chains[place.short_cut] = Chain(tuple(_lookup(way) for way in here if way.of_short_cut))
        chains |= {way.name: Chain(tuple(_steps(node, way))) for way in here if not _is_plain(way)}
    protocols = sorted({place.protocol for place in places})
    first = ((Speaks(protocol), GoTo(Place(protocol, node_port=False).services)) for protocol in protocols)
    return chains | {names.SERVICES: Chain(tuple(first))}


def _order(way: Way) -> str:
    return way.name


def _lookups(
    node: NodePlan, place: Place, ways: Iterable[Way], with_own: bool, places: Collection[Place]
) -> Iterator[Rule]:
    yield from (_lookup(way) for way in ways if not way.of_short_cut)
    if with_own:
        yield (GoToFound(place.own_chains, place.columns, place.protocol),)
    by_port = Place(place.protocol, node_port=True)
    if not place.node_port and by_port in places:
        to_node_port = _to_node_port(node)
        if to_node_port is not None:
            yield *to_node_port, GoTo(by_port.services)


def _lookup(way: Way) -> Rule:
    return Member(way.name, way.place.columns, way.place.protocol), GoTo(_target(way))


def _target(way: Way) -> str:
    """Return the chain that a frontend's packets go to."""
    return way.draw.chain if _is_plain(way) else way.name


def _is_plain(way: Way) -> bool:
    """Tell whether there is nothing to do before the draw."""
    return way.masquerade is Masquerade.NEVER and not way.short_cut


def _steps(node: NodePlan, way: Way) -> Iterator[Rule]:
    if way.short_cut:
        yield from short_cut_rules(node, way.place.short_cut)
    yield from masquerade_rules(node, way.masquerade)
    if way.size:
        yield (GoTo(way.draw.chain),)


def short_cut_rules(node: NodePlan, cluster_chain: str) -> Iterator[Rule]:
    """Return rules that send this node's pods, and the node itself, to the endpoints of the whole cluster."""
    if node.local_traffic is not None:
        yield _from_local_pod(node.local_traffic), GoTo(cluster_chain)
    yield Own(Column.SOURCE), SetMark(node.masquerade_mark), GoTo(cluster_chain)


def masquerade_rules(node: NodePlan, masquerade: Masquerade) -> Iterator[Rule]:
    """Return rules that mark what is to be masqueraded."""
    if masquerade is Masquerade.NEVER:
        return
    mark = SetMark(node.masquerade_mark)
    if masquerade is Masquerade.ALWAYS or node.local_traffic is None:
        yield (mark,)
    else:
        yield _from_local_pod(node.local_traffic, inverted=True), mark


def _from_local_pod(local: LocalTraffic, *, inverted: bool = False) -> Term:
    if local.cidr is not None:
        return FromPrefix(local.cidr, inverted)
    return CameBy(local.bridge if local.bridge is not None else f"{local.interface_prefix}*", inverted)


def _to_node_port(node: NodePlan) -> Rule | None:
    """Return what tells packets that node ports answer; None where nothing answers."""
    if node.node_port_ips is not None:
        return (ToPrefixes(node.node_port_ips),) if node.node_port_ips else None
    loopback = "127.0.0.0/8" if node.family is IPFamily.IPV4 else "::1"
    return Own(Column.DESTINATION), ToPrefixes((loopback,), inverted=True)
