"""What stands in the registers while a rule of the kernel's is read back: symbols instead of a packet's bytes.

The numbers are those of linux/netfilter/nf_tables.h.
"""

import ipaddress
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from kproxy.backends.nftables.rules.ruleset import (
    Accept,
    Column,
    GoTo,
    Jump,
    Term,
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

COLUMNS = {column.value: column for column in Column}


class StrangeError(Exception):
    """An expression that makes no sense here; its text names it."""


class Program:
    """The registers of one rule as far as it has been read, and the protocol it has asked for."""

    def __init__(self, family: IPFamily, tables: Tables) -> None:
        self.family = family
        self.tables = tables
        self.registers: dict[int, Symbol] = {}
        self.protocol: Protocol | None = None
        self.width = 4 if family is IPFamily.IPV4 else 16

    def set(self, register: int, symbol: Symbol) -> None:
        """Load a register, by the kernel's number: 1 to 4 for 16 bytes each, from 8 on for 4 bytes."""
        self.registers[_slot(register)] = symbol

    def get(self, register: int) -> Symbol:
        """Return what a register holds."""
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


def number_of(its: Attributes, kind: int, otherwise: int | None = None) -> int:
    """Return an attribute as a number, or ``otherwise``. Raises KeyError where it is missing and must be there."""
    if kind not in its and otherwise is not None:
        return otherwise
    return int.from_bytes(its[kind], "big")


def text_of(its: Attributes, kind: int) -> str:
    """Return an attribute as text. Raises KeyError where it is missing."""
    return bytes(its[kind]).rstrip(b"\0").decode()


def value_of(program: Program, data: memoryview) -> bytes:
    """Return the bytes that an attribute of type nft_data wraps."""
    return bytes(program.tables.nested(data)[1])


def integer(data: bytes, order: str) -> int:
    """Return bytes as a number, in ``order`` ``big`` or ``host``."""
    return int.from_bytes(data, "big" if order == "big" else sys.byteorder)


def address_of(family: IPFamily, raw: bytes) -> str:
    """Return an address of 4 or 16 bytes as text. Raises ValueError where there are more or fewer."""
    return str(ipaddress.IPv4Address(raw) if family is IPFamily.IPV4 else ipaddress.IPv6Address(raw))


def spoken(program: Program, columns: Sequence[Column]) -> Protocol | None:
    """Return the protocol whose ports the columns speak of, where none of them says so itself."""
    return program.protocol if Column.PORT in columns and Column.PROTOCOL not in columns else None
