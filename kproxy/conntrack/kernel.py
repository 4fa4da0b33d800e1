"""Speaks with the kernel's conntrack over netlink, and asks it which addresses are the node's.

pyroute2 is imported with the first use only: it is 12 MiB that a node without UDP services can do without.
"""

import errno
import socket
import struct
from collections.abc import Collection, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kproxy.conntrack.flows import ConntrackError, Flow
from kproxy.conntrack.message import LAYOUTS, Dump, RefusedError, answers, release_request
from kproxy.plan.model import Destination
from kproxy.state.model import IPFamily

if TYPE_CHECKING:
    from pyroute2 import IPRoute

_TIMEOUT_SECONDS = 10
"""The kernel answers while it is being asked; if nothing comes for so long, nothing will."""
_DATAGRAM = 65536
"""Twice what the kernel puts into one datagram of a dump."""
_BATCH = 128
"""Flows released with one system call; the answers to all of them must fit the socket's buffer."""
_MOST_SEPARATE_LOOKS = 8
"""For each, the kernel walks its whole table; for more, one look at everything is cheaper."""
_SEQUENCE = 1
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_GET = 1 << 8 | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
_RTN_LOCAL = 2  # linux/rtnetlink.h
_NOT_RELEASED = {
    errno.ENOENT,  # it has ended by itself
    errno.EBUSY,  # handed over to a flow table, which gives it back when the flow pauses
}


def looks(family: IPFamily, destinations: Collection[Destination] | None) -> Collection[Destination | None]:
    """Return what to ask for, to learn of all flows to ``destinations``; None stands for everything."""
    if destinations is None:
        return {None}
    # Kernels (6.18 among them) take an IPv6 address in a filter for the one that is *not* wanted: in ctnetlink_filter_
    # match_tuple(), ipv6_addr_cmp() is the wrong way round. So there the port must do.
    by_port = {port for ip, port in destinations if ip is None or family is IPFamily.IPV6}
    separate: set[Destination | None] = {Destination(None, port) for port in by_port}
    separate |= {destination for destination in destinations if destination.port not in by_port}
    return separate if len(separate) <= _MOST_SEPARATE_LOOKS else {None}


class KernelConntrack:
    """One family's conntrack table in the calling thread's network namespace; open between ``with`` and its end.

    All methods raise ConntrackError.
    """

    def __init__(self, family: IPFamily) -> None:
        from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

        self._family = family
        self._local: dict[str, bool] = {}
        self._routes: IPRoute | None = None
        try:
            self._socket = NFCTSocket()
            timeout = struct.pack("@ll", _TIMEOUT_SECONDS, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        except OSError as err:
            raise ConntrackError(f"no netlink socket: {err.strerror}") from err

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()
        if self._routes is not None:
            self._routes.close()

    def flows(self, destinations: Collection[Destination] | None = None) -> Iterator[Flow]:
        """Yield UDP flows: all, or those that were sent to ``destinations`` and perhaps some more.

        The kernel does the choosing, and is many times as quick at it; one before 5.8 doesn't know how and tells of all
        flows, of every protocol. Read to the end before you ask anything else.
        """
        for destination in looks(self._family, destinations):
            self._send(self._dump_request(destination))
            dump = Dump(self._family)
            while not dump.done:
                yield from dump.flows(self._receive())

    def release(self, flows: Sequence[Flow]) -> int:
        """Delete flows; return how many of them there were left to delete."""
        released = 0
        for first in range(0, len(flows), _BATCH):
            batch = flows[first : first + _BATCH]
            self._send(release_request(self._family, batch))
            released += len(batch) - self._count_missing(last=len(batch))
        return released

    def is_local(self, ip: str) -> bool:
        """Tell whether an address is the node's own, by what the kernel would do with a packet to it."""
        if ip not in self._local:
            self._local[ip] = self._is_local(ip)
        return self._local[ip]

    def _is_local(self, ip: str) -> bool:
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError

        if self._routes is None:
            self._routes = IPRoute()
        try:
            routes = self._routes.route("get", dst=ip, family=LAYOUTS[self._family].address_family)
            return any(route["type"] == _RTN_LOCAL for route in routes)
        except NetlinkError:
            return False  # there is no way to it
        except OSError as err:
            raise ConntrackError(f"asking for the route to {ip}: {err.strerror}") from err

    def _dump_request(self, destination: Destination | None) -> bytes:
        from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, nfct_msg

        ip, port = destination or (None, None)
        family = LAYOUTS[self._family].address_family
        wanted = NFCTAttrTuple(family=family, proto=socket.IPPROTO_UDP, daddr=ip, dport=port)
        wanted.attrs()  # works out the flags
        filters = {"attrs": [["CTA_FILTER_ORIG_FLAGS", wanted.flags]]}
        message = nfct_msg.create_from(tuple_orig=wanted, cta_filter=filters)
        message["nfgen_family"] = family
        message["header"].update(type=_GET, flags=_REQUEST_DUMP, sequence_number=_SEQUENCE)
        message.encode()
        return bytes(message.data)

    def _count_missing(self, last: int) -> int:
        """Read the answers to a batch up to that of its last request; return how many flows were not released."""
        missing = 0
        while True:
            for sequence, code in answers(self._receive()):
                if code and code not in _NOT_RELEASED:
                    raise RefusedError(code)
                missing += bool(code)
                if sequence == last:
                    return missing

    def _send(self, request: bytes) -> None:
        try:
            self._socket.sendto(request, (0, 0))
        except OSError as err:
            raise ConntrackError(f"asking the kernel: {err.strerror}") from err

    def _receive(self) -> bytes:
        try:
            data: bytes = self._socket.recv(_DATAGRAM)
        except BlockingIOError:
            raise ConntrackError(f"no answer from the kernel in {_TIMEOUT_SECONDS} s") from None
        except OSError as err:
            raise ConntrackError(f"reading the kernel's answer: {err.strerror}") from err
        return data
