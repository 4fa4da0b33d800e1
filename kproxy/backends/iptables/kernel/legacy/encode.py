"""Rules as the kernel takes them: ``struct ipt_entry`` and ``struct ip6t_entry`` with matches and target, as bytes.

Building a rule from python-iptables' objects costs over a millisecond, which would be minutes for a large cluster; this
takes some microseconds. Tests hold it to those objects, to iptables-save's listing and to the bytes iptables writes.

A jump names its chain in the target's name, as libiptc wants it: libiptc finds the offset that the kernel wants.
"""

import socket
import struct
from functools import lru_cache

from kproxy.backends.iptables.kernel.legacy.entry import COUNTERS, OFFSETS, EntryLayout, entry_layout
from kproxy.backends.iptables.kernel.legacy.terms import MATCHES, TARGETS, UnencodableError, fitting
from kproxy.backends.iptables.rules.ruleset import Interface, Jump, Prefix, Rule
from kproxy.state.model import IPFamily, Protocol

_PROTOCOL_NUMBER = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.SCTP: 132}
_MAX_INTERFACE = 15
_INVERTED_IN_INTERFACE = 0x01  # IPT_INV_VIA_IN
_INVERTED_SOURCE = 0x08  # IPT_INV_SRCIP
_INVERTED_DESTINATION = 0x10  # IPT_INV_DSTIP
_CARES_ABOUT_PROTOCOL = 0x01  # IP6T_F_PROTO; IPv4 has no such flag, its protocol 0 means any

_IP4 = struct.Struct("=4s4s4s4s16s16s16s16sHBB")  # struct ipt_ip
_IP6 = struct.Struct("=16s16s16s16s16s16s16s16sHBBB3x")  # struct ip6t_ip6


def _masks(width: int) -> dict[str, bytes]:
    """Return the netmasks of ``width`` bytes by length, which stays text as it comes."""
    ones = (1 << 8 * width) - 1
    return {str(length): (ones ^ ones >> length).to_bytes(width, "big") for length in range(8 * width + 1)}


_MASKS = {socket.AF_INET: _masks(4), socket.AF_INET6: _masks(16)}


def _address(prefix: Prefix | None, family: socket.AddressFamily) -> tuple[bytes, bytes]:
    """Return a prefix's address and mask; no prefix at all is the one of length 0."""
    if prefix is None:
        return b"", b""
    ip, _, length = prefix.cidr.partition("/")
    try:
        return socket.inet_pton(family, ip), _MASKS[family][length]
    except (OSError, KeyError) as err:
        raise UnencodableError(f"prefix {prefix.cidr!r}: not ADDRESS/LENGTH") from err


def _interface(interface: Interface | None) -> tuple[bytes, bytes]:
    """Return an interface's name and mask. A plain name is compared with its closing NUL, a ``+`` not at all."""
    if interface is None:
        return b"", b""
    name = fitting("interface", interface.name, _MAX_INTERFACE)
    return name, b"\xff" * (len(name) - 1 if name.endswith(b"+") else len(name) + 1)


class Encoder:
    """Turns rules into the bytes of one family's entries."""

    def __init__(self, family: IPFamily) -> None:
        self._layout = entry_layout(family)
        self._targets = TARGETS[family]
        self._ip = lru_cache(maxsize=1024)(_ip4 if family is IPFamily.IPV4 else _ip6)
        self._tail = _tail_struct(self._layout)

    def encode(self, rule: Rule) -> bytes:
        """Return the rule's entry, counters zero. Raises UnencodableError where a field's value does not fit."""
        matches = b"".join([MATCHES[type(match)](match) for match in rule.matches])
        target = self._targets[type(rule.target)](rule.target)
        goto = self._layout.goto_flag if type(rule.target) is Jump and rule.target.goto else 0
        target_offset = self._layout.size + len(matches)
        ip = self._ip(rule.source, rule.destination, rule.in_interface, rule.protocol, goto)
        return b"".join((ip, self._tail.pack(target_offset, target_offset + len(target)), matches, target))


def _tail_struct(entry: EntryLayout) -> struct.Struct:
    """Return the entry's part from nfcache to the counters, of which only the two offsets are not zero."""
    before = entry.offsets_offset - entry.cache_offset
    after = entry.counters_offset + COUNTERS.size - entry.offsets_offset - OFFSETS.size
    return struct.Struct(f"={before}xHH{after}x")


def _inversions(source: Prefix | None, destination: Prefix | None, interface: Interface | None) -> int:
    return (
        (_INVERTED_SOURCE if source is not None and source.inverted else 0)
        | (_INVERTED_DESTINATION if destination is not None and destination.inverted else 0)
        | (_INVERTED_IN_INTERFACE if interface is not None and interface.inverted else 0)
    )


def _ip4(
    source: Prefix | None,
    destination: Prefix | None,
    interface: Interface | None,
    protocol: Protocol | None,
    goto: int,
) -> bytes:
    src, src_mask = _address(source, socket.AF_INET)
    dst, dst_mask = _address(destination, socket.AF_INET)
    name, name_mask = _interface(interface)
    number = _PROTOCOL_NUMBER[protocol] if protocol is not None else 0
    inversions = _inversions(source, destination, interface)
    return _IP4.pack(src, dst, src_mask, dst_mask, name, b"", name_mask, b"", number, goto, inversions)


def _ip6(
    source: Prefix | None,
    destination: Prefix | None,
    interface: Interface | None,
    protocol: Protocol | None,
    goto: int,
) -> bytes:
    src, src_mask = _address(source, socket.AF_INET6)
    dst, dst_mask = _address(destination, socket.AF_INET6)
    name, name_mask = _interface(interface)
    number = _PROTOCOL_NUMBER[protocol] if protocol is not None else 0
    flags = goto | (_CARES_ABOUT_PROTOCOL if protocol is not None else 0)
    inversions = _inversions(source, destination, interface)
    return _IP6.pack(src, dst, src_mask, dst_mask, name, b"", name_mask, b"", number, 0, flags, inversions)
