"""Parsing of IP addresses and prefixes as Kubernetes parses them, into canonical text.

Canonical text matters: an address becomes part of a chain's name and of comparisons between what is wanted and what the
kernel holds, so ``fd00:0:0::1`` and ``FD00::1`` must be one and the same.
"""

import functools
import ipaddress
import socket
from typing import TypeAlias

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


_Address: TypeAlias = tuple[IPFamily, str, bytes]
"""Family, canonical text, and the bytes, of which there are four or sixteen."""


def _parse(text: str) -> _Address:
    try:
        # Nearly all addresses are plain IPv4 ones, and the C library reads those twenty times as fast. It takes no
        # other text for one than the canonical one.
        return IPFamily.IPV4, text, socket.inet_pton(socket.AF_INET, text)
    except (OSError, ValueError):
        pass
    try:
        address = ipaddress.ip_address(_strip_zeros(text))
    except ValueError:
        raise NotAnAddress("not an IP address") from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise NotAnAddress("an address with a zone cannot be used")
        address = address.ipv4_mapped or address
    return IPFamily.IPV4 if address.version == 4 else IPFamily.IPV6, str(address), address.packed


def _destination(text: str) -> _Address:
    address = family, _, packed = _parse(text)
    first = packed[0]
    if first & 0xF0 == 0xE0 if family is IPFamily.IPV4 else first == 0xFF:
        raise NotAnAddress("a multicast address cannot be a destination")
    if not first and not any(packed):
        raise NotAnAddress("the unspecified address cannot be a destination")
    return address


def parse_ip(text: str) -> tuple[IPFamily, str]:
    """Return the family and canonical form of an IP address.

    Raises:
        NotAnAddress: if ``text`` is none, or one that no packet can be sent to (unspecified or multicast).
    """
    return _destination(text)[:2]


def parse_unicast_ip(text: str) -> tuple[IPFamily, str]:
    """Return what `parse_ip` does, for addresses that must lie outside the host itself.

    Loopback and link-local addresses are refused as the API server refuses them for endpoints and external IPs
    (ValidateNonSpecialIP): a rule that sends traffic there would expose the node's own services.
    """
    family, canonical, packed = _destination(text)
    if family is IPFamily.IPV4:
        special = packed[0] == 127 or packed[:2] == b"\xa9\xfe"
    else:
        special = packed == b"\0" * 15 + b"\1" or (packed[0] == 0xFE and packed[1] & 0xC0 == 0x80)
    if special:
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


def packed(ip: str) -> bytes:
    """Return the bytes of an address in canonical form, of which there are four or sixteen."""
    return socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)


def cidr_contains(cidr: str, ip: str) -> bool:
    """Tell whether ``ip`` lies in ``cidr``; both canonical. Families that differ mean no."""
    return ipaddress.ip_address(ip) in _network(cidr)


_network = functools.lru_cache(maxsize=64)(ipaddress.ip_network)
"""Many addresses are looked for in few prefixes: those of the configuration and of the node."""
