"""Matches and targets as the kernel's extensions take them: structs of xt_*.h, as bytes.

Sizes, revisions and defaults are those that iptables 1.8 chooses: whatever it wrote is then, byte for byte, what kproxy
would write, and stays in place when kproxy takes over. The structs are ABI; libxtables, whose own ones change from
release to release, is not needed.
"""

import socket
import struct
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

from kproxy.backends.iptables.kernel.legacy.entry import MAX_CHAIN_NAME, MODULE_HEADER, STANDARD_TARGET_SIZE, padded
from kproxy.backends.iptables.rules.ruleset import (
    Accept,
    Comment,
    ConnectionState,
    DestinationNat,
    DestinationPort,
    Drop,
    Jump,
    LocalAddress,
    Mark,
    MasqueradeSource,
    Random,
    RecentCheck,
    RecentSet,
    Reject,
    Return,
    SetMark,
    Side,
    State,
    Term,
    Turn,
)
from kproxy.state.model import IPFamily, Protocol

_ALL_PORTS = (0, 0xFFFF)
_MAX_COMMENT = 255
_MAX_RECENT_NAME = 199


class UnencodableError(ValueError):
    """A rule says something that has no place in the kernel's structures; the message names field and limit."""


def fitting(what: str, text: str, limit: int) -> bytes:
    """Return a text as bytes. Raises UnencodableError, naming what it is, where it is longer than ``limit`` bytes."""
    data = text.encode()
    if len(data) > limit or b"\0" in data:
        raise UnencodableError(f"{what} {text!r}: at most {limit} bytes and no NUL fit")
    return data


def _module(name: bytes, revision: int, data: bytes) -> bytes:
    """Lay out one match or target: header, data, padding."""
    size = padded(MODULE_HEADER.size + len(data))
    header: bytes = MODULE_HEADER.pack(size, name, revision)
    return (header + data).ljust(size, b"\0")


# --- matches -------------------------------------------------------------------------------------------------------

_COMMENT = struct.Struct("=H29sB256s")
_COMMENT_SIZE = padded(_COMMENT.size)


def _comment(match: Comment) -> bytes:
    # xt_comment_info. Comments are nearly all different, so there is nothing to gain from a cache.
    text = match.text.encode()
    if len(text) > _MAX_COMMENT or 0 in text:
        raise UnencodableError(f"comment {match.text!r}: at most {_MAX_COMMENT} bytes and no NUL fit")
    return _COMMENT.pack(_COMMENT_SIZE, b"comment", 0, text)


@lru_cache(maxsize=8192)
def _destination_port(match: DestinationPort) -> bytes:
    ports = (match.first, match.last)
    try:
        if match.protocol is Protocol.TCP:  # xt_tcp: source ports, destination ports, option, two flags, inversion
            return _module(b"tcp", 0, struct.pack("=HHHHBBBB", *_ALL_PORTS, *ports, 0, 0, 0, 0))
        if match.protocol is Protocol.UDP:  # xt_udp: source ports, destination ports, inversion
            return _module(b"udp", 0, struct.pack("=HHHHB", *_ALL_PORTS, *ports, 0))
        return _sctp(ports)
    except struct.error as err:
        raise UnencodableError(f"ports {match.first} to {match.last}: not within 0 to 65535") from err


def _sctp(ports: tuple[int, int]) -> bytes:
    # xt_sctp_info: destination ports, source ports, 256 bytes of chunk map, its match type, four chunk flag records
    # of three bytes, whose type 0xff means none, their count, what to look at, inversion.
    looked_at = 0 if ports == _ALL_PORTS else 2  # XT_SCTP_DEST_PORTS
    named = (0, 0) if ports == _ALL_PORTS else ports
    info = struct.pack("=HHHH256xI", *named, 0, 0, 0) + b"\xff\0\0" * 4 + struct.pack("=III", 0, looked_at, 0)
    return _module(b"sctp", 0, info)


_STATE_BITS = {  # XT_CONNTRACK_STATE_BIT and its two special ones, xt_conntrack.h
    ConnectionState.INVALID: 1 << 0,
    ConnectionState.ESTABLISHED: 1 << 1,
    ConnectionState.RELATED: 1 << 2,
    ConnectionState.NEW: 1 << 3,
    ConnectionState.DNAT: 1 << 7,
}
_CONNTRACK_STATE = 1  # XT_CONNTRACK_STATE


@lru_cache(maxsize=256)
def _state(match: State) -> bytes:
    # xt_conntrack_mtinfo3: 136 bytes of addresses and times, five ports, what to look at, inversion, states, status.
    states = sum(bit for state, bit in _STATE_BITS.items() if state in match.states)
    inversion = _CONNTRACK_STATE if match.inverted else 0
    return _module(b"conntrack", 3, struct.pack("=136x10xHHHH8x2x", _CONNTRACK_STATE, inversion, states, 0))


@lru_cache(maxsize=4)
def _local_address(match: LocalAddress) -> bytes:
    local = 1 << 2  # XT_ADDRTYPE_LOCAL
    sides = (local, 0) if match.side is Side.SOURCE else (0, local)
    inversion = (1 if match.side is Side.SOURCE else 2) if match.inverted else 0
    return _module(b"addrtype", 1, struct.pack("=HHI", *sides, inversion))


@lru_cache(maxsize=256)
def _mark(match: Mark) -> bytes:
    try:
        return _module(b"mark", 1, struct.pack("=IIB", match.value, match.mask, match.inverted))
    except struct.error as err:
        raise UnencodableError(f"mark {match.value}/{match.mask}: not 32-bit numbers") from err


@lru_cache(maxsize=8192)
def _random(match: Random) -> bytes:
    # xt_statistic_info: mode random (0), flags, threshold, the other mode's packet and count, eight bytes that are the
    # kernel's own. The count says nothing here, but iptables derives one all the same: as if threshold were "every".
    if not 0 <= match.threshold <= Random.ONE:
        raise UnencodableError(f"random threshold {match.threshold}: not within 0 to {Random.ONE}")
    return _module(b"statistic", 0, struct.pack("=HHIII8x", 0, 0, match.threshold, 0, match.threshold))


_STATISTIC = b"statistic"
_NTH = struct.Struct("=HHIII8x")
"""xt_statistic_info in mode nth (1): mode, flags, every (less one), packet, count, eight bytes of the kernel's own."""
_NTH_PLACE = 8
BEGINNING = struct.Struct("=II")
"""Where a turn begins: at which time it is true first, and, derived from that, the count the kernel begins with."""


def _turn(match: Turn) -> bytes:
    # As with --packet 0. Where a turn really begins is decided at each commit, see `turns`.
    if not 1 < match.every <= 0xFFFFFFFF:
        raise UnencodableError(f"every {match.every} times: not within 2 to {0xFFFFFFFF}")
    return _module(_STATISTIC, 0, _NTH.pack(1, 0, match.every - 1, 0, match.every - 1))


def place_of_turn(modules: bytes, start: int) -> tuple[int, int] | None:
    """Return where in ``modules`` the match at ``start`` has its BEGINNING, and every how many times it is true.

    None where it is another match.
    """
    _, name, _ = MODULE_HEADER.unpack_from(modules, start)
    if not name.startswith(_STATISTIC + b"\0"):
        return None
    mode, _, last, _, _ = _NTH.unpack_from(modules, start + MODULE_HEADER.size)
    return (start + MODULE_HEADER.size + _NTH_PLACE, last + 1) if mode == 1 else None


def beginning(every: int, first: int) -> bytes:
    """Return the BEGINNING of a turn that is true for the first time after ``first`` others."""
    return BEGINNING.pack(first, every - 1 - first)


_RECENT_CHECK = 1 | 32  # XT_RECENT_CHECK | XT_RECENT_REAP
_RECENT_SET = 2  # XT_RECENT_SET
_WHOLE_ADDRESS = b"\xff" * 16


def _recent(list_name: str, seconds: int, action: int) -> bytes:
    # xt_recent_mtinfo_v1: seconds, hit count, action, inversion, list, side (0: source), a byte's padding, mask.
    name = fitting("recent list", list_name, _MAX_RECENT_NAME)
    try:
        info = struct.pack("=IIBB200sBx16s", seconds, 0, action, 0, name, 0, _WHOLE_ADDRESS)
    except struct.error as err:
        raise UnencodableError(f"recent list {list_name!r}: {seconds} seconds is not a 32-bit number") from err
    return _module(b"recent", 1, info)


def _recent_check(match: RecentCheck) -> bytes:
    return _recent(match.list_name, match.seconds, _RECENT_CHECK)


def _recent_set(match: RecentSet) -> bytes:
    return _recent(match.list_name, 0, _RECENT_SET)


MATCHES: Mapping[type[Term], Callable[[Any], bytes]] = {
    Comment: _comment,
    DestinationPort: _destination_port,
    State: _state,
    LocalAddress: _local_address,
    Mark: _mark,
    Random: _random,
    Turn: _turn,
    RecentCheck: _recent_check,
    RecentSet: _recent_set,
}

# --- targets -------------------------------------------------------------------------------------------------------

_STANDARD = struct.Struct("=H29sBi4x")


def standard_target(name: bytes) -> bytes:
    """Lay out a verdict or a jump the way libiptc wants it: by name, the verdict left to libiptc."""
    return _STANDARD.pack(STANDARD_TARGET_SIZE, name, 0, 0)


def _always(data: bytes) -> Callable[[Any], bytes]:
    return lambda _: data


def _jump(target: Jump) -> bytes:
    return standard_target(fitting("chain name", target.chain, MAX_CHAIN_NAME))


def _set_mark(target: SetMark) -> bytes:
    try:
        return _module(b"MARK", 2, struct.pack("=II", target.value, target.mask))
    except struct.error as err:
        raise UnencodableError(f"mark {target.value}/{target.mask}: not 32-bit numbers") from err


_MAP_ADDRESS = 1  # NF_NAT_RANGE_MAP_IPS
_MAP_PORT = 2  # NF_NAT_RANGE_PROTO_SPECIFIED
_RANDOM_FULLY = 16  # NF_NAT_RANGE_PROTO_RANDOM_FULLY


# nf_nat_ipv4_multi_range_compat: one range of flags, addresses, ports.
_MASQUERADE4 = _module(b"MASQUERADE", 0, struct.pack("=II4x4x2x2x", 1, _RANDOM_FULLY))
# nf_nat_range: flags, addresses, ports.
_MASQUERADE6 = _module(b"MASQUERADE", 0, struct.pack("=I16x16x2x2x", _RANDOM_FULLY))

_DNAT = struct.Struct("=H29sBI16s16s2s2s2x6x")


def _destination_nat(family: socket.AddressFamily, target: DestinationNat) -> bytes:
    # Revision 2, nf_nat_range2: flags, addresses from and to, ports from, to and base. Kernels from 4.18 know it;
    # iptables from 1.8.8 lists nothing older.
    try:
        ip, port = socket.inet_pton(family, target.ip), target.port.to_bytes(2, "big")
    except (OSError, OverflowError) as err:
        raise UnencodableError(f"NAT to {target.ip} port {target.port}: no such address or port") from err
    return _DNAT.pack(_DNAT.size, b"DNAT", 2, _MAP_ADDRESS | _MAP_PORT, ip, ip, port, port)


_REJECT4 = _module(b"REJECT", 0, struct.pack("=I", 3))  # IPT_ICMP_PORT_UNREACHABLE
_REJECT6 = _module(b"REJECT", 0, struct.pack("=I", 4))  # IP6T_ICMP6_PORT_UNREACH

_COMMON_TARGETS: dict[type[Term] | type[None], Callable[[Any], bytes]] = {
    type(None): _always(standard_target(b"")),
    Accept: _always(standard_target(b"ACCEPT")),
    Drop: _always(standard_target(b"DROP")),
    Return: _always(standard_target(b"RETURN")),
    Jump: _jump,
    SetMark: _set_mark,
}
TARGETS: Mapping[IPFamily, Mapping[type[Term] | type[None], Callable[[Any], bytes]]] = {
    IPFamily.IPV4: _COMMON_TARGETS
    | {
        MasqueradeSource: _always(_MASQUERADE4),
        DestinationNat: partial(_destination_nat, socket.AF_INET),
        Reject: _always(_REJECT4),
    },
    IPFamily.IPV6: _COMMON_TARGETS
    | {
        MasqueradeSource: _always(_MASQUERADE6),
        DestinationNat: partial(_destination_nat, socket.AF_INET6),
        Reject: _always(_REJECT6),
    },
}
