"""Translates what holds for the whole node: the fixed chains, and the jumps into them from the built-in ones."""

from collections.abc import Iterator

from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.rules import names
from kproxy.backends.iptables.rules.firewall import LOCALNET_GUARD
from kproxy.backends.iptables.rules.ruleset import (
    Accept,
    Chain,
    Comment,
    ConnectionState,
    Drop,
    Jump,
    LocalAddress,
    Mark,
    MasqueradeSource,
    Prefix,
    Return,
    Rule,
    SetMark,
    Side,
    State,
)
from kproxy.plan.model import NodePlan
from kproxy.state.model import IPFamily

_NODE_PORTS_LAST = "kubernetes service nodeports; NOTE: this must be the last rule in this chain"


def filter_chains(node: NodePlan) -> dict[str, Chain]:
    """Return the chains of the filter table that don't depend on services."""
    return {
        names.KUBE_FIREWALL: _localhost_guard(node),
        names.FORWARD: tuple(_forward_rules(node)),
    }


def nat_chains(node: NodePlan) -> dict[str, Chain]:
    """Return the chains of the nat table that don't depend on services."""
    mark = node.masquerade_mark
    snat = "kubernetes service traffic requiring SNAT"
    return {
        names.MARK_MASQ: (Rule(target=SetMark(mark, mark)),),
        names.POSTROUTING: (
            Rule(target=Return(), matches=(Mark(mark, mark, inverted=True),)),
            # The mark comes off again, lest the packet be masqueraded twice where it is encapsulated and passes here a
            # second time (kubernetes/kubernetes#78547).
            Rule(target=SetMark(mark, 0)),
            Rule(target=MasqueradeSource(), matches=(Comment(snat),)),
        ),
    }


def _localhost_guard(node: NodePlan) -> Chain:
    """Keep the network out of 127.0.0.0/8.

    Node ports at localhost need the sysctl route_localnet, with which the kernel accepts packets for 127.0.0.1 from
    *other hosts* too, and so opens everything that listens there (CVE-2020-8558).
    """
    return (LOCALNET_GUARD,) if node.localhost_node_ports else ()


def _forward_rules(node: NodePlan) -> Iterator[Rule]:
    """Let service traffic pass, whatever the policy of the FORWARD chain."""
    if node.drop_invalid:
        # A packet that conntrack can't place (out of window, say) is not translated back, so the client gets it from
        # an address it never spoke to and resets the connection (kubernetes/kubernetes#74839).
        yield Rule(target=Drop(), matches=(State(ConnectionState.INVALID),))
    mark = Mark(node.masquerade_mark, node.masquerade_mark)
    yield Rule(target=Accept(), matches=(Comment("kubernetes forwarding rules"), mark))
    known = State(ConnectionState.RELATED | ConnectionState.ESTABLISHED)
    yield Rule(target=Accept(), matches=(Comment("kubernetes forwarding conntrack rule"), known))


# kube-proxy counts what node ports accept at localhost by a second rule for each node port, with a counter of nfacct.
# Here two rules are enough: what comes to the node ports by such an address, less what none of them has taken.
LOCALHOST_ASKED = "localhost_nps_accepted_pkts, and what is for no node port"
LOCALHOST_LEFT = "not among localhost_nps_accepted_pkts: for no node port"
_LOCALHOST = Prefix("127.0.0.0/8")


def count_localhost(what: str, destination: Prefix = _LOCALHOST) -> Rule:
    """Return a rule that does nothing but count."""
    return Rule(target=None, destination=destination, matches=(Comment(what),))


def node_port_jumps(node: NodePlan, layout: Layout) -> Chain:
    """Return the last rules of nat's KUBE-SERVICES: whatever is for the node itself may be for a node port."""
    comment = (Comment(_NODE_PORTS_LAST),) if layout is Layout.CLASSIC else ()
    jump = Jump(names.NODE_PORTS)
    bits = 32 if node.family is IPFamily.IPV4 else 128
    if node.node_port_ips is not None:
        hosts = [Prefix(f"{ip}/{bits}") for ip in node.node_port_ips]
        counted = [host for host in hosts if host.cidr.startswith("127.")] if node.count_localhost else ()
        return (
            *(count_localhost(LOCALHOST_ASKED, host) for host in counted),
            *(Rule(target=jump, destination=host, matches=comment) for host in hosts),
        )
    counting = (count_localhost(LOCALHOST_ASKED, _LOCALHOST),) if node.count_localhost else ()
    return (
        *counting,
        Rule(
            target=jump,
            destination=None if node.localhost_node_ports else _not_localhost(node.family),
            matches=(*comment, LocalAddress(Side.DESTINATION)),
        ),
    )


def _not_localhost(family: IPFamily) -> Prefix:
    """Everything but loopback: there is no IPv6 route_localnet, so a node port at ::1 would only swallow packets."""
    return Prefix("127.0.0.0/8" if family is IPFamily.IPV4 else "::1/128", inverted=True)
