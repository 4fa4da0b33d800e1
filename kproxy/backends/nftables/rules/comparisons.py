"""What a rule of the kernel's asks: comparisons, ranges and look-ups, read back as terms.

Raises `StrangeError`, or KeyError and ValueError, where an expression makes no sense.
"""

import ipaddress
from collections.abc import Iterator

from kproxy.backends.nftables.rules.registers import (
    COLUMNS,
    Attributes,
    Field,
    Found,
    Number,
    Program,
    Ranges,
    StrangeError,
    Symbol,
    Unknown,
    address_of,
    integer,
    number_of,
    spoken,
    text_of,
    value_of,
)
from kproxy.backends.nftables.rules.ruleset import (
    CameBy,
    Chance,
    Column,
    CountFor,
    FromPrefix,
    GoToFound,
    InStates,
    Marked,
    Member,
    Numbers,
    Own,
    PortIs,
    Returning,
    Speaks,
    State,
    Term,
    ToPrefixes,
    Translated,
    Turn,
)
from kproxy.state.model import IPFamily, Protocol

_PROTOCOLS = {6: Protocol.TCP, 17: Protocol.UDP, 132: Protocol.SCTP}
_CT_STATES = {1: "invalid", 2: "established", 4: "related", 8: "new", 64: "untracked"}
_DNAT_STATUS = 1 << 5  # IPS_DST_NAT
_LOCAL = 2  # RTN_LOCAL
_EQUAL, _UNEQUAL = 0, 1
_NFPROTO = {IPFamily.IPV4: 2, IPFamily.IPV6: 10}
NEVER = PortIs(())
"""What is true of no packet of this family."""


def compare(program: Program, its: Attributes) -> Iterator[Term]:
    """Read ``cmp``: a register against a value."""
    symbol, operation, value = program.get(number_of(its, 1)), number_of(its, 2), value_of(program, its[3])
    if isinstance(symbol, Number):
        if operation == _EQUAL and symbol.below:
            # Where a turn is now says nothing of many connections.
            yield Turn(symbol.below) if symbol.in_turn else Chance(symbol.below)
            return
        raise StrangeError("numgen")
    if not isinstance(symbol, Field):
        raise StrangeError(symbol.what if isinstance(symbol, Unknown) else "a comparison")
    if symbol.what == Column.PORT.value and operation > _UNEQUAL:
        number = int.from_bytes(value, "big")
        bounds = {2: (0, number - 1), 3: (0, number), 4: (number + 1, 65_535), 5: (number, 65_535)}
        yield PortIs((bounds[operation],))
        return
    if operation > _UNEQUAL:
        raise StrangeError(f"a comparison of {symbol.what}")
    if symbol.what == "nfproto":  # in tables of both families
        if (value[0] == _NFPROTO[program.family]) is not (operation == _EQUAL):
            yield NEVER
        return
    yield _compared(program, symbol, value, operation == _UNEQUAL)


def _compared(program: Program, field: Field, value: bytes, unequal: bool) -> Term:
    match field.what:
        case "saddr" | "daddr":
            cidr = _prefix(program, field, value)
            return FromPrefix(cidr, unequal) if field.what == "saddr" else ToPrefixes((cidr,), unequal)
        case "dport":
            port = int.from_bytes(value, "big")
            return PortIs(((port, port),), unequal)
        case "l4proto" if not unequal and value[0] in _PROTOCOLS:
            program.protocol = _PROTOCOLS[value[0]]
            return Speaks(program.protocol)
        case "iifname":
            name = value.rstrip(b"\0").decode(errors="replace")
            return CameBy(name if len(value) == 16 else f"{name}*", unequal)
        case "saddr-kind" | "daddr-kind" if not unequal and integer(value, "host") == _LOCAL:
            return Own(Column.SOURCE if field.what == "saddr-kind" else Column.DESTINATION)
        case "mark" if field.mask and unequal and not any(value):
            return Marked(field.mask)
        case "state" if field.mask and not any(value):
            return _state(field.mask, inverted=not unequal)
        case "status" if field.mask == _DNAT_STATUS and unequal and not any(value):
            return Translated()
    raise StrangeError(f"a comparison of {field.what}")


def _state(mask: int, *, inverted: bool) -> Term:
    if not inverted and mask in (1, 8):
        return State.INVALID if mask == 1 else State.NEW
    return InStates(frozenset(name for bit, name in _CT_STATES.items() if mask & bit), inverted)


def _prefix(program: Program, field: Field, value: bytes) -> str:
    bits = 8 * program.width
    if field.mask is not None:
        length = field.mask.bit_count()
        if field.mask != (1 << bits) - (1 << bits - length):
            raise StrangeError("a mask with holes")
    else:
        length = 8 * (field.bytes or program.width)
    if length == bits and field.what == Column.DESTINATION.value:
        return address_of(program.family, value)
    padded = value[: program.width].ljust(program.width, b"\0")
    return f"{address_of(program.family, padded)}/{length}"


def in_range(program: Program, its: Attributes) -> Iterator[Term]:
    """Read ``range``: a register between two values."""
    symbol, operation = program.get(number_of(its, 1)), number_of(its, 2)
    first, last = value_of(program, its[3]), value_of(program, its[4])
    if not isinstance(symbol, Field) or operation > _UNEQUAL:
        raise StrangeError("a range")
    inverted = operation == _UNEQUAL
    if symbol.what == Column.PORT.value:
        yield PortIs(((int.from_bytes(first, "big"), int.from_bytes(last, "big")),), inverted)
        return
    text = f"{address_of(program.family, first)}-{address_of(program.family, last)}"
    if symbol.what == Column.SOURCE.value:
        yield FromPrefix(text, inverted)
    elif symbol.what == Column.DESTINATION.value:
        yield ToPrefixes((text,), inverted)
    else:
        raise StrangeError(f"a range of {symbol.what}")


def look_up(program: Program, its: Attributes) -> Iterator[Term]:
    """Read ``lookup``: registers among the elements of a set, or as the key of a map."""
    name, inverted = text_of(its, 1), bool(number_of(its, 5, 0) & 1)
    key = program.key(number_of(its, 2), name)
    ranges = program.tables.anonymous(name)
    if ranges is not None and 3 not in its:
        yield _in_ranges(program, key, ranges, inverted)
        return
    if inverted or ranges is not None:
        raise StrangeError(f"a lookup in {name}")
    if 3 in its and number_of(its, 3) != 0:
        program.set(number_of(its, 3), Found(name, key))
        return
    yield _looked_up(program, name, key, verdicts=3 in its)


def _looked_up(program: Program, name: str, key: tuple[Symbol, ...], *, verdicts: bool) -> Term:
    numbers = tuple(symbol.offset for symbol in key if isinstance(symbol, Number) and symbol.below == 1)
    columns = tuple(COLUMNS[symbol.what] for symbol in key if isinstance(symbol, Field) and symbol.what in COLUMNS)
    if len(numbers) == 2 and len(key) == 2 + len(columns):
        return Returning(name, Numbers(*numbers)) if columns == (Column.SOURCE,) else CountFor(name, Numbers(*numbers))
    if len(columns) != len(key):
        raise StrangeError(f"a lookup in {name}")
    protocol = spoken(program, columns)
    return GoToFound(name, columns, protocol) if verdicts else Member(name, columns, protocol)


def _in_ranges(program: Program, key: tuple[Symbol, ...], ranges: Ranges, inverted: bool) -> Term:
    symbol = key[0] if len(key) == 1 else None
    if not isinstance(symbol, Field):
        raise StrangeError("a lookup in a set without a name")
    match symbol.what:
        case "dport":
            numbers = [(int.from_bytes(first, "big"), int.from_bytes(last, "big")) for first, last in ranges]
            return PortIs(tuple(sorted(numbers)), inverted)
        case "daddr":
            return ToPrefixes(tuple(_cidrs(program, ranges)), inverted)
        case "saddr" if len(ranges) == 1:
            return FromPrefix(next(_cidrs(program, ranges)), inverted)
        case "state":
            mask = sum(integer(first, "host") for first, _ in ranges)
            return InStates(frozenset(name for bit, name in _CT_STATES.items() if mask & bit), inverted)
        case "l4proto":
            spoken = {_PROTOCOLS.get(first[0]) for first, _ in ranges}
            if len(spoken) == 1 and not inverted and (only := spoken.pop()) is not None:
                return Speaks(only)
    raise StrangeError(f"a lookup of {symbol.what} in a set without a name")


def _cidrs(program: Program, ranges: Ranges) -> Iterator[str]:
    for first, last in sorted(ranges):
        one, other = address_of(program.family, first), address_of(program.family, last)
        bits = 8 * program.width - (int.from_bytes(first, "big") ^ int.from_bytes(last, "big")).bit_length()
        network = ipaddress.ip_network(f"{one}/{bits}", strict=False)
        if one == other:
            yield one
        elif (str(network.network_address), str(network.broadcast_address)) == (one, other):
            yield str(network)
        else:
            yield f"{one}-{other}"
