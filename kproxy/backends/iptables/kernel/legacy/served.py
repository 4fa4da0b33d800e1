"""Reads UDP frontends off the kernel's own entries; see `kproxy.backends.iptables.rules.served` for what they are."""

import ipaddress
import struct
from collections.abc import Iterable, Iterator

from kproxy.backends.iptables.kernel.legacy.entry import MODULE_HEADER, OFFSETS, EntryLayout
from kproxy.plan.model import Destination
from kproxy.state.model import IPFamily

_UDP = 17
_UDP_MATCH = b"udp".ljust(29, b"\0")
_PORTS = struct.Struct("=HHHHB")  # xt_udp: source ports, destination ports, inversion
_INVERTED_DESTINATION = 0x10  # IPT_INV_DSTIP, IP6T_INV_DSTIP


def destinations_in_entries(layout: EntryLayout, entries: Iterable[bytes]) -> Iterator[Destination]:
    """Yield the UDP frontends of the kernel's entries, given those of the chains for which `is_list` is true."""
    width, protocol_at, flags_at = (4, 80, 83) if layout.family is IPFamily.IPV4 else (16, 128, 132)
    everywhere, exactly = bytes(width), b"\xff" * width
    for entry in entries:
        (protocol,) = struct.unpack_from("=H", entry, protocol_at)
        mask = entry[3 * width : 4 * width]
        if protocol != _UDP or entry[flags_at] & _INVERTED_DESTINATION or mask not in (everywhere, exactly):
            continue
        port = _only_port(layout, entry)
        if port is not None:
            ip = entry[width : 2 * width]
            yield Destination(str(ipaddress.ip_address(ip)) if mask == exactly else None, port)


def _only_port(layout: EntryLayout, entry: bytes) -> int | None:
    """Return the port that an entry's udp match asks for, if it is one port."""
    offset = layout.size
    target_offset, _ = OFFSETS.unpack_from(entry, layout.offsets_offset)
    while offset < target_offset:
        size, name, _ = MODULE_HEADER.unpack_from(entry, offset)
        if name == _UDP_MATCH:
            _, _, first, last, inverted = _PORTS.unpack_from(entry, offset + MODULE_HEADER.size)
            return first if first == last and not inverted else None
        offset += size
    return None
