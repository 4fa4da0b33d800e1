"""The kernel's bytes: reads flows out of its answers, and writes what is asked of it.

pyroute2 decodes every attribute of every entry into objects of its own, and takes 150 to 250 µs for each; this takes 3.
Layout: linux/netfilter/nfnetlink_conntrack.h (which is ABI) and ctnetlink_fill_info() in the kernel's
net/netfilter/nf_conntrack_netlink.c, which always writes a tuple's attributes in the same order:

    nlmsghdr, nfgenmsg
    CTA_TUPLE_ORIG     the first packet's:  IP { source, destination }, PROTO { number, source port, destination port }
    CTA_TUPLE_REPLY    the answers': likewise
    CTA_ZONE           only if it is not the default one
    CTA_STATUS         bits, among them whether there was an answer
    …                  timeout, counters
    CTA_ID             tells an entry from most later ones with the same addresses and ports
"""

import errno
import struct
from collections.abc import Collection, Iterator

import msgspec

from kproxy.conntrack.flows import PROTOCOL_NUMBERS, ConntrackError, Flow
from kproxy.state.model import IPFamily, Protocol

# linux/netlink.h
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_DUMP_INTERRUPTED = 0x10
_NLA_TYPE = 0x3FFF

# linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h: subsystem and message type
_ENTRY = 1 << 8 | 0  # IPCTNL_MSG_CT_NEW
_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _ID, _ZONE = 1, 2, 3, 12, 18
SEEN_REPLY = 1 << 1  # of nf_conntrack_common.h: IPSSEEN_REPLY, in the last byte of a big-endian word

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port id
FAMILY_HEADER = struct.Struct("=BBH")  # address family, version, resource id
ATTRIBUTE = struct.Struct("=HH")  # length, type
_CODE = struct.Struct("=i")


class TupleLayout(msgspec.Struct, frozen=True):
    """Where things lie in one family's tuple attribute."""

    address_family: int
    size: int
    source: slice
    destination: slice
    protocol: int
    source_port: slice
    destination_port: slice


def _tuple_layout(address_family: int, width: int) -> TupleLayout:
    """Add up: two nested headers, then each address, then a nested header and three attributes padded to 8 bytes."""
    source = 4 + 4 + 4
    destination = source + width + 4
    protocol = destination + width + 4 + 4
    return TupleLayout(
        address_family,
        protocol + 20,
        slice(source, source + width),
        slice(destination, destination + width),
        protocol,
        slice(protocol + 8, protocol + 10),
        slice(protocol + 16, protocol + 18),
    )


LAYOUTS = {IPFamily.IPV4: _tuple_layout(2, 4), IPFamily.IPV6: _tuple_layout(10, 16)}  # AF_INET, AF_INET6


class RefusedError(ConntrackError):
    """The kernel's answer is an error; ``code`` is its errno."""

    def __init__(self, code: int) -> None:
        super().__init__(_REMEDIES.get(code, errno.errorcode.get(code, f"error {code}")))
        self.code = code


_REMEDIES = {
    errno.EPERM: "the kernel does not permit it; give the capability CAP_NET_ADMIN",
    errno.EINVAL: "the kernel does not know the request; is its module nf_conntrack_netlink there?",
    errno.EOPNOTSUPP: "the kernel lacks conntrack's netlink interface; load its module nf_conntrack_netlink",
}


class Reader:
    """Reads one family's entries of some protocols; of connections only those without an answer, unless told else."""

    def __init__(self, family: IPFamily, protocols: Collection[Protocol], *, answered: bool = False) -> None:
        self._layout = LAYOUTS[family]
        self._answered = answered
        self._protocols = {PROTOCOL_NUMBERS[protocol]: protocol for protocol in protocols}

    def flows(self, datagram: bytes) -> Iterator[Flow]:
        """Yield a datagram's flows; what else is in it is passed over."""
        for kind, _, _, start, end in messages(datagram):
            if kind == _ENTRY and (flow := self.flow(datagram, start, end)) is not None:
                yield flow

    def flow(self, data: bytes, start: int, end: int) -> Flow | None:
        """Return the flow that an entry tells of; None if it is not one to tell, or not in the default zone."""
        layout = self._layout
        original = reply = b""
        protocol: Protocol | None = None
        offset = start + FAMILY_HEADER.size
        while offset < end:
            length, kind = ATTRIBUTE.unpack_from(data, offset)
            kind &= _NLA_TYPE
            if kind == _TUPLE_ORIG:
                original = data[offset : offset + length]
                protocol = self._protocols.get(original[layout.protocol]) if length == layout.size else None
                if protocol is None:
                    return None
            elif kind == _TUPLE_REPLY:
                reply = data[offset : offset + length]
            elif kind == _ZONE:
                # kproxy's rules put nothing into a zone: this is somebody else's idea of the network.
                return None
            elif kind == _STATUS:
                if data[offset + 7] & SEEN_REPLY and protocol is not Protocol.UDP and not self._answered:
                    return None
            elif kind == _ID:
                return self._assemble(protocol, original, reply, data[offset : offset + length])
            offset += length + 3 & ~3 or ATTRIBUTE.size
        return None

    def _assemble(self, protocol: Protocol | None, original: bytes, reply: bytes, entry_id: bytes) -> Flow | None:
        layout = self._layout
        if protocol is None or len(reply) != layout.size:
            return None
        return Flow(
            protocol,
            original[layout.source],
            original[layout.destination] + original[layout.destination_port],
            reply[layout.source] + reply[layout.source_port],
            original + entry_id,
        )


class Dump:
    """An answer that comes in many datagrams; `done` after the last."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.done = False

    def flows(self, datagram: bytes) -> Iterator[Flow]:
        """Yield a datagram's flows, those that the reader reads.

        Raises:
            RefusedError: the kernel refuses to tell.
            ConntrackError: the table was changed so that the answer has gaps; or the bytes make no sense.
        """
        for kind, flags, _, start, end in messages(datagram):
            if flags & _DUMP_INTERRUPTED:
                raise ConntrackError("the table changed while it was being read")
            if kind == _ENTRY:
                flow = self._reader.flow(datagram, start, end)
                if flow is not None:
                    yield flow
            elif kind in (_NLMSG_ERROR, _NLMSG_DONE):
                self.done = True
                (code,) = _CODE.unpack_from(datagram, start)
                if code:
                    raise RefusedError(-code)


def answers(datagram: bytes) -> Iterator[tuple[int, int]]:
    """Yield (sequence number, errno or 0) for each request that a datagram answers."""
    for kind, _, sequence, start, _ in messages(datagram):
        if kind == _NLMSG_ERROR:
            (code,) = _CODE.unpack_from(datagram, start)
            yield sequence, -code


def messages(datagram: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield (type, flags, sequence number, where its content begins, and ends) of each message."""
    offset = 0
    while offset < len(datagram):
        length, kind, flags, sequence, _ = HEADER.unpack_from(datagram, offset)
        if length < HEADER.size:
            raise ConntrackError("a netlink message shorter than its header")
        end = offset + length
        yield kind, flags, sequence, offset + HEADER.size, end
        offset = end + 3 & ~3
