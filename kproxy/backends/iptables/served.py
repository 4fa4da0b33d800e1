"""Reads off rules where UDP clients may have been sending to: the frontends of whoever wrote the rules.

Rules outlive the process that wrote them. What a kproxy (or kube-proxy) of before served is in them, and nowhere else,
once a service has been deleted while none was running; its UDP flows would go on to endpoints that are no longer its
own. The chains and matches are kube-proxy's in both layouts, so a look at the rules with a UDP port will do.
"""

import ipaddress
import re
import shlex
import struct
from collections.abc import Iterable, Iterator

from kproxy.backends.iptables import names
from kproxy.backends.iptables.entry import MODULE_HEADER, OFFSETS, EntryLayout
from kproxy.backends.iptables.ruleset import TableName
from kproxy.plan.model import Destination
from kproxy.state.model import IPFamily

_LISTS = (names.SERVICES, names.NODE_PORTS)
_UDP = 17
_UDP_MATCH = b"udp".ljust(29, b"\0")
_PORTS = struct.Struct("=HHHHB")  # xt_udp: source ports, destination ports, inversion
_INVERTED_DESTINATION = 0x10  # IPT_INV_DSTIP, IP6T_INV_DSTIP


def is_list(chain: str) -> bool:
    """Tell whether a chain of nat is one of those, or below one, that lead from frontends to services."""
    return chain.startswith(_LISTS) and names.is_ours(TableName.NAT, chain)


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


_OPTIONS = re.compile(r"-A (\S+) .*-p udp ")


def destinations_in_text(lines: Iterable[str]) -> Iterator[Destination]:
    """Yield the UDP frontends of the nat table, given as iptables-save prints it."""
    for line in lines:
        found = _OPTIONS.match(line)
        if found is None or not is_list(found[1]):
            continue
        words = shlex.split(line)
        options = {word: words[at + 1] for at, word in enumerate(words[:-1]) if word in ("-d", "--dport")}
        ip, _, bits = options.get("-d", "").partition("/")
        port = options.get("--dport", "")
        if port.isdecimal() and "!" not in words and (not ip or bits in ("", "32", "128")):
            yield Destination(str(ipaddress.ip_address(ip)) if ip else None, int(port))
