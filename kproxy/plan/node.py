"""Plans what holds for the whole node: local pods, node port addresses, guards."""

import ipaddress

from kproxy.plan.model import LocalTraffic, NodePlan
from kproxy.plan.settings import PRIMARY, DetectLocalMode, NodeFacts, ProxySettings
from kproxy.state.addresses import cidr_contains, parse_cidr
from kproxy.state.model import IPFamily

_ALL = {IPFamily.IPV4: "0.0.0.0/0", IPFamily.IPV6: "::/0"}


def plan_node(family: IPFamily, node: NodeFacts, settings: ProxySettings) -> NodePlan:
    """Take the decisions that hold for all services on this node."""
    addresses = _node_port_cidrs(family, node, settings)
    localhost = family is IPFamily.IPV4 and settings.localhost_node_ports and _any_loopback(addresses)
    return NodePlan(
        family=family,
        masquerade_mark=1 << settings.masquerade_bit,
        local_traffic=_local_traffic(family, node, settings),
        node_port_ips=None if _ALL[family] in addresses else _matching_ips(family, addresses, node, localhost),
        localhost_node_ports=localhost,
        count_localhost=localhost and settings.count_localhost,
        drop_invalid=not node.tcp_be_liberal,
        service_cidrs=tuple(cidr for cidr in node.service_cidrs if parse_cidr(cidr)[0] is family),
    )


def _local_traffic(family: IPFamily, node: NodeFacts, settings: ProxySettings) -> LocalTraffic | None:
    """Return how pods of this node are told apart, or None where the mode has nothing to go by in this family.

    Without it nothing is masqueraded for coming from off the cluster, as in kube-proxy: better a source address kept
    than one wrongly replaced.
    """
    match settings.detect_local_mode:
        case DetectLocalMode.CLUSTER_CIDR:
            cidr = settings.cluster_cidrs.get(family)
            return LocalTraffic(cidr=cidr) if cidr else None
        case DetectLocalMode.NODE_CIDR:
            cidr = node.pod_cidrs.get(family)
            return LocalTraffic(cidr=cidr) if cidr else None
        case DetectLocalMode.BRIDGE_INTERFACE:
            return LocalTraffic(bridge=settings.bridge_interface)
        case DetectLocalMode.INTERFACE_NAME_PREFIX:
            return LocalTraffic(interface_prefix=settings.interface_name_prefix)


def _node_port_cidrs(family: IPFamily, node: NodeFacts, settings: ProxySettings) -> tuple[str, ...]:
    """Return the prefixes whose addresses answer at node ports; without any for this family, all addresses do."""
    if settings.node_port_addresses == (PRIMARY,):
        ip = node.ips.get(family)
        return (str(ipaddress.ip_network(ip)),) if ip else ()
    parsed = (parse_cidr(cidr) for cidr in settings.node_port_addresses)
    return tuple(cidr for its_family, cidr in parsed if its_family is family) or (_ALL[family],)


def _any_loopback(cidrs: tuple[str, ...]) -> bool:
    loopback = ipaddress.ip_network("127.0.0.0/8")
    return any(loopback.overlaps(ipaddress.ip_network(cidr)) for cidr in cidrs)


def _matching_ips(family: IPFamily, cidrs: tuple[str, ...], node: NodeFacts, localhost: bool) -> tuple[str, ...]:
    """Return the node's addresses within ``cidrs``, loopback only where node ports are wanted there."""
    want_v4 = family is IPFamily.IPV4
    found = set()
    for text in node.interface_addresses:
        address = ipaddress.ip_address(text)
        if (address.version == 4) is not want_v4 or (address.is_loopback and not localhost):
            continue
        if any(cidr_contains(cidr, text) for cidr in cidrs):
            found.add(address)
    return tuple(str(address) for address in sorted(found, key=int))
