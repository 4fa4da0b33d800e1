"""The kernel's expressions as terms: what libnftables made of a rule, read back, whoever wrote it.

The kernel keeps a rule as a little program for registers: load a field of the packet, mask it, compare it, look it up.
Here registers hold what would be loaded instead of a packet's bytes, so that a comparison becomes a term. What libnft-
ables of different versions make of one rule comes out alike. What is not known becomes `Unjudged`.
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence

from kproxy.backends.nftables.rules.comparisons import compare, in_range, look_up
from kproxy.backends.nftables.rules.registers import (
    COLUMNS,
    Attributes,
    Expression,
    Field,
    Found,
    Number,
    Program,
    StrangeError,
    Symbol,
    Tables,
    Unknown,
    address_of,
    integer,
    number_of,
    spoken,
    text_of,
    value_of,
)
from kproxy.backends.nftables.rules.ruleset import (
    Column,
    Count,
    Deliver,
    DeliverTo,
    FlipMark,
    GoToFound,
    Member,
    Numbers,
    Redirect,
    Remember,
    Rule,
    SetMark,
    SourceNat,
    Speaks,
    Term,
    Unjudged,
    Verdict,
)
from kproxy.state.model import IPFamily

_HARMLESS = {"log", "counter", "notrack", "last", "quota"}


def decompile(expressions: Sequence[Expression], family: IPFamily, tables: Tables) -> Rule:
    """Return the terms of a rule."""
    program = Program(family, tables)
    found: list[Term] = []
    for expression in expressions:
        read = _READERS.get(expression.name)
        if read is None:
            if expression.name not in _HARMLESS:
                found.append(Unjudged(expression.name))
            continue
        try:
            found += read(program, expression.attributes)
        except (StrangeError, KeyError, struct.error, ValueError) as error:
            found.append(Unjudged(str(error) if isinstance(error, StrangeError) else expression.name))
    return _tidied(found)


# --- loading -------------------------------------------------------------------------------------------------------


def _payload(program: Program, its: Attributes) -> Iterator[Term]:
    if 1 not in its:
        raise StrangeError("a change of the packet's bytes")
    base, offset, length = (number_of(its, kind) for kind in (2, 3, 4))
    four = program.family is IPFamily.IPV4
    source, destination, protocol = (12, 16, 9) if four else (8, 24, 6)
    where = {
        (1, source): Column.SOURCE.value,
        (1, destination): Column.DESTINATION.value,
        (1, protocol): Column.PROTOCOL.value,
        (2, 2): Column.PORT.value,
    }.get((base, offset))
    program.set(number_of(its, 1), Field(where, bytes=length) if where else Unknown("other bytes of the packet"))
    return iter(())


def _meta(program: Program, its: Attributes) -> Iterator[Term]:
    key = number_of(its, 2)
    if 3 in its:
        yield from _set_meta(program.get(number_of(its, 3)), key)
        return
    known = {3: "mark", 6: "iifname", 15: "nfproto", 16: Column.PROTOCOL.value}
    program.set(number_of(its, 1), Field(known[key]) if key in known else Unknown(f"meta key {key}"))


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
    raise StrangeError("a change of the packet's mark")


def _ct(program: Program, its: Attributes) -> Iterator[Term]:
    if 4 in its:
        return iter(())  # a mark or label of the connection
    known = {0: "state", 2: "status"}
    key = number_of(its, 2)
    program.set(number_of(its, 1), Field(known[key]) if key in known else Unknown(f"ct key {key}"))
    return iter(())


def _fib(program: Program, its: Attributes) -> Iterator[Term]:
    result, flags = number_of(its, 2), number_of(its, 3)
    kinds = {1: "saddr-kind", 2: "daddr-kind"}
    known = result == 3 and flags in kinds
    program.set(number_of(its, 1), Field(kinds[flags]) if known else Unknown("fib"))
    return iter(())


def _numgen(program: Program, its: Attributes) -> Iterator[Term]:
    program.set(number_of(its, 1), Number(number_of(its, 2), number_of(its, 4, 0), number_of(its, 3) == 0))
    return iter(())


def _bitwise(program: Program, its: Attributes) -> Iterator[Term]:
    symbol = program.get(number_of(its, 1))
    operation = number_of(its, 6, 0)
    if operation == 0 and isinstance(symbol, Field) and 4 in its:
        mask, flip = value_of(program, its[4]), value_of(program, its[5])
        order = "big" if symbol.what in (Column.SOURCE.value, Column.DESTINATION.value, Column.PORT.value) else "host"
        symbol = symbol._replace(mask=integer(mask, order), flip=integer(flip, order))
    else:
        symbol = Unknown("bitwise")
    program.set(number_of(its, 2), symbol)
    return iter(())


def _byteorder(program: Program, its: Attributes) -> Iterator[Term]:
    program.set(number_of(its, 2), program.get(number_of(its, 1)))
    return iter(())


def _immediate(program: Program, its: Attributes) -> Iterator[Term]:
    data = program.tables.nested(its[2])
    if 2 in data:
        return program.verdict(data[2])
    program.set(number_of(its, 1), bytes(data[1]))
    return iter(())


# --- doing ---------------------------------------------------------------------------------------------------------


def _nat(program: Program, its: Attributes) -> Iterator[Term]:
    if number_of(its, 1) == 0:
        yield SourceNat()
        return
    address = program.get(number_of(its, 3)) if 3 in its else None
    if isinstance(address, Found):
        *fields, number = address.key
        columns = tuple(COLUMNS[field.what] for field in fields if isinstance(field, Field))
        protocol = spoken(program, columns)
        if not isinstance(number, Number) or len(columns) != len(fields) or protocol is None:
            raise StrangeError("a dnat by a map")
        yield Deliver(address.map, columns, protocol, number.below)
        return
    port = program.get(number_of(its, 5)) if 5 in its else b"\0\0"
    if not isinstance(address, bytes) or not isinstance(port, bytes):
        raise StrangeError("a dnat")
    yield DeliverTo(address_of(program.family, address[: program.width]), int.from_bytes(port[:2], "big"))


def _redirect(program: Program, its: Attributes) -> Iterator[Term]:
    port = program.get(number_of(its, 1)) if 1 in its else b"\0\0"
    if not isinstance(port, bytes):
        raise StrangeError("a redirect")
    yield Redirect(int.from_bytes(port[:2], "big"))


def _masquerade(program: Program, its: Attributes) -> Iterator[Term]:
    del program, its
    yield Verdict.MASQUERADE


def _reject(program: Program, its: Attributes) -> Iterator[Term]:
    del program, its
    yield Verdict.REJECT


def _objref(program: Program, its: Attributes) -> Iterator[Term]:
    del program
    if 2 in its:
        yield Count(text_of(its, 2))


def _dynset(program: Program, its: Attributes) -> Iterator[Term]:
    name, key = text_of(its, 1), program.key(number_of(its, 4), text_of(its, 1))
    numbers = tuple(symbol.offset for symbol in key if isinstance(symbol, Number) and symbol.below == 1)
    if len(numbers) != 2 or 6 not in its:
        raise StrangeError(f"an update of {name}")
    yield Remember(name, Numbers(*numbers), round(number_of(its, 6) / 1000))


_READERS: Mapping[str, Callable[[Program, Attributes], Iterator[Term]]] = {
    "payload": _payload,
    "meta": _meta,
    "ct": _ct,
    "fib": _fib,
    "numgen": _numgen,
    "bitwise": _bitwise,
    "byteorder": _byteorder,
    "immediate": _immediate,
    "cmp": compare,
    "range": in_range,
    "lookup": look_up,
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
        protocol = following.protocol if isinstance(following, (Member, GoToFound, Deliver)) else None
        if not (isinstance(term, Speaks) and term.protocol is protocol):
            found.append(term)
    return tuple(found)
