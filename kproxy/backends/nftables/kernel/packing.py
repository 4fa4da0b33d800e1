"""Packs elements of sets as the kernel has them, many at a time.

A cluster's table may have 100,000 elements, which all come at a start: so column by column is packed, each in one go.
"""

import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any

from kproxy.backends.nftables.rules.ruleset import Column, Key, SetSpec
from kproxy.state.model import IPFamily, Protocol

# Attributes (linux/netfilter/nf_tables.h).
_LIST_ELEMENTS, _LIST_ELEMENT = 3, 1
_KEY, _DATA, _VALUE = 1, 2, 1
_NESTED = 0x8000  # NLA_F_NESTED
_HEADER = 4
_LONGEST = 0xFFFF
"""An attribute tells its length in 16 bits."""

PROTOCOL_NUMBERS = {
    Protocol.TCP: socket.IPPROTO_TCP,
    Protocol.UDP: socket.IPPROTO_UDP,
    Protocol.SCTP: socket.IPPROTO_SCTP,
}
VERSIONS = {IPFamily.IPV4: socket.AF_INET, IPFamily.IPV6: socket.AF_INET6}


def layout(columns: tuple[Column, ...], family: IPFamily) -> str:
    """Return how struct spells a value of some columns, each of which begins at a multiple of four bytes."""
    address = "4s" if family is IPFamily.IPV4 else "16s"
    codes = {Column.PROTOCOL: "B3x", Column.PORT: "H2x", Column.NUMBER: "I"}
    return "".join(codes.get(column, address) for column in columns)


def length(columns: tuple[Column, ...], family: IPFamily) -> int:
    """Return how many bytes such a value takes up; a single column is not filled up."""
    if len(columns) != 1:
        return struct.calcsize(f"={layout(columns, family)}")
    address = 4 if family is IPFamily.IPV4 else 16
    return {Column.PROTOCOL: 1, Column.PORT: 2, Column.NUMBER: 4}.get(columns[0], address)


class Packer:
    """Packs elements of one set, whose keys are no ranges and which leads to no verdicts."""

    def __init__(self, spec: SetSpec, family: IPFamily, *, keys_only: bool = False) -> None:
        """With ``keys_only``, those of a map are only named."""
        data = () if keys_only else spec.data
        self._key, self._data = _converters(spec.columns, family), _converters(data, family)
        key = _nested(_KEY, _attribute(_VALUE, bytes(length(spec.columns, family))))
        leads_to = _nested(_DATA, _attribute(_VALUE, bytes(length(data, family)))) if data else b""
        self._head = _nested(_LIST_ELEMENT, key + leads_to)[: 3 * _HEADER]
        self._middle = leads_to[: 2 * _HEADER]
        middle = f"{len(self._middle)}s"
        self._struct = struct.Struct(f"={len(self._head)}s{layout(spec.columns, family)}{middle}{layout(data, family)}")
        self.most = (_LONGEST - _HEADER) // self._struct.size
        """How many elements fit into one list."""

    def element_list(self, keys: Sequence[Key], data: Sequence[Key] = ()) -> bytes:
        """Return the attribute that lists elements, by their keys and what these lead to."""
        columns = (
            repeat(self._head),
            *_converted(self._key, keys),
            repeat(self._middle),
            *_converted(self._data, data),
        )
        return _nested(_LIST_ELEMENTS, b"".join(map(self._struct.pack, *columns)))


_Converter = Callable[[Iterable[Any]], Iterable[Any]]
"""Makes what struct takes of the values of a column."""


def _converters(columns: tuple[Column, ...], family: IPFamily) -> list[_Converter]:
    def address(texts: Iterable[str]) -> Iterable[bytes]:
        return map(socket.inet_pton, repeat(VERSIONS[family]), texts)

    return [_CONVERTERS.get(column, address) for column in columns]


_CONVERTERS: dict[Column, _Converter] = {
    Column.PROTOCOL: lambda names: map(PROTOCOL_NUMBERS.__getitem__, names),
    Column.PORT: lambda ports: map(socket.htons, ports),
    Column.NUMBER: lambda numbers: numbers,
}


def _converted(converters: Sequence[_Converter], values: Sequence[Key]) -> list[Iterable[Any]]:
    return [convert(column) for convert, column in zip(converters, zip(*values, strict=True), strict=True)]


def _nested(kind: int, data: bytes) -> bytes:
    return _attribute(kind | _NESTED, data)


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", _HEADER + len(data), kind) + data + bytes(-len(data) % 4)
