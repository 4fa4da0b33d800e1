"""Who connects: an address, and all that rules may ask about it."""

import ipaddress
from typing import NamedTuple

from kproxy.explain.view import View
from kproxy.plan.model import LocalTraffic
from kproxy.state.addresses import cidr_contains
from kproxy.state.model import IPFamily

POD, NODE, OUTSIDE = "pod", "node", "outside"
_OUTSIDE = {IPFamily.IPV4: "192.0.2.1", IPFamily.IPV6: "2001:db8::1"}
"""Addresses that are nobody's (RFC 5737, RFC 3849)."""
_SOME_POD = {IPFamily.IPV4: "10.255.255.254", IPFamily.IPV6: "fd00:ffff::fffe"}
_LOOPBACK = {IPFamily.IPV4: "127.0.0.1", IPFamily.IPV6: "::1"}
_UPLINK, _BRIDGE = "eth0", "cni0"


class Sender(NamedTuple):
    """Somebody who opens a connection."""

    kind: str
    """pod, node, outside, or address where one was given."""
    ip: str
    in_interface: str
    """Where its packets come in; empty for the node itself."""
    some: bool = False
    """Whether the address stands for any of its kind."""


def sender(view: View, said: str, destination: str | None, interface: str | None = None) -> Sender:
    """Return who is meant by ``--from``: pod, node, outside or an address.

    ``interface`` is where packets of that address come in, if that is known.
    """
    if said == NODE:
        return Sender(NODE, _node_address(view, destination), "", some=True)
    if said == OUTSIDE:
        return Sender(OUTSIDE, _OUTSIDE[view.family], _UPLINK, some=True)
    if said == POD:
        return Sender(POD, _some_pod(view), interface or _pod_interface(view), some=True)
    if said in view.addresses or ipaddress.ip_address(said).is_loopback:
        return Sender(NODE, said, "")
    pod_cidr = view.facts.pod_cidrs.get(view.family)
    is_pod = cidr_contains(pod_cidr, said) if pod_cidr else is_from_pod(view.plan.node.local_traffic, said, "")
    return Sender("address", said, interface or (_pod_interface(view) if is_pod else _UPLINK))


def is_from_pod(local: LocalTraffic | None, ip: str, interface: str) -> bool | None:
    """Tell whether a packet counts as one of a pod on this node; None where kproxy has nothing to go by."""
    if local is None:
        return None
    if local.cidr is not None:
        return cidr_contains(local.cidr, ip)
    if local.bridge is not None:
        return interface == local.bridge
    return interface.startswith(local.interface_prefix or "")


def _node_address(view: View, destination: str | None) -> str:
    if destination is not None:
        address = ipaddress.ip_address(destination)
        if address.is_loopback:
            return _LOOPBACK[view.family]
        if destination in view.addresses:
            return destination  # what the node sends to itself carries the same address twice
    return view.facts.ips.get(view.family) or min(view.addresses, default=_LOOPBACK[view.family])


def _some_pod(view: View) -> str:
    """Return an address for any pod of this node, which is no endpoint's if that can be avoided."""
    local = view.plan.node.local_traffic
    cidr = view.facts.pod_cidrs.get(view.family) or (local.cidr if local is not None else None)
    if cidr is None:
        return _SOME_POD[view.family]
    if local is not None and local.cidr is not None and not cidr_contains(local.cidr, cidr.partition("/")[0]):
        cidr = local.cidr
    network = ipaddress.ip_network(cidr)
    last = int(network.network_address) + min(network.num_addresses - 1, 65_535)
    return str(ipaddress.ip_address(max(last - 1, int(network.network_address))))


def _pod_interface(view: View) -> str:
    local = view.plan.node.local_traffic
    if local is not None and local.bridge is not None:
        return local.bridge
    if local is not None and local.interface_prefix is not None:
        return f"{local.interface_prefix}0"
    return _BRIDGE
