"""The kernel's entries as rules: `encode` backwards, for rules of any program.

What kproxy itself never writes is put into words as far as it matters for a packet's way: others' matches and targets
that are not known here become `Unjudged` and `Strange`, which name the extension.
"""

import socket
import struct
from collections.abc import Callable, Iterator, Mapping

from kproxy.backends.iptables.kernel.legacy.entry import COUNTERS, MODULE_HEADER, OFFSETS, EntryLayout
from kproxy.backends.iptables.rules.parse import LEAVES_THE_WAY
from kproxy.backends.iptables.rules.ruleset import (
    Accept,
    Comment,
    ConnectionState,
    DestinationNat,
    DestinationPort,
    Drop,
    GoOn,
    Interface,
    Jump,
    LocalAddress,
    Mark,
    MasqueradeSource,
    Match,
    Ports,
    Prefix,
    Random,
    RecentCheck,
    RecentSet,
    Redirect,
    Reject,
    Return,
    Rule,
    SetMark,
    Side,
    SourceNat,
    State,
    Strange,
    TargetTerm,
    Turn,
    Unjudged,
)
from kproxy.state.model import IPFamily, Protocol

_PROTOCOLS = {6: Protocol.TCP, 17: Protocol.UDP, 132: Protocol.SCTP}
_INVERTED_IN, _INVERTED_OUT, _INVERTED_SOURCE, _INVERTED_DESTINATION, _INVERTED_PROTOCOL = 0x01, 0x02, 0x08, 0x10, 0x40
_ODD_INVERSIONS = 0x04 | 0x20  # TOS, fragments
_ALL_PORTS = (0, 0xFFFF)
_SYN = 0x02


class Head:
    """Where things lie in the part of an entry that says what it matches."""

    def __init__(self, layout: EntryLayout) -> None:
        width = 4 if layout.family is IPFamily.IPV4 else 16
        self.width = width
        self.family = layout.address_family
        self.names = 4 * width  # in and out interface, then their masks
        self.protocol = 4 * width + 64
        self.inversions = self.protocol + (3 if layout.family is IPFamily.IPV4 else 4)


def decode_entry(
    layout: EntryLayout, entry: memoryview, verdict: Callable[[int], TargetTerm | None]
) -> tuple[Rule, int, int]:
    """Return the rule that an entry is, and its counters; ``verdict`` says what a standard target's number means."""
    head = Head(layout)
    target_offset, _ = OFFSETS.unpack_from(entry, layout.offsets_offset)
    (number,) = struct.unpack_from("=H", entry, head.protocol)
    inverted = entry[head.inversions]
    matches = list(_matches(entry[layout.size : target_offset]))
    source, odd_source = _prefix(entry, head, 0, bool(inverted & _INVERTED_SOURCE))
    destination, odd_destination = _prefix(entry, head, 1, bool(inverted & _INVERTED_DESTINATION))
    matches += [Unjudged(text) for text in (odd_source, odd_destination) if text]
    outgoing = _interface(entry, head, 1, bool(inverted & _INVERTED_OUT))
    if outgoing is not None:
        matches.append(Unjudged(f"{'! ' if outgoing.inverted else ''}-o {outgoing.name}"))
    protocol = _PROTOCOLS.get(number)
    if number and (protocol is None or inverted & _INVERTED_PROTOCOL):
        matches.append(Unjudged(f"{'! ' if inverted & _INVERTED_PROTOCOL else ''}-p {protocol or number}"))
        protocol = None
    if inverted & _ODD_INVERSIONS:
        matches.append(Unjudged("fragments"))
    packets, octets = COUNTERS.unpack_from(entry, layout.counters_offset)
    rule = Rule(
        target=_target(entry[target_offset:], layout.family, verdict),
        source=source,
        destination=destination,
        in_interface=_interface(entry, head, 0, bool(inverted & _INVERTED_IN)),
        protocol=protocol,
        matches=tuple(matches),
    )
    return rule, packets, octets


def _prefix(entry: memoryview, head: Head, number: int, inverted: bool) -> tuple[Prefix | None, str]:
    width = head.width
    mask = bytes(entry[(2 + number) * width : (3 + number) * width])
    if not any(mask):
        return None, ""
    ip = socket.inet_ntop(head.family, bytes(entry[number * width : (number + 1) * width]))
    bits = int.from_bytes(mask, "big")
    length = bits.bit_count()
    if bits != (1 << 8 * width) - (1 << 8 * width - length):
        return None, f"{ip}/{socket.inet_ntop(head.family, mask)}"
    return Prefix(f"{ip}/{length}", inverted), ""


def _interface(entry: memoryview, head: Head, number: int, inverted: bool) -> Interface | None:
    start = head.names + 16 * number
    name = bytes(entry[start : start + 16]).partition(b"\0")[0].decode(errors="replace")
    mask = bytes(entry[start + 32 : start + 48])
    if not any(mask):
        return None
    whole = mask.count(0xFF) > len(name)
    return Interface(name if whole or name.endswith("+") else f"{name}+", inverted)


# --- matches -------------------------------------------------------------------------------------------------------


def _matches(data: memoryview) -> Iterator[Match]:
    offset = 0
    while offset < len(data):
        size, raw_name, revision = MODULE_HEADER.unpack_from(data, offset)
        name = raw_name.partition(b"\0")[0].decode(errors="replace")
        info = bytes(data[offset + MODULE_HEADER.size : offset + size])
        reader = _MATCHES.get((name, revision))
        yield from (reader(info) if reader is not None else [Unjudged(f"-m {name}")])
        offset += size


def _comment(info: bytes) -> list[Match]:
    return [Comment(info.partition(b"\0")[0].decode(errors="replace"))]


def _ports(protocol: Protocol, source: tuple[int, int], destination: tuple[int, int], inverted: int) -> list[Match]:
    found: list[Match] = []
    if source != _ALL_PORTS:
        found.append(Unjudged(f"--sport {source[0]}:{source[1]}"))
    if inverted & 2:
        found.append(Ports((destination,), inverted=True))
    else:
        found.append(DestinationPort(protocol, *destination))
    return found


def _tcp(info: bytes) -> list[Match]:
    *ports, option, mask, wanted, inverted = struct.unpack_from("=HHHHBBBB", info)
    found = _ports(Protocol.TCP, (ports[0], ports[1]), (ports[2], ports[3]), inverted)
    if mask and ((_SYN & mask) == wanted) is bool(inverted & 4):
        found.append(Ports(()))  # what opens a connection has SYN and nothing else
    return [*found, Unjudged("--tcp-option")] if option else found


def _udp(info: bytes) -> list[Match]:
    *ports, inverted = struct.unpack_from("=HHHHB", info)
    return _ports(Protocol.UDP, (ports[0], ports[1]), (ports[2], ports[3]), inverted)


def _sctp(info: bytes) -> list[Match]:
    first, last = struct.unpack_from("=HH", info)
    looked_at, inverted = struct.unpack_from("=II", info, 284)
    destination = (first, last) if looked_at & 2 else _ALL_PORTS
    found: list[Match] = [DestinationPort(Protocol.SCTP, *destination)]
    return found if not (inverted or looked_at & ~2) else [*found, Unjudged("-m sctp")]


def _multiport(info: bytes) -> list[Match]:
    which, count = info[0], info[1]
    ports = struct.unpack_from("=15H", info, 2)[:count]
    is_range, inverted = info[32 : 32 + count], bool(info[47])
    if which == 0:
        return [Unjudged("-m multiport --sports")]
    ranges = []
    at = 0
    while at < count:
        last = ports[at + 1] if is_range[at] and at + 1 < count else ports[at]
        ranges.append((ports[at], last))
        at += 2 if is_range[at] else 1
    return [Ports(tuple(ranges), inverted)]


_STATES = {
    1: ConnectionState.INVALID,
    2: ConnectionState.ESTABLISHED,
    4: ConnectionState.RELATED,
    8: ConnectionState.NEW,
    128: ConnectionState.DNAT,
}


def _states(bits: int, inverted: bool, name: str) -> list[Match]:
    known = ConnectionState(0)
    for bit, state in _STATES.items():
        known |= state if bits & bit else ConnectionState(0)
    odd = bits & ~sum(_STATES)  # untracked, or with another source
    if odd and not known and not inverted:
        return [Unjudged(f"-m {name}")]
    return [State(known, inverted)]


_ALIAS = 1 << 13  # XT_CONNTRACK_STATE_ALIAS: it was written as -m state


def _conntrack(info: bytes) -> list[Match]:
    asked, inverted, states, _ = struct.unpack_from("=HHHH", info, 146)
    only_states = asked & ~_ALIAS == 1
    return _states(states, bool(inverted & 1), "conntrack") if only_states else [Unjudged("-m conntrack")]


def _state(info: bytes) -> list[Match]:
    return _states(struct.unpack_from("=I", info)[0], False, "state")


def _addrtype(info: bytes) -> list[Match]:
    source, destination, flags = struct.unpack_from("=HHI", info)
    found: list[Match] = []
    for kinds, side, inverted in ((source, Side.SOURCE, flags & 1), (destination, Side.DESTINATION, flags & 2)):
        if kinds == 4:
            found.append(LocalAddress(side, bool(inverted)))
        elif kinds:
            found.append(Unjudged(f"-m addrtype --{side}-type {kinds:#x}"))
    return [*found, Unjudged("-m addrtype --limit-iface")] if flags & ~3 else found


def _mark(info: bytes) -> list[Match]:
    value, mask, inverted = struct.unpack_from("=IIB", info)
    return [Mark(value, mask, bool(inverted))]


def _statistic(info: bytes) -> list[Match]:
    mode, flags, threshold = struct.unpack_from("=HHI", info)
    if mode:  # nth: where the turn is now says nothing of many connections
        return [Unjudged("-m statistic ! --mode nth")] if flags & 1 else [Turn(threshold + 1)]
    return [Random(Random.ONE - threshold if flags & 1 else threshold)]


def _recent(info: bytes) -> list[Match]:
    seconds, hits, action, inverted, raw = struct.unpack_from("=IIBB200s", info)
    name = raw.partition(b"\0")[0].decode(errors="replace")
    if hits or inverted or not action & 3:
        return [Unjudged(f"-m recent --name {name}")]
    return [RecentSet(name) if action & 2 else RecentCheck(name, seconds)]


_MATCHES: Mapping[tuple[str, int], Callable[[bytes], list[Match]]] = {
    ("comment", 0): _comment,
    ("tcp", 0): _tcp,
    ("udp", 0): _udp,
    ("sctp", 0): _sctp,
    ("multiport", 1): _multiport,
    ("conntrack", 3): _conntrack,
    ("state", 0): _state,
    ("addrtype", 1): _addrtype,
    ("mark", 1): _mark,
    ("statistic", 0): _statistic,
    ("recent", 0): _recent,
    ("recent", 1): _recent,
}

# --- targets -------------------------------------------------------------------------------------------------------

_ADDRESS, _PORT = 1, 2  # NF_NAT_RANGE_MAP_IPS, NF_NAT_RANGE_PROTO_SPECIFIED


def _target(data: memoryview, family: IPFamily, verdict: Callable[[int], TargetTerm | None]) -> TargetTerm | None:
    _, raw_name, revision = MODULE_HEADER.unpack_from(data)
    name = raw_name.partition(b"\0")[0].decode(errors="replace")
    info = bytes(data[MODULE_HEADER.size :])
    if not name:
        return verdict(struct.unpack_from("=i", info)[0])
    if name in LEAVES_THE_WAY:
        return GoOn(name)
    reader = _TARGETS.get(name)
    return reader(info, revision, family) if reader is not None else Strange(name)


def _destination_nat(info: bytes, revision: int, family: IPFamily) -> TargetTerm:
    address = socket.AF_INET if family is IPFamily.IPV4 else socket.AF_INET6
    if revision == 0 and family is IPFamily.IPV4:  # nf_nat_ipv4_multi_range_compat
        flags, first, last, port, last_port = struct.unpack_from("=4xI4s4s2s2s", info)
    else:  # nf_nat_range, and nf_nat_range2
        flags, first, last, port, last_port = struct.unpack_from("=I16s16s2s2s", info)
    width = 4 if family is IPFamily.IPV4 else 16
    if not flags & _ADDRESS or first != last or (flags & _PORT and port != last_port):
        return Strange("DNAT (to a range)")
    number = int.from_bytes(port, "big") if flags & _PORT else 0
    return DestinationNat(socket.inet_ntop(address, first[:width]), number)


def _redirect(info: bytes, revision: int, family: IPFamily) -> TargetTerm:
    del revision
    if family is IPFamily.IPV4:
        flags, port = struct.unpack_from("=4xI8x2s", info)
    else:
        flags, port = struct.unpack_from("=I32x2s", info)
    return Redirect(int.from_bytes(port, "big") if flags & _PORT else 0)


def _set_mark(info: bytes, revision: int, family: IPFamily) -> TargetTerm:
    del family
    return SetMark(*struct.unpack_from("=II", info)) if revision == 2 else Strange("MARK")


_TARGETS: Mapping[str, Callable[[bytes, int, IPFamily], TargetTerm]] = {
    "DNAT": _destination_nat,
    "REDIRECT": _redirect,
    "MARK": _set_mark,
    "MASQUERADE": lambda *_: MasqueradeSource(),
    "SNAT": lambda *_: SourceNat("SNAT"),
    "NETMAP": lambda *_: Strange("NETMAP"),
    "REJECT": lambda *_: Reject(),
}

VERDICTS: Mapping[int, TargetTerm] = {-1: Drop(), -2: Accept(), -5: Return()}
"""What a standard target's number means where it is no offset."""


def jump(chain: str, flags: int, layout: EntryLayout) -> Jump:
    """Return the jump, or the goto, to a chain."""
    return Jump(chain, goto=bool(flags & layout.goto_flag))
