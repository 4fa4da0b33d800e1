"""Prefixes as sets of nftables want them: no address twice."""

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=1024)
def merged(cidrs: tuple[str, ...]) -> tuple[str, ...]:
    """Return prefixes of one family that hold the same addresses without overlapping, which the kernel insists on."""
    v4 = [ipaddress.IPv4Network(cidr) for cidr in cidrs if ":" not in cidr]
    v6 = [ipaddress.IPv6Network(cidr) for cidr in cidrs if ":" in cidr]
    return (*map(str, ipaddress.collapse_addresses(v4)), *map(str, ipaddress.collapse_addresses(v6)))
