"""Parsing of IP addresses and prefixes as Kubernetes parses them, into canonical text.

Canonical text matters: an address becomes part of a chain's name and of comparisons between what is wanted and what the
kernel holds, so ``fd00:0:0::1`` and ``FD00::1`` must be one and the same.
"""

import functools
import ipaddress

from kproxy.state.model import IPFamily


class NotAnAddress(ValueError):  # noqa: N818  (it reads better where it is raised)
    """The text is no IP address or prefix; the message says what is wrong."""


def _strip_zeros(text: str) -> str:
    """Drop leading zeros from dotted octets.

    Old objects hold addresses such as ``010.0.0.1``, which Kubernetes reads as decimal (k8s.io/utils/net
    ParseIPSloppy) and Python's ipaddress refuses.
    """
    if ":" in text or text.count(".") != 3:
        return text
    return ".".join(octet.lstrip("0") or "0" if octet.isdecimal() else octet for octet in text.split("."))


@functools.lru_cache(maxsize=4096)
def parse_ip(text: str) -> tuple[IPFamily, str]:
    """Return the family and canonical form of an IP address.

    Raises:
        NotAnAddress: if ``text`` is none, or one that no packet can be sent to (unspecified or multicast).
    """
    try:
        address = ipaddress.ip_address(_strip_zeros(text))
    except ValueError:
        raise NotAnAddress("not an IP address") from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif address.scope_id is not None:
            raise NotAnAddress("an address with a zone cannot be used")
    if address.is_unspecified or address.is_multicast:
        raise NotAnAddress("an unspecified or multicast address cannot be a destination")
    return IPFamily.IPV4 if address.version == 4 else IPFamily.IPV6, str(address)


def parse_unicast_ip(text: str) -> tuple[IPFamily, str]:
    """Return what `parse_ip` does, for addresses that must lie outside the host itself.

    Loopback and link-local addresses are refused as the API server refuses them for endpoints and external IPs
    (ValidateNonSpecialIP): a rule that sends traffic there would expose the node's own services.
    """
    family, canonical = parse_ip(text)
    address = ipaddress.ip_address(canonical)
    if address.is_loopback or address.is_link_local:
        raise NotAnAddress("a loopback or link-local address is not allowed here")
    return family, canonical


def parse_cidr(text: str) -> tuple[IPFamily, str]:
    """Return the family and canonical form of a prefix; bits beyond its length are dropped, as Go's ParseCIDR does.

    Raises:
        NotAnAddress: if ``text`` is no prefix.
    """
    address, slash, length = text.strip().partition("/")
    try:
        if not slash or not length.isdecimal():
            raise ValueError
        network = ipaddress.ip_network(f"{_strip_zeros(address)}/{length}", strict=False)
    except ValueError:
        raise NotAnAddress("not a CIDR such as 192.0.2.0/24") from None
    return IPFamily.IPV4 if network.version == 4 else IPFamily.IPV6, str(network)


def cidr_contains(cidr: str, ip: str) -> bool:
    """Tell whether ``ip`` lies in ``cidr``; both canonical. Families that differ mean no."""
    return ipaddress.ip_address(ip) in ipaddress.ip_network(cidr)
