"""Reads frontends off the kernel's own entries; see `kproxy.backends.iptables.rules.served` for what they are."""

import ipaddress
import struct
import sys
from collections.abc import Iterable, Iterator

from kproxy.backends.iptables.kernel.legacy.entry import MODULE_HEADER, OFFSETS, EntryLayout
from kproxy.plan.claims import Claim
from kproxy.plan.model import Destination
from kproxy.state.model import IPFamily, Protocol

_PROTOCOLS = {6: Protocol.TCP, 17: Protocol.UDP, 132: Protocol.SCTP}
_MATCHES = {protocol: protocol.encode().ljust(29, b"\0") for protocol in Protocol}
_PORTS = {  # where in a match destination ports and what inverts it stand: xt_tcp, xt_udp, xt_sctp_info
    Protocol.TCP: struct.Struct("=4xHH3xB"),
    Protocol.UDP: struct.Struct("=4xHHB"),
    Protocol.SCTP: struct.Struct("=HH284xI"),
}
_INVERTED_DESTINATION = 0x10  # IPT_INV_DSTIP, IP6T_INV_DSTIP


def claim_in_entry(layout: EntryLayout, entry: bytes) -> Claim | None:
    """Return the frontend that an entry speaks of, if it is about a single one."""
    width, protocol_at, flags_at = (4, 80, 83) if layout.family is IPFamily.IPV4 else (16, 128, 132)
    everywhere, exactly = bytes(width), b"\xff" * width
    protocol = _PROTOCOLS.get(int.from_bytes(entry[protocol_at : protocol_at + 2], sys.byteorder))
    mask = entry[3 * width : 4 * width]
    if protocol is None or entry[flags_at] & _INVERTED_DESTINATION or mask not in (everywhere, exactly):
        return None
    port = _only_port(layout, entry, protocol)
    if port is None:
        return None
    return Claim(str(ipaddress.ip_address(entry[width : 2 * width])) if mask == exactly else None, port, protocol)


def destinations_in_entries(layout: EntryLayout, entries: Iterable[bytes]) -> Iterator[Destination]:
    """Yield the UDP frontends of the kernel's entries, given those of the chains for which `is_list` is true."""
    for entry in entries:
        claim = claim_in_entry(layout, entry)
        if claim is not None and claim.protocol is Protocol.UDP:
            yield Destination(claim.ip, claim.port)


def _only_port(layout: EntryLayout, entry: bytes, protocol: Protocol) -> int | None:
    """Return the port that the match of an entry's protocol asks for, if it is one port."""
    offset = layout.size
    target_offset, _ = OFFSETS.unpack_from(entry, layout.offsets_offset)
    while offset < target_offset:
        size, name, _ = MODULE_HEADER.unpack_from(entry, offset)
        if name == _MATCHES[protocol]:
            first, last, inverted = _PORTS[protocol].unpack_from(entry, offset + MODULE_HEADER.size)
            return first if first == last and not inverted else None
        offset += size
    return None
