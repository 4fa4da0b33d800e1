"""The kernel's expressions as terms: what libnftables made of a rule, read back, whoever wrote it.

The kernel keeps a rule as a little program for registers: load a field of the packet, mask it, compare it, look it up.
Here registers hold what would be loaded instead of a packet's bytes, so that a comparison becomes a term. What libnft-
ables of different versions make of one rule comes out alike. What is not known becomes `Unjudged`.
"""

import ipaddress
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from kproxy.backends.nftables.rules.ruleset import (
    Accept,
    CameBy,
    Chance,
    Column,
    Count,
    CountFor,
    Deliver,
    DeliverTo,
    FlipMark,
    FromPrefix,
    GoTo,
    GoToFound,
    InStates,
    Jump,
    Marked,
    Member,
    Numbers,
    Own,
    PortIs,
    Redirect,
    Remember,
    Returning,
    Rule,
    SetMark,
    SourceNat,
    Speaks,
    State,
    Term,
    ToPrefixes,
    Translated,
    Turn,
    Unjudged,
    Verdict,
)
from kproxy.state.model import IPFamily, Protocol

Attributes: TypeAlias = Mapping[int, memoryview]


class Expression(NamedTuple):
    """One expression of a rule: what it is called, and its attributes by number (linux/netfilter/nf_tables.h)."""

    name: str
    attributes: Attributes


Nested: TypeAlias = Callable[[memoryview], Attributes]
"""Takes an attribute apart that holds others."""

Ranges: TypeAlias = Sequence[tuple[bytes, bytes]]


class Tables(NamedTuple):
    """What a rule's program refers to."""

    nested: Nested
    anonymous: Callable[[str], Ranges | None]
    """The elements of a set without a name, as ranges of keys; None if that set has a name."""
    key_length: Callable[[str], int]
    """How many bytes a set's keys have."""


class Field(NamedTuple):
    """A register that holds something of the packet."""

    what: str
    """A `Column`'s value, or: iifname, mark, state, status, saddr-kind, daddr-kind."""
    mask: int | None = None
    flip: int = 0
    bytes: int = 0
    """How many bytes of it, from the first."""


class Number(NamedTuple):
    """A register that holds a random number below ``below``, counted from ``offset``."""

    below: int
    offset: int
    in_turn: bool


class Found(NamedTuple):
    """A register that holds what a map holds under a key."""

    map: str
    key: tuple["Symbol", ...]


class Unknown(NamedTuple):
    """A register that holds something else."""

    what: str


Symbol: TypeAlias = "Field | Number | Found | Unknown | bytes"

_PROTOCOLS = {6: Protocol.TCP, 17: Protocol.UDP, 132: Protocol.SCTP}
_COLUMNS = {column.value: column for column in Column}
_CT_STATES = {1: "invalid", 2: "established", 4: "related", 8: "new", 64: "untracked"}
_DNAT_STATUS = 1 << 5  # IPS_DST_NAT
_LOCAL = 2  # RTN_LOCAL
_HARMLESS = {"log", "counter", "notrack", "last", "quota"}
_EQUAL, _UNEQUAL = 0, 1
_NFPROTO = {IPFamily.IPV4: 2, IPFamily.IPV6: 10}
NEVER = PortIs(())
"""What is true of no packet of this family."""


class _StrangeError(Exception):
    """An expression that makes no sense here; its text names it."""


def decompile(expressions: Sequence[Expression], family: IPFamily, tables: Tables) -> Rule:
    """Return the terms of a rule."""
    return _Program(family, tables).terms(expressions)


class _Program:
    def __init__(self, family: IPFamily, tables: Tables) -> None:
        self.family = family
        self.tables = tables
        self.registers: dict[int, Symbol] = {}
        self.protocol: Protocol | None = None
        self.width = 4 if family is IPFamily.IPV4 else 16

    def terms(self, expressions: Sequence[Expression]) -> Rule:
        found: list[Term] = []
        for expression in expressions:
            read = _READERS.get(expression.name)
            if read is None:
                if expression.name not in _HARMLESS:
                    found.append(Unjudged(expression.name))
                continue
            try:
                found += read(self, expression.attributes)
            except (_StrangeError, KeyError, struct.error, ValueError) as error:
                found.append(Unjudged(str(error) if isinstance(error, _StrangeError) else expression.name))
        return _tidied(found)

    # --- registers -------------------------------------------------------------------------------------------------

    def set(self, register: int, symbol: Symbol) -> None:
        self.registers[_slot(register)] = symbol

    def get(self, register: int) -> Symbol:
        return self.registers.get(_slot(register), Unknown("a register that nothing was loaded into"))

    def key(self, register: int, name: str) -> tuple[Symbol, ...]:
        """Return what stands in registers one after the other, as many as the keys of a set have."""
        slot, found = _slot(register), []
        end = slot + (self.tables.key_length(name) + 3) // 4
        while slot < end and slot in self.registers:
            symbol = self.registers[slot]
            found.append(symbol)
            slot += self.slots(symbol)
        return tuple(found)

    def slots(self, symbol: Symbol) -> int:
        """Return how many 32-bit registers something takes up."""
        if isinstance(symbol, Field) and symbol.what in (Column.SOURCE.value, Column.DESTINATION.value):
            return self.width // 4
        if isinstance(symbol, Field) and symbol.what == "iifname":
            return 4
        return max(1, (len(symbol) + 3) // 4) if isinstance(symbol, bytes) else 1

    def verdict(self, data: memoryview) -> Iterator[Term]:
        """Return the term of a verdict."""
        its = self.tables.nested(data)
        (code,) = struct.unpack("!i", its[1])
        chain = bytes(its[2]).rstrip(b"\0").decode() if 2 in its else ""
        simple: dict[int, Term | None] = {0: Verdict.DROP, 1: Accept(), -1: None, -5: Verdict.RETURN}
        if code in simple:
            term = simple[code]
            return iter(() if term is None else (term,))
        if code in (-3, -4):
            return iter((Jump(chain) if code == -3 else GoTo(chain),))
        return iter((Unjudged(f"verdict {code}"),))


def _slot(register: int) -> int:
    """Return the number of the first 32-bit register of one that may be 128 bits wide."""
    return register - 8 if register >= 8 else 4 * (register - 1)


def _number(its: Attributes, kind: int, otherwise: int | None = None) -> int:
    if kind not in its and otherwise is not None:
        return otherwise
    return int.from_bytes(its[kind], "big")


def _text(its: Attributes, kind: int) -> str:
    return bytes(its[kind]).rstrip(b"\0").decode()


def _value(program: _Program, data: memoryview) -> bytes:
    return bytes(program.tables.nested(data)[1])


# --- loading -------------------------------------------------------------------------------------------------------


def _payload(program: _Program, its: Attributes) -> Iterator[Term]:
    if 1 not in its:
        raise _StrangeError("a change of the packet's bytes")
    base, offset, length = (_number(its, kind) for kind in (2, 3, 4))
    four = program.family is IPFamily.IPV4
    source, destination, protocol = (12, 16, 9) if four else (8, 24, 6)
    where = {
        (1, source): Column.SOURCE.value,
        (1, destination): Column.DESTINATION.value,
        (1, protocol): Column.PROTOCOL.value,
        (2, 2): Column.PORT.value,
    }.get((base, offset))
    program.set(_number(its, 1), Field(where, bytes=length) if where else Unknown("other bytes of the packet"))
    return iter(())


def _meta(program: _Program, its: Attributes) -> Iterator[Term]:
    key = _number(its, 2)
    if 3 in its:
        yield from _set_meta(program.get(_number(its, 3)), key)
        return
    known = {3: "mark", 6: "iifname", 15: "nfproto", 16: Column.PROTOCOL.value}
    program.set(_number(its, 1), Field(known[key]) if key in known else Unknown(f"meta key {key}"))


def _set_meta(symbol: Symbol, key: int) -> Iterator[Term]:
    if key != 3:
        return  # a priority, a trace flag: nothing that decides where a packet goes
    if isinstance(symbol, Field) and symbol.what == "mark":
        mask = 0xFFFFFFFF if symbol.mask is None else symbol.mask
        if symbol.flip and mask == 0xFFFFFFFF:
            yield FlipMark(symbol.flip)
            return
        if symbol.flip and mask == 0xFFFFFFFF & ~symbol.flip:
            yield SetMark(symbol.flip)
            return
    raise _StrangeError("a change of the packet's mark")


def _ct(program: _Program, its: Attributes) -> Iterator[Term]:
    if 4 in its:
        return iter(())  # a mark or label of the connection
    known = {0: "state", 2: "status"}
    key = _number(its, 2)
    program.set(_number(its, 1), Field(known[key]) if key in known else Unknown(f"ct key {key}"))
    return iter(())


def _fib(program: _Program, its: Attributes) -> Iterator[Term]:
    result, flags = _number(its, 2), _number(its, 3)
    kinds = {1: "saddr-kind", 2: "daddr-kind"}
    known = result == 3 and flags in kinds
    program.set(_number(its, 1), Field(kinds[flags]) if known else Unknown("fib"))
    return iter(())


def _numgen(program: _Program, its: Attributes) -> Iterator[Term]:
    program.set(_number(its, 1), Number(_number(its, 2), _number(its, 4, 0), _number(its, 3) == 0))
    return iter(())


def _bitwise(program: _Program, its: Attributes) -> Iterator[Term]:
    symbol = program.get(_number(its, 1))
    operation = _number(its, 6, 0)
    if operation == 0 and isinstance(symbol, Field) and 4 in its:
        mask, flip = _value(program, its[4]), _value(program, its[5])
        order = "big" if symbol.what in (Column.SOURCE.value, Column.DESTINATION.value, Column.PORT.value) else "host"
        symbol = symbol._replace(mask=_int(mask, order), flip=_int(flip, order))
    else:
        symbol = Unknown("bitwise")
    program.set(_number(its, 2), symbol)
    return iter(())


def _int(data: bytes, order: str) -> int:
    return int.from_bytes(data, "big" if order == "big" else sys.byteorder)


def _byteorder(program: _Program, its: Attributes) -> Iterator[Term]:
    program.set(_number(its, 2), program.get(_number(its, 1)))
    return iter(())


def _immediate(program: _Program, its: Attributes) -> Iterator[Term]:
    data = program.tables.nested(its[2])
    if 2 in data:
        return program.verdict(data[2])
    program.set(_number(its, 1), bytes(data[1]))
    return iter(())


# --- asking --------------------------------------------------------------------------------------------------------


def _cmp(program: _Program, its: Attributes) -> Iterator[Term]:
    symbol, operation, value = program.get(_number(its, 1)), _number(its, 2), _value(program, its[3])
    if isinstance(symbol, Number):
        if operation == _EQUAL and symbol.below:
            # Where a turn is now says nothing of many connections.
            yield Turn(symbol.below) if symbol.in_turn else Chance(symbol.below)
            return
        raise _StrangeError("numgen")
    if not isinstance(symbol, Field):
        raise _StrangeError(symbol.what if isinstance(symbol, Unknown) else "a comparison")
    if symbol.what == Column.PORT.value and operation > _UNEQUAL:
        number = int.from_bytes(value, "big")
        bounds = {2: (0, number - 1), 3: (0, number), 4: (number + 1, 65_535), 5: (number, 65_535)}
        yield PortIs((bounds[operation],))
        return
    if operation > _UNEQUAL:
        raise _StrangeError(f"a comparison of {symbol.what}")
    if symbol.what == "nfproto":  # in tables of both families
        if (value[0] == _NFPROTO[program.family]) is not (operation == _EQUAL):
            yield NEVER
        return
    yield _compared(program, symbol, value, operation == _UNEQUAL)


def _compared(program: _Program, field: Field, value: bytes, unequal: bool) -> Term:
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
        case "saddr-kind" | "daddr-kind" if not unequal and _int(value, "host") == _LOCAL:
            return Own(Column.SOURCE if field.what == "saddr-kind" else Column.DESTINATION)
        case "mark" if field.mask and unequal and not any(value):
            return Marked(field.mask)
        case "state" if field.mask and not any(value):
            return _state(field.mask, inverted=not unequal)
        case "status" if field.mask == _DNAT_STATUS and unequal and not any(value):
            return Translated()
    raise _StrangeError(f"a comparison of {field.what}")


def _state(mask: int, *, inverted: bool) -> Term:
    if not inverted and mask in (1, 8):
        return State.INVALID if mask == 1 else State.NEW
    return InStates(frozenset(name for bit, name in _CT_STATES.items() if mask & bit), inverted)


def _prefix(program: _Program, field: Field, value: bytes) -> str:
    bits = 8 * program.width
    if field.mask is not None:
        length = field.mask.bit_count()
        if field.mask != (1 << bits) - (1 << bits - length):
            raise _StrangeError("a mask with holes")
    else:
        length = 8 * (field.bytes or program.width)
    if length == bits and field.what == Column.DESTINATION.value:
        return _address(program.family, value)
    padded = value[: program.width].ljust(program.width, b"\0")
    return f"{_address(program.family, padded)}/{length}"


def _address(family: IPFamily, raw: bytes) -> str:
    return str(ipaddress.IPv4Address(raw) if family is IPFamily.IPV4 else ipaddress.IPv6Address(raw))


def _range(program: _Program, its: Attributes) -> Iterator[Term]:
    symbol, operation = program.get(_number(its, 1)), _number(its, 2)
    first, last = _value(program, its[3]), _value(program, its[4])
    if not isinstance(symbol, Field) or operation > _UNEQUAL:
        raise _StrangeError("a range")
    inverted = operation == _UNEQUAL
    if symbol.what == Column.PORT.value:
        yield PortIs(((int.from_bytes(first, "big"), int.from_bytes(last, "big")),), inverted)
        return
    text = f"{_address(program.family, first)}-{_address(program.family, last)}"
    if symbol.what == Column.SOURCE.value:
        yield FromPrefix(text, inverted)
    elif symbol.what == Column.DESTINATION.value:
        yield ToPrefixes((text,), inverted)
    else:
        raise _StrangeError(f"a range of {symbol.what}")


def _lookup(program: _Program, its: Attributes) -> Iterator[Term]:
    name, key, inverted = _text(its, 1), program.key(_number(its, 2), _text(its, 1)), bool(_number(its, 5, 0) & 1)
    ranges = program.tables.anonymous(name)
    if ranges is not None and 3 not in its:
        yield _in_ranges(program, key, ranges, inverted)
        return
    if inverted or ranges is not None:
        raise _StrangeError(f"a lookup in {name}")
    if 3 in its and _number(its, 3) != 0:
        program.set(_number(its, 3), Found(name, key))
        return
    yield _looked_up(program, name, key, verdicts=3 in its)


def _looked_up(program: _Program, name: str, key: tuple[Symbol, ...], *, verdicts: bool) -> Term:
    numbers = tuple(symbol.offset for symbol in key if isinstance(symbol, Number) and symbol.below == 1)
    columns = tuple(_COLUMNS[symbol.what] for symbol in key if isinstance(symbol, Field) and symbol.what in _COLUMNS)
    if len(numbers) == 2 and len(key) == 2 + len(columns):
        return Returning(name, Numbers(*numbers)) if columns == (Column.SOURCE,) else CountFor(name, Numbers(*numbers))
    if len(columns) != len(key):
        raise _StrangeError(f"a lookup in {name}")
    protocol = _spoken(program, columns)
    return GoToFound(name, columns, protocol) if verdicts else Member(name, columns, protocol)


def _spoken(program: _Program, columns: Sequence[Column]) -> Protocol | None:
    return program.protocol if Column.PORT in columns and Column.PROTOCOL not in columns else None


def _in_ranges(program: _Program, key: tuple[Symbol, ...], ranges: Ranges, inverted: bool) -> Term:
    symbol = key[0] if len(key) == 1 else None
    if not isinstance(symbol, Field):
        raise _StrangeError("a lookup in a set without a name")
    match symbol.what:
        case "dport":
            numbers = [(int.from_bytes(first, "big"), int.from_bytes(last, "big")) for first, last in ranges]
            return PortIs(tuple(sorted(numbers)), inverted)
        case "daddr":
            return ToPrefixes(tuple(_cidrs(program, ranges)), inverted)
        case "saddr" if len(ranges) == 1:
            return FromPrefix(next(_cidrs(program, ranges)), inverted)
        case "state":
            mask = sum(_int(first, "host") for first, _ in ranges)
            return InStates(frozenset(name for bit, name in _CT_STATES.items() if mask & bit), inverted)
        case "l4proto":
            spoken = {_PROTOCOLS.get(first[0]) for first, _ in ranges}
            if len(spoken) == 1 and not inverted and (only := spoken.pop()) is not None:
                return Speaks(only)
    raise _StrangeError(f"a lookup of {symbol.what} in a set without a name")


def _cidrs(program: _Program, ranges: Ranges) -> Iterator[str]:
    for first, last in sorted(ranges):
        one, other = _address(program.family, first), _address(program.family, last)
        bits = 8 * program.width - (int.from_bytes(first, "big") ^ int.from_bytes(last, "big")).bit_length()
        network = ipaddress.ip_network(f"{one}/{bits}", strict=False)
        if one == other:
            yield one
        elif (str(network.network_address), str(network.broadcast_address)) == (one, other):
            yield str(network)
        else:
            yield f"{one}-{other}"


# --- doing ---------------------------------------------------------------------------------------------------------


def _nat(program: _Program, its: Attributes) -> Iterator[Term]:
    if _number(its, 1) == 0:
        yield SourceNat()
        return
    address = program.get(_number(its, 3)) if 3 in its else None
    if isinstance(address, Found):
        *fields, number = address.key
        columns = tuple(_COLUMNS[field.what] for field in fields if isinstance(field, Field))
        spoken = _spoken(program, columns)
        if not isinstance(number, Number) or len(columns) != len(fields) or spoken is None:
            raise _StrangeError("a dnat by a map")
        yield Deliver(address.map, columns, spoken, number.below)
        return
    port = program.get(_number(its, 5)) if 5 in its else b"\0\0"
    if not isinstance(address, bytes) or not isinstance(port, bytes):
        raise _StrangeError("a dnat")
    yield DeliverTo(_address(program.family, address[: program.width]), int.from_bytes(port[:2], "big"))


def _redirect(program: _Program, its: Attributes) -> Iterator[Term]:
    port = program.get(_number(its, 1)) if 1 in its else b"\0\0"
    if not isinstance(port, bytes):
        raise _StrangeError("a redirect")
    yield Redirect(int.from_bytes(port[:2], "big"))


def _masquerade(program: _Program, its: Attributes) -> Iterator[Term]:
    del program, its
    yield Verdict.MASQUERADE


def _reject(program: _Program, its: Attributes) -> Iterator[Term]:
    del program, its
    yield Verdict.REJECT


def _objref(program: _Program, its: Attributes) -> Iterator[Term]:
    del program
    if 2 in its:
        yield Count(_text(its, 2))


def _dynset(program: _Program, its: Attributes) -> Iterator[Term]:
    name, key = _text(its, 1), program.key(_number(its, 4), _text(its, 1))
    numbers = tuple(symbol.offset for symbol in key if isinstance(symbol, Number) and symbol.below == 1)
    if len(numbers) != 2 or 6 not in its:
        raise _StrangeError(f"an update of {name}")
    yield Remember(name, Numbers(*numbers), round(_number(its, 6) / 1000))


_READERS: Mapping[str, Callable[[_Program, Attributes], Iterator[Term]]] = {
    "payload": _payload,
    "meta": _meta,
    "ct": _ct,
    "fib": _fib,
    "numgen": _numgen,
    "bitwise": _bitwise,
    "byteorder": _byteorder,
    "immediate": _immediate,
    "cmp": _cmp,
    "range": _range,
    "lookup": _lookup,
    "nat": _nat,
    "redir": _redirect,
    "masq": _masquerade,
    "reject": _reject,
    "objref": _objref,
    "dynset": _dynset,
}


def _tidied(terms: Sequence[Term]) -> Rule:
    """Leave out what nft adds by itself: the protocol before what speaks of its ports."""
    found: list[Term] = []
    for number, term in enumerate(terms):
        following = terms[number + 1] if number + 1 < len(terms) else None
        spoken = following.protocol if isinstance(following, (Member, GoToFound, Deliver)) else None
        if not (isinstance(term, Speaks) and term.protocol is spoken):
            found.append(term)
    return tuple(found)
