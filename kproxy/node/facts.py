"""What planning needs to be told: the administrator's settings and the facts about this node.

Pure; where the facts are read from (the Node object, the node's interfaces, /proc/sys) is the callers' business, so
that ``kproxy render`` can say how things would be on another node.
"""

import ipaddress
from collections.abc import Iterable, Sequence

from kproxy.api.types import Node, Problem, ServiceCIDR
from kproxy.config import Config
from kproxy.plan.settings import PRIMARY, NodeFacts, ProxySettings
from kproxy.state.addresses import NotAnAddress, parse_cidr, parse_ip, parse_unicast_ip
from kproxy.state.findings import Findings, Parse
from kproxy.state.model import IPFamily
from kproxy.wording import quote

_ADDRESS_TYPES = ("InternalIP", "ExternalIP")
_LOOPBACK = ("127.0.0.1", "::1")


def proxy_settings(config: Config) -> ProxySettings:
    """Return the part of the configuration that steers planning."""
    proxy = config.proxy
    node_ports = tuple(cidr for family in IPFamily for cidr in config.node_port_cidrs(family))
    return ProxySettings(
        masquerade_all=config.rules.masquerade_all,
        masquerade_bit=config.rules.masquerade_bit,
        localhost_node_ports=config.localhost_node_ports,
        load_balancing=config.kproxy.load_balancing,
        detect_local_mode=proxy.detect_local_mode,
        cluster_cidrs=config.cluster_cidrs,
        bridge_interface=proxy.detect_local.bridge_interface,
        interface_name_prefix=proxy.detect_local.interface_name_prefix,
        node_port_addresses=(PRIMARY,) if config.node_ports_on_primary else node_ports,
    )


def node_facts(
    name: str,
    node: Node | None,
    *,
    node_ips: Sequence[str] = (),
    bind_address: str = "",
    interface_addresses: Iterable[str] | None = None,
    service_cidrs: Iterable[ServiceCIDR] = (),
    tcp_be_liberal: bool = False,
) -> NodeFacts:
    """Return what is known of the node called ``name``.

    ``node_ips`` comes before all else that is said of its addresses; ``bind_address`` before the Node object, in its
    own family, as in kube-proxy (detectNodeIPs in cmd/kube-proxy/app/server.go). Without ``interface_addresses`` the
    node is taken to have those addresses and loopback, and no others.
    """
    ips = _first_of_each_family(node_ips) or {
        **_first_of_each_family(_reported_addresses(node)),
        **_bound(bind_address),
    }
    labels = node.metadata.labels if node else None
    if interface_addresses is None:
        interface_addresses = (*ips.values(), *_LOOPBACK)
    return NodeFacts(
        name=name,
        zone=(labels.zone if labels else None) or "",
        ips=ips,
        pod_cidrs=_pod_cidrs(node),
        service_cidrs=_service_cidrs(service_cidrs),
        interface_addresses=tuple(sorted({str(ipaddress.ip_address(text)) for text in interface_addresses})),
        tcp_be_liberal=tcp_be_liberal,
    )


def problems_of(node: Node) -> tuple[Problem, ...]:
    """Return what of a Node object can't be used: addresses and ranges that are none."""
    found = Findings("Node", node.metadata.key)
    for index, entry in enumerate((node.status.addresses or ()) if node.status else ()):
        if entry.type in _ADDRESS_TYPES:
            _check(found, f"status.addresses[{index}].address", entry.address, parse_ip)
    for index, text in enumerate(node.spec.pod_cidrs or ()):
        _check(found, f"spec.podCIDRs[{index}]", text, parse_cidr)
    if node.spec.pod_cidr and not node.spec.pod_cidrs:
        _check(found, "spec.podCIDR", node.spec.pod_cidr, parse_cidr)
    return tuple(found.problems)


def _check(found: Findings, field: str, text: str, parse: Parse) -> None:
    try:
        parse(text)
    except NotAnAddress as error:
        found.add(field, f"{quote(text)}: {error}; it is left out")


def _bound(bind_address: str) -> dict[IPFamily, str]:
    """Return the address that servers are to listen at, if it is one of the node's that others could know it by.

    All addresses, the default, says nothing; loopback only says that nobody else shall come.
    """
    try:
        family, ip = parse_unicast_ip(bind_address)
    except NotAnAddress:
        return {}
    return {family: ip}


def _reported_addresses(node: Node | None) -> list[str]:
    """Return the addresses a Node reports, internal ones first, as kube-proxy prefers them."""
    addresses = (node.status.addresses or ()) if node and node.status else ()
    return [entry.address for kind in _ADDRESS_TYPES for entry in addresses if entry.type == kind]


def _first_of_each_family(texts: Iterable[str]) -> dict[IPFamily, str]:
    found: dict[IPFamily, str] = {}
    for text in texts:
        try:
            family, ip = parse_ip(text)
        except NotAnAddress:
            continue  # a node that reports nonsense has no address, which only a few settings ask for
        found.setdefault(family, ip)
    return found


def _pod_cidrs(node: Node | None) -> dict[IPFamily, str]:
    if node is None:
        return {}
    found: dict[IPFamily, str] = {}
    for text in node.spec.pod_cidrs or ((node.spec.pod_cidr,) if node.spec.pod_cidr else ()):
        try:
            family, cidr = parse_cidr(text)
        except NotAnAddress:
            continue
        found.setdefault(family, cidr)
    return found


def _service_cidrs(objects: Iterable[ServiceCIDR]) -> tuple[str, ...]:
    found: set[str] = set()
    for obj in objects:
        for text in obj.spec.cidrs or ():
            try:
                found.add(parse_cidr(text)[1])
            except NotAnAddress:
                continue
    return tuple(sorted(found))
