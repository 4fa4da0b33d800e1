"""Writes what is asked of the kernel: to tell of flows, and to release them.

Netlink's own words are those of linux/netfilter/nfnetlink_conntrack.h. Which of them choose what a dump tells of, and
since when, see ctnetlink_alloc_filter() and ctnetlink_filter_match() in the kernel's nf_conntrack_netlink.c: addresses
and ports (CTA_FILTER) since 5.8, status bits (CTA_STATUS, CTA_STATUS_MASK) since 5.15. Kernels pass over what they
don't know, and tell of more.
"""

import ipaddress
import struct
from collections.abc import Sequence

from kproxy.conntrack.flows import PROTOCOL_NUMBERS, Flow, packed_port
from kproxy.conntrack.looks import Look
from kproxy.conntrack.message import ATTRIBUTE, FAMILY_HEADER, HEADER, LAYOUTS, SEEN_REPLY
from kproxy.state.model import IPFamily

# linux/netlink.h
_REQUEST, _ACK, _DUMP = 0x001, 0x004, 0x300
_NESTED = 0x8000

# Subsystem and message type: IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE
_GET = 1 << 8 | 1
_DELETE = 1 << 8 | 2

_CTA_TUPLE_ORIG, _CTA_STATUS, _CTA_FILTER, _CTA_STATUS_MASK = 1, 3, 25, 26
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_CTA_IP_DST = {IPFamily.IPV4: 2, IPFamily.IPV6: 4}
_CTA_PROTO_NUM, _CTA_PROTO_DST_PORT = 1, 3
_CTA_FILTER_ORIG_FLAGS = 1
_BY_IP, _BY_PROTOCOL, _BY_PORT = 1 << 1, 1 << 3, 1 << 5  # CTA_FILTER_F_CTA_IP_DST and so on


def dump_request(family: IPFamily, look: Look | None) -> bytes:
    """Return a datagram that asks for a family's flows: those of a look, or simply all."""
    content = FAMILY_HEADER.pack(LAYOUTS[family].address_family, 0, 0)
    if look is not None:
        if len(look.protocols) == 1:
            content += _choice(family, look)
        if look.unanswered:
            content += _attribute(_CTA_STATUS, struct.pack("!I", 0))
            content += _attribute(_CTA_STATUS_MASK, struct.pack("!I", SEEN_REPLY))
    return HEADER.pack(HEADER.size + len(content), _GET, _REQUEST | _DUMP, 1, 0) + content


def inquiry(family: IPFamily, flows: Sequence[Flow]) -> bytes:
    """Return one datagram that asks for some flows anew; see `release_request` for the answers."""
    return _for_each(_GET, family, flows)


def release_request(family: IPFamily, flows: Sequence[Flow]) -> bytes:
    """Return one datagram that asks for the deletion of flows; the last is acknowledged, the others only if refused.

    Sequence numbers count from 1. An entry is named by the very attributes that the kernel gave for it.
    """
    return _for_each(_DELETE, family, flows)


def _for_each(kind: int, family: IPFamily, flows: Sequence[Flow]) -> bytes:
    head = FAMILY_HEADER.pack(LAYOUTS[family].address_family, 0, 0)
    size = HEADER.size + len(head)
    requests = []
    for number, flow in enumerate(flows, 1):
        flags = _REQUEST | _ACK if number == len(flows) else _REQUEST
        requests.append(HEADER.pack(size + len(flow.handle), kind, flags, number, 0) + head + flow.handle)
    return b"".join(requests)


def _choice(family: IPFamily, look: Look) -> bytes:
    """Return the attributes that choose by protocol, address and port."""
    flags, wanted = _BY_PROTOCOL, b""
    protocol = _attribute(_CTA_PROTO_NUM, bytes([PROTOCOL_NUMBERS[look.protocols[0]]]))
    if look.ip is not None:
        flags |= _BY_IP
        ip = _attribute(_CTA_IP_DST[family], ipaddress.ip_address(look.ip).packed)
        wanted = _attribute(_CTA_TUPLE_IP | _NESTED, ip)
    if look.port is not None:
        flags |= _BY_PORT
        protocol += _attribute(_CTA_PROTO_DST_PORT, packed_port(look.port))
    wanted += _attribute(_CTA_TUPLE_PROTO | _NESTED, protocol)
    by = _attribute(_CTA_FILTER_ORIG_FLAGS, struct.pack("=I", flags))
    return _attribute(_CTA_TUPLE_ORIG | _NESTED, wanted) + _attribute(_CTA_FILTER | _NESTED, by)


def _attribute(kind: int, content: bytes) -> bytes:
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(content), kind) + content + bytes(-len(content) % 4)
