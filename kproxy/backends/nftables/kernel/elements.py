"""Takes the elements of sets out of the kernel's messages.

A table may have 100,000 elements that count, and they are read at every scrape of the metrics. So those are taken
straight from the bytes where these look as usual, and attribute by attribute where they do not.
"""

import ipaddress
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

from kproxy.backends.nftables.kernel.netlink import attributes, each_attribute, number, text
from kproxy.backends.nftables.kernel.packing import PROTOCOL_NUMBERS, VERSIONS, layout
from kproxy.backends.nftables.rules.ruleset import Column, Data, Found, Key, SetSpec
from kproxy.state.model import IPFamily

# Attributes (linux/netfilter/nf_tables.h).
_LIST_SET, _LIST_ELEMENTS = 2, 3
_KEY, _DATA, _EXPRESSION, _KEY_END = 1, 2, 7, 10
_VALUE, _VERDICT = 1, 2
_VERDICT_CHAIN = 2
_EXPRESSION_DATA = 2
_COUNTER_PACKETS = 2

_HEADER = 4
_COUNTER_SIZE = 4 + 12 + 4 + 12 + 12
"""The attribute of a counter: its header, with the number; the name "counter"; header of the data; bytes; packets."""
_COUNTER_LAYOUT = f"{_COUNTER_SIZE}x"
_COUNTER_ATTRIBUTES = {struct.pack("=H", _EXPRESSION | flag) for flag in (0, 0x8000)}  # with NLA_F_NESTED or without
_LITTLE = sys.byteorder == "little"


def split_message(body: memoryview) -> tuple[str, memoryview]:
    """Return a set's name and its elements, for an `ElementReader`, from the body of a message about elements."""
    its = attributes(body)
    return text(its[_LIST_SET]), its.get(_LIST_ELEMENTS, memoryview(b""))


class ElementReader:
    """Reads the elements of one set."""

    def __init__(self, spec: SetSpec, family: IPFamily) -> None:
        self._spec = spec
        self._key, self._data = _Values(spec.columns, family), _Values(spec.data, family)
        values = f"8x{self._key.layout}" + (f"8x{self._data.layout}" if spec.data else "")
        self._usual = struct.Struct(f"={values}{_COUNTER_LAYOUT}" if spec.counted else f"={values}")
        self._has_usual = len(spec.columns) > 1 and not (spec.ranges or spec.verdicts or spec.remembers)

    def read(self, elements: memoryview, *, at_least: int = 0) -> Iterator[Found]:
        """Yield elements that have counted at least so many packets."""
        raw = bytes(elements)
        at, end, usual = 0, len(raw), self._usual.size + _HEADER
        while at + _HEADER <= end:
            length = raw[at] | raw[at + 1] << 8 if _LITTLE else raw[at] << 8 | raw[at + 1]
            if self._has_usual and length == usual:
                found = self._take(raw, at + _HEADER, at_least)
            else:
                found = self._dissect(memoryview(raw)[at + _HEADER : at + length])
            if found is not None and found.packets >= at_least:
                yield found
            at += length + 3 & ~3

    def _take(self, raw: bytes, at: int, at_least: int) -> Found | None:
        """Return the element at a place in the usual form; None if it has counted too little."""
        size = self._usual.size
        packets = 0
        if self._spec.counted:
            attribute = at + size - _COUNTER_SIZE + 2
            if raw[attribute : attribute + 2] not in _COUNTER_ATTRIBUTES:
                return self._dissect(memoryview(raw)[at : at + size])
            packets = int.from_bytes(raw[at + size - 8 : at + size], "big")
            if packets < at_least:
                return None
        values = self._usual.unpack_from(raw, at)
        columns = len(self._spec.columns)
        return Found(self._key.convert(values[:columns]), self._leads_to(values[columns:]), packets)

    def _leads_to(self, values: tuple[Any, ...]) -> Data:
        return self._data.convert(values) if self._spec.data else None

    def _dissect(self, element: memoryview) -> Found:
        its = attributes(element)
        key = self._key.read(attributes(its[_KEY])[_VALUE])
        if self._spec.ranges:
            end = self._key.read(attributes(its[_KEY_END])[_VALUE]) if _KEY_END in its else key
            key = (*key[:-1], _prefix(str(key[-1]), str(end[-1])))
        data: Data = None
        if self._spec.verdicts:
            data = (text(attributes(attributes(its[_DATA])[_VERDICT])[_VERDICT_CHAIN]),)
        elif self._spec.data:
            data = self._data.read(attributes(its[_DATA])[_VALUE])
        packets = 0
        if self._spec.counted and _EXPRESSION in its:
            counter = attributes(attributes(its[_EXPRESSION])[_EXPRESSION_DATA])
            packets = number(counter[_COUNTER_PACKETS])
        return Found(key, data, packets)


def packets_of_last(body: memoryview) -> int:
    """Return what the last element of a message has counted, which is at its very end in the usual form."""
    if bytes(body[-_COUNTER_SIZE + 2 : -_COUNTER_SIZE + 4]) in _COUNTER_ATTRIBUTES:
        return int.from_bytes(body[-8:], "big")
    *_, (_, element) = each_attribute(split_message(body)[1])
    its = attributes(element)
    if _EXPRESSION not in its:
        return 0
    return number(attributes(attributes(its[_EXPRESSION])[_EXPRESSION_DATA])[_COUNTER_PACKETS])


def _prefix(first: str, last: str) -> str:
    """Return a range of addresses as a prefix, or as a range if it is none, which kproxy never makes."""
    one, other = ipaddress.ip_address(first), ipaddress.ip_address(last)
    bits = one.max_prefixlen - (int(one) ^ int(other)).bit_length()
    network = ipaddress.ip_network(f"{first}/{bits}", strict=False)
    whole = network.network_address == one and network.broadcast_address == other
    return str(network) if whole else f"{first}-{last}"


class _Values:
    """The values of some columns, as the kernel packs them."""

    def __init__(self, columns: tuple[Column, ...], family: IPFamily) -> None:
        self.layout = layout(columns, family)
        self._struct = struct.Struct(f"={self.layout}")
        version = VERSIONS[family]
        converters: dict[Column, Callable[[Any], str | int]] = {
            Column.PROTOCOL: _protocol,
            Column.PORT: socket.ntohs,
            Column.NUMBER: int,
        }
        self._converters = [converters.get(column, lambda raw: socket.inet_ntop(version, raw)) for column in columns]

    def read(self, data: memoryview) -> Key:
        """Return the values in ``data``; a single one is not padded."""
        return self.convert(self._struct.unpack(bytes(data).ljust(self._struct.size, b"\0")))

    def convert(self, raw: tuple[Any, ...]) -> Key:
        """Return the values that ``raw`` stands for."""
        return tuple([to(value) for to, value in zip(self._converters, raw, strict=True)])


def _protocol(raw: int) -> str:
    return str(_PROTOCOLS.get(raw, raw))


_PROTOCOLS = {number: protocol for protocol, number in PROTOCOL_NUMBERS.items()}
