"""Just enough SCTP to see where a Service sends an association: INIT there, INIT ACK back, over raw sockets.

Netfilter translates SCTP on every kernel that Kubernetes runs on, but many kernels come without SCTP *sockets*, so the
lab makes the first two packets of the handshake itself. The answer rides in the INIT ACK's state cookie, which is the
server's to fill. Source: RFC 9260, sections 3.1 (common header), 3.3.2 (INIT), 3.3.3 (INIT ACK), appendix A (CRC32c).

Where the kernel has SCTP sockets and somebody has loaded them, it answers such an INIT with an ABORT of its own as
well; the ABORT is passed over here.
"""

import secrets
import struct
from typing import NamedTuple

PROTOCOL_NUMBER = 132
INIT, INIT_ACK = 1, 2
_STATE_COOKIE = 7
_WINDOW, _STREAMS = 65535, 1

_HEADER = struct.Struct("!HHI")  # source port, destination port, verification tag; the checksum follows
_CHUNK = struct.Struct("!BBH")  # type, flags, length
_INIT_BODY = struct.Struct("!IIHHI")  # initiate tag, window, streams out and in, first sequence number
_BODY_AT = _HEADER.size + 4 + _CHUNK.size
_COOKIE_AT = _BODY_AT + _INIT_BODY.size + 4


class Packet(NamedTuple):
    """An INIT or INIT ACK, taken apart. `cookie` is empty in an INIT."""

    chunk: int
    source_port: int
    destination_port: int
    verification_tag: int
    initiate_tag: int
    cookie: bytes


def _crc32c_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc32c_table()


def crc32c(data: bytes) -> int:
    """The checksum of SCTP."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def new_tag() -> int:
    """A tag for one's own side of an association: never zero."""
    return secrets.randbelow(2**32 - 1) + 1


def encode(packet: Packet) -> bytes:
    """The bytes that follow the IP header."""
    cookie = packet.cookie and struct.pack("!HH", _STATE_COOKIE, 4 + len(packet.cookie)) + packet.cookie
    body = _INIT_BODY.pack(packet.initiate_tag, _WINDOW, _STREAMS, _STREAMS, 1) + cookie
    padding = bytes(-len(body) % 4)
    chunk = _CHUNK.pack(packet.chunk, 0, _CHUNK.size + len(body)) + body + padding
    header = _HEADER.pack(packet.source_port, packet.destination_port, packet.verification_tag)
    checksum = struct.pack("<I", crc32c(header + bytes(4) + chunk))
    return header + checksum + chunk


def decode(data: bytes) -> Packet | None:
    """Take apart what followed the IP header; None if it is no whole INIT or INIT ACK or its checksum is wrong."""
    if len(data) < _BODY_AT + _INIT_BODY.size:
        return None
    checksum = struct.pack("<I", crc32c(data[: _HEADER.size] + bytes(4) + data[_HEADER.size + 4 :]))
    chunk, _, length = _CHUNK.unpack_from(data, _HEADER.size + 4)
    if chunk not in (INIT, INIT_ACK) or data[_HEADER.size : _HEADER.size + 4] != checksum:
        return None
    initiate_tag, *_ = _INIT_BODY.unpack_from(data, _BODY_AT)
    end = _HEADER.size + 4 + length
    source_port, destination_port, verification_tag = _HEADER.unpack_from(data)
    return Packet(chunk, source_port, destination_port, verification_tag, initiate_tag, data[_COOKIE_AT:end])


def payload(datagram: bytes, family_is_v6: bool) -> bytes:
    """What a raw socket received, without the IP header that it shows for IPv4 and does not for IPv6."""
    return datagram if family_is_v6 else datagram[4 * (datagram[0] & 0x0F) :]
