"""As much of netlink as it takes to read what nf_tables holds, to hear what changes, and to add elements to sets.

libnftables can do all that, but makes text of it, or takes text: 80 µs an element to read, 17 to add, which is seconds
for a large table. Here a table of 50,000 elements is read in half a second and written in less; what is not an element
is left to libnftables.

Layouts: linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h. Integers inside attributes are
big-endian, those of headers are not.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kproxy.backends.nftables.kernel.errors import KernelRefusedError, NetlinkError, NoNftablesError
from kproxy.state.model import IPFamily

_NETLINK_NETFILTER = 12
_SOL_NETLINK = 270
_ADD_MEMBERSHIP = 1
_NFTABLES_GROUP = 7  # NFNLGRP_NFTABLES
_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES

# Message types within the subsystem.
NEW_TABLE, GET_TABLE, DEL_TABLE = 0, 1, 2
NEW_CHAIN, GET_CHAIN, DEL_CHAIN = 3, 4, 5
NEW_RULE, GET_RULE, DEL_RULE = 6, 7, 8
NEW_SET, GET_SET, DEL_SET = 9, 10, 11
NEW_ELEMENT, GET_ELEMENT, DEL_ELEMENT = 12, 13, 14
NEW_GENERATION, GET_GENERATION = 15, 16
NEW_OBJECT, GET_OBJECT, DEL_OBJECT = 18, 19, 20

TABLE_ATTRIBUTE = 1
"""The number of the attribute that names the table, the same in messages of all kinds."""

_REQUEST, _ACK, _DUMP, _CREATE = 0x1, 0x4, 0x300, 0x400
_ERROR, _DONE = 2, 3
_BATCH_BEGIN, _BATCH_END = 16, 17  # NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END
_INTERRUPTED = 0x10  # NLM_F_DUMP_INTR
_HEADER = struct.Struct("=IHHII")
_NFGEN = struct.Struct("=BBH")
_BODY = _HEADER.size + _NFGEN.size
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER

FAMILY_NUMBERS = {IPFamily.IPV4: 2, IPFamily.IPV6: 10}
"""NFPROTO_IPV4, NFPROTO_IPV6: what nf_tables calls the families ip and ip6."""

_BUFFER = 1 << 20
_WIDE_BUFFER = 4 << 20
_DUMP_ATTEMPTS = 10


class Message(NamedTuple):
    """One message about nf_tables."""

    kind: int
    family: int
    body: memoryview
    """Its attributes."""


def attributes(data: memoryview) -> dict[int, memoryview]:
    """Return a message's or nested attribute's attributes by number; the last of several of a kind."""
    return dict(each_attribute(data))


def each_attribute(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield a message's or nested attribute's attributes."""
    at, end = 0, len(data)
    unpack = _ATTRIBUTE.unpack_from
    while at + 4 <= end:
        length, kind = unpack(data, at)
        yield kind & _TYPE_MASK, data[at + 4 : at + length]
        at += length + 3 & ~3


def text(value: memoryview) -> str:
    """Return the value of an attribute that is a string."""
    return bytes(value).rstrip(b"\0").decode()


def number(value: memoryview) -> int:
    """Return the value of an attribute that is an integer, of whatever size."""
    return int.from_bytes(value, "big")


def attribute(kind: int, value: str) -> bytes:
    """Return an attribute that is a string."""
    data = value.encode() + b"\0"
    return _ATTRIBUTE.pack(len(data) + 4, kind) + data + bytes(-len(data) % 4)


def _messages(data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Yield type, flags and all of each message in what one receive call brought."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, flags, _, _ = _HEADER.unpack_from(data, at)
        yield kind, flags, data[at : at + length]
        at += length + 3 & ~3


def _message(kind: int, whole: memoryview) -> Message:
    return Message(kind & 0xFF, whole[_HEADER.size], whole[_BODY:])


class Reader:
    """Asks nf_tables what it holds, in the network namespace it was made in. Not thread-safe."""

    def __init__(self) -> None:
        """Raises NoNftablesError where there is no nf_tables, or no permission to ask."""
        self._socket = _open()
        _widen(self._socket, *_RECEIVING)

    def dump(self, kind: int, family: int, body: bytes = b"") -> list[Message]:
        """Return all objects of a kind, as they were at one moment; none where the table is not there.

        Raises NetlinkError.
        """
        for _ in range(_DUMP_ATTEMPTS):
            try:
                found = self._dump_once(kind, family, body)
            except NetlinkError as error:
                if error.code == errno.ENOENT:
                    return []
                if error.code not in (errno.EINTR, errno.EAGAIN):
                    raise
                found = None
            if found is not None:
                return found
        raise NetlinkError("reading the table, which others keep changing", errno.EAGAIN)

    def _dump_once(self, kind: int, family: int, body: bytes) -> list[Message] | None:
        self._send(kind, family, body, _REQUEST | _DUMP)
        found: list[Message] = []
        interrupted = False
        while True:
            for message_kind, flags, whole in _messages(self._receive()):
                interrupted = interrupted or bool(flags & _INTERRUPTED)
                if message_kind in (_ERROR, _DONE):
                    _raise_for(whole)
                    return None if interrupted else found
                found.append(_message(message_kind, whole))

    def ask(self, kind: int, family: int, body: bytes) -> list[Message]:
        """Return the objects that a request names. Raises NetlinkError, with ENOENT where there is no such one."""
        self._send(kind, family, body, _REQUEST | _ACK)
        found: list[Message] = []
        while True:
            for message_kind, _, whole in _messages(self._receive()):
                if message_kind in (_ERROR, _DONE):
                    _raise_for(whole)
                    return found
                found.append(_message(message_kind, whole))

    def generation(self) -> int:
        """Return the number that grows by one with each transaction, anybody's, in this network namespace."""
        self._send(GET_GENERATION, 0, b"", _REQUEST)
        for message_kind, _, whole in _messages(self._receive()):
            if message_kind == _ERROR:
                _raise_for(whole)
            return number(attributes(_message(message_kind, whole).body)[1])  # NFTA_GEN_ID
        raise NetlinkError("asking for the generation", errno.ENODATA)

    def _send(self, kind: int, family: int, body: bytes, flags: int) -> None:
        self._socket.send(_request(_SUBSYSTEM << 8 | kind, flags, _NFGEN.pack(family, 0, 0) + body))

    def _receive(self) -> memoryview:
        try:
            return memoryview(self._socket.recv(_BUFFER))
        except OSError as error:
            raise NetlinkError("reading", error.errno or errno.EIO) from None

    def close(self) -> None:
        """Close it."""
        self._socket.close()


def _raise_for(whole: memoryview) -> None:
    """Raise NetlinkError if a closing message tells of one."""
    (code,) = struct.unpack_from("=i", whole, _HEADER.size)
    if code:
        raise NetlinkError("reading", -code)


class Writer:
    """Adds elements to sets, in the network namespace it was made in. Not thread-safe."""

    def __init__(self) -> None:
        """Raises NoNftablesError where there is no nf_tables."""
        self._socket = _open()
        _widen(self._socket, *_SENDING)

    def add_elements(self, family: int, bodies: Sequence[bytes]) -> None:
        """Add elements in one transaction; each body names table and set, and lists some. Raises KernelRefusedError.

        After that it is of no more use: there may be more answers than the first.
        """
        batch, about = _NFGEN.pack(0, 0, socket.htons(_SUBSYSTEM)), _NFGEN.pack(family, 0, 0)
        kind, flags = _SUBSYSTEM << 8 | NEW_ELEMENT, _REQUEST | _CREATE
        *others, last = (about + body for body in bodies)
        messages = [_request(_BATCH_BEGIN, _REQUEST, batch)]
        messages += [_request(kind, flags, body) for body in others]
        messages.append(_request(kind, flags | _ACK, last))  # before Linux 6.10 the end of a batch is not answered
        messages.append(_request(_BATCH_END, _REQUEST, batch))
        try:
            self._socket.send(b"".join(messages))
            _, _, whole = next(_messages(memoryview(self._socket.recv(_BUFFER))))
            _raise_for(whole)
        except (OSError, NetlinkError) as error:
            code = (error.code if isinstance(error, NetlinkError) else error.errno) or errno.EIO
            raise KernelRefusedError(f"adding elements: {os.strerror(code)}") from None

    def close(self) -> None:
        """Close it."""
        self._socket.close()


class Notices:
    """What nf_tables tells everybody who listens: all that any transaction changes (as ``nft monitor`` shows)."""

    def __init__(self) -> None:
        """Raises NoNftablesError where there is no nf_tables, or no permission to listen."""
        self._socket = _open()
        _widen(self._socket, *_RECEIVING)
        try:
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFTABLES_GROUP)
        except OSError as error:
            self._socket.close()
            raise NoNftablesError(str(NetlinkError("listening", error.errno or errno.EIO))) from None
        self._socket.setblocking(False)

    def pending(self) -> Iterator[Message]:
        """Yield all that has been said and not been heard yet. Raises NoticesLost."""
        while True:
            try:
                data = self._socket.recv(_BUFFER)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    raise NoticesLost from None
                raise NetlinkError("listening", error.errno or errno.EIO) from None
            for kind, _, whole in _messages(memoryview(data)):
                if kind >> 8 == _SUBSYSTEM:
                    yield _message(kind, whole)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


class NoticesLost(Exception):  # noqa: N818  (an event rather than an error)
    """More was said than the socket could hold."""


_SENDING, _RECEIVING = (32, socket.SO_SNDBUF), (33, socket.SO_RCVBUF)
"""SO_SNDBUFFORCE and SO_RCVBUFFORCE, each with what is left without the privilege for it."""


def _request(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body


def _widen(opened: socket.socket, *options: int) -> None:
    for option in options:
        try:
            opened.setsockopt(socket.SOL_SOCKET, option, _WIDE_BUFFER)
            return
        except OSError:
            continue


def _open() -> socket.socket:
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    except OSError as error:
        reason = os.strerror(error.errno or errno.EIO)
        raise NoNftablesError(f"nftables: no netlink socket: {reason}; is nf_tables in the kernel?") from None
    opened.bind((0, 0))
    return opened
