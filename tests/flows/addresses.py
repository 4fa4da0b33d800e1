"""The lab's address plan as a translation: from an IPv4 scenario to the same one in IPv6."""

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from hack.lab.addresses import CLUSTER_CIDR, CLUSTER_CIDR6, OUTSIDE, UNDERLAY, pod_net

_FIXED = {
    "0.0.0.0": "::",
    "127.0.0.1": "::1",
}
_PREFIXES = {
    CLUSTER_CIDR: CLUSTER_CIDR6,
    **{net.cidr.v4: net.cidr.v6 for net in (UNDERLAY, OUTSIDE, pod_net(1), pod_net(2), pod_net(3))},
    "0.0.0.0/0": "::/0",
    "127.0.0.0/8": "::1/128",
}
_HOSTS = (
    (UNDERLAY.v4, UNDERLAY.v6),
    (OUTSIDE.v4, OUTSIDE.v6),
    *((pod_net(number).v4, pod_net(number).v6) for number in (1, 2, 3)),
    ("10.96.0.{}", "fd00:10:96::{}"),
    ("203.0.113.{}", "2001:db8:e::{}"),
    ("198.51.100.{}", "2001:db8:f::{}"),
)
_ADDRESS = re.compile(r"(?<![\d.])(\d+\.\d+\.\d+\.\d+)(/\d+)?(?::(\d+))?(?![\d.])")


def mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Return a copy of a tree of lists and mappings with every string in it changed."""
    match value:
        case str():
            return change(value)
        case list():
            return [mapped(item, change) for item in value]
        case dict():
            return {mapped(key, change): mapped(item, change) for key, item in value.items()}
    return value


def to_ipv6(text: str) -> str:
    """Return ``text`` with every IPv4 address, prefix, or address with port replaced by its like in IPv6."""
    return _ADDRESS.sub(_replacement, text)


def _replacement(found: re.Match[str]) -> str:
    address, length, port = found.groups()
    if length and length != "/32":
        return _PREFIXES[address + length]
    ip = _FIXED.get(address) or str(ipaddress.ip_address(_host(address)))
    if port:
        return f"[{ip}]:{port}"
    return f"{ip}/128" if length else ip


def _host(address: str) -> str:
    for v4, v6 in _HOSTS:
        base = v4.removesuffix("{}")
        if address.startswith(base):
            return v6.format(address.removeprefix(base))
    raise ValueError(f"no IPv6 counterpart of {address}: add it here or keep the scenario to IPv4")
