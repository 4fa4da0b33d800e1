"""Takes the elements of sets out of the kernel's messages.

A table may have 100,000 elements that count, and they are read at every scrape of the metrics. So those are taken
straight from the bytes where these look as usual, and attribute by attribute where they do not.
"""

import ipaddress
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from kproxy.backends.nftables.netlink import attributes, each_attribute, number, text
from kproxy.backends.nftables.ruleset import Column, Data, Key, SetSpec
from kproxy.state.model import IPFamily, Protocol

# Attributes (linux/netfilter/nf_tables.h).
_LIST_SET, _LIST_ELEMENTS = 2, 3
_KEY, _DATA, _EXPRESSION, _KEY_END = 1, 2, 7, 10
_VALUE, _VERDICT = 1, 2
_VERDICT_CHAIN = 2
_EXPRESSION_DATA = 2
_COUNTER_PACKETS = 2

_COUNTER_LAYOUT = "2xH 12x 4x 4x8x 4x8s"
"""The attribute of a counter: its header, with the number; the name "counter"; header of the data; bytes; packets."""


class Found(NamedTuple):
    """One element with what it has counted."""

    key: Key
    data: Data
    packets: int


def split_message(body: memoryview) -> tuple[str, memoryview]:
    """Return a set's name and its elements, for an `ElementReader`, from the body of a message about elements."""
    its = attributes(body)
    return text(its[_LIST_SET]), its.get(_LIST_ELEMENTS, memoryview(b""))


class ElementReader:
    """Reads the elements of one set."""

    def __init__(self, spec: SetSpec, family: IPFamily) -> None:
        self._spec = spec
        self._key, self._data = _Values(spec.columns, family), _Values(spec.data, family)
        behind_key = f"8x{self._data.layout}" if spec.data else ""
        self._usual = struct.Struct(f"=8x{self._key.layout}{behind_key}{_COUNTER_LAYOUT}")

    def read(self, elements: memoryview, *, at_least: int = 0) -> Iterator[Found]:
        """Yield elements that have counted at least so many packets."""
        usual, columns = self._usual, len(self._spec.columns)
        counted = self._spec.counted and not self._spec.verdicts and not self._spec.ranges
        for _, element in each_attribute(elements):
            if counted and len(element) == usual.size:
                *values, attribute, raw_packets = usual.unpack(element)
                if attribute & 0x3FFF == _EXPRESSION:
                    packets = int.from_bytes(raw_packets, "big")
                    if packets >= at_least:
                        data = self._data.convert(values[columns:]) if self._spec.data else None
                        yield Found(self._key.convert(values[:columns]), data, packets)
                    continue
            found = self._dissect(element)
            if found.packets >= at_least:
                yield found

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


def _prefix(first: str, last: str) -> str:
    """Return a range of addresses as a prefix, or as a range if it is none, which kproxy never makes."""
    one, other = ipaddress.ip_address(first), ipaddress.ip_address(last)
    bits = one.max_prefixlen - (int(one) ^ int(other)).bit_length()
    network = ipaddress.ip_network(f"{first}/{bits}", strict=False)
    whole = network.network_address == one and network.broadcast_address == other
    return str(network) if whole else f"{first}-{last}"


class _Values:
    """The values of some columns, as the kernel packs them: each begins at a multiple of four."""

    def __init__(self, columns: tuple[Column, ...], family: IPFamily) -> None:
        address = "4s" if family is IPFamily.IPV4 else "16s"
        codes = {Column.PROTOCOL: "B3x", Column.PORT: "2s2x", Column.NUMBER: "I"}
        self.layout = "".join(codes.get(column, address) for column in columns)
        self._struct = struct.Struct(f"={self.layout}")
        version = socket.AF_INET if family is IPFamily.IPV4 else socket.AF_INET6
        converters: dict[Column, Callable[[Any], str | int]] = {
            Column.PROTOCOL: _protocol,
            Column.PORT: _port,
            Column.NUMBER: int,
        }
        self._converters = [converters.get(column, lambda raw: socket.inet_ntop(version, raw)) for column in columns]

    def read(self, data: memoryview) -> Key:
        """Return the values in ``data``; a single one is not padded."""
        return self.convert(list(self._struct.unpack(bytes(data).ljust(self._struct.size, b"\0"))))

    def convert(self, raw: list[Any]) -> Key:
        """Return the values that ``raw`` stands for."""
        return tuple([to(value) for to, value in zip(self._converters, raw, strict=True)])


def _port(raw: bytes) -> int:
    return raw[0] << 8 | raw[1]


def _protocol(raw: int) -> str:
    return str(_PROTOCOLS.get(raw, raw))


_PROTOCOLS = {socket.IPPROTO_TCP: Protocol.TCP, socket.IPPROTO_UDP: Protocol.UDP, socket.IPPROTO_SCTP: Protocol.SCTP}
