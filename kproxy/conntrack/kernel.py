"""Speaks with the kernel's conntrack over netlink, and asks it which addresses are the node's.

pyroute2 is imported with the first question about an address only: it takes half a second and 12 MiB, which a node can
do without for as long as nobody is at its node ports.
"""

import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kproxy.conntrack.flows import ConntrackError, Flow
from kproxy.conntrack.looks import Look
from kproxy.conntrack.message import LAYOUTS, Dump, Reader, RefusedError, answers
from kproxy.conntrack.requests import dump_request, inquiry, release_request
from kproxy.state.model import IPFamily

if TYPE_CHECKING:
    from pyroute2 import IPRoute

_TIMEOUT_SECONDS = 10
"""The kernel answers while it is being asked; if nothing comes for so long, nothing will."""
_DATAGRAM = 65536
"""Twice what the kernel puts into one datagram of a dump."""
_BATCH = 128
"""Flows released with one system call; the answers to all of them must fit the socket's buffer."""
_INQUIRIES = 32
"""Likewise for connections, which are asked for once more just before; so few that hardly any time goes by between."""
_NETLINK_NETFILTER = 12
_RTN_LOCAL = 2  # linux/rtnetlink.h
_NOT_RELEASED = {
    errno.ENOENT,  # it has ended by itself
    errno.EBUSY,  # handed over to a flow table, which gives it back when the flow pauses
}
_NO_SUCH_CHOICE = {errno.EINVAL, errno.EOPNOTSUPP}
"""How a kernel may refuse to choose among its flows."""


class KernelConntrack:
    """One family's conntrack table in the calling thread's network namespace; open between ``with`` and its end.

    All methods raise ConntrackError.
    """

    def __init__(self, family: IPFamily) -> None:
        self._family = family
        self._local: dict[str, bool] = {}
        self._routes: IPRoute | None = None
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
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

    def flows(self, look: Look) -> Iterator[Flow]:
        """Yield the flows of a look, and perhaps some more of its protocols.

        The kernel does the choosing, and is many times as quick at it; one that doesn't know how tells of all flows.
        Read to the end before you ask anything else.
        """
        reader = Reader(self._family, look.protocols, answered=look.answered)
        try:
            yield from self._dump(dump_request(self._family, look), reader)
        except RefusedError as error:
            if error.code not in _NO_SUCH_CHOICE:
                raise
            yield from self._dump(dump_request(self._family, None), reader)

    def release(self, flows: Sequence[Flow]) -> int:
        """Delete flows; return how many of them there were left to delete.

        A connection that has been answered meanwhile is left alone.
        """
        lasting = [flow for flow in flows if not flow.is_connection]
        connections = [flow for flow in flows if flow.is_connection]
        released = sum(self._delete(batch) for batch in _batches(lasting, _BATCH))
        return released + sum(self._delete(self._unanswered(batch)) for batch in _batches(connections, _INQUIRIES))

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

    def interface_to(self, ip: str) -> str | None:
        """Return the interface by which the kernel would send to an address; None where there is no way."""
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError

        if self._routes is None:
            self._routes = IPRoute()
        try:
            routes = self._routes.route("get", dst=ip, family=LAYOUTS[self._family].address_family)
            index = next(iter(routes)).get("oif")
            return socket.if_indextoname(index) if index else None
        except (NetlinkError, OSError, StopIteration):
            return None

    def _dump(self, request: bytes, reader: Reader) -> Iterator[Flow]:
        self._send(request)
        dump = Dump(reader)
        while not dump.done:
            yield from dump.flows(self._receive())

    def _unanswered(self, connections: Sequence[Flow]) -> Sequence[Flow]:
        """Ask once more for connections; return those that are there still, and without an answer."""
        self._send(inquiry(self._family, connections))
        reader = Reader(self._family, {flow.protocol for flow in connections})
        found: set[bytes] = set()
        for datagram in self._until_answered(last=len(connections)):
            found.update(flow.handle for flow in reader.flows(datagram))
        return [flow for flow in connections if flow.handle in found]

    def _delete(self, flows: Sequence[Flow]) -> int:
        """Delete some flows with one system call; return how many there were left to delete."""
        if not flows:
            return 0
        self._send(release_request(self._family, flows))
        missing = 0
        for datagram in self._until_answered(last=len(flows)):
            missing += sum(bool(code) for _, code in answers(datagram))
        return len(flows) - missing

    def _until_answered(self, last: int) -> Iterator[bytes]:
        """Yield what the kernel says to a batch, up to its answer to the last request."""
        while True:
            datagram = self._receive()
            yield datagram
            for sequence, code in answers(datagram):
                if code and code not in _NOT_RELEASED:
                    raise RefusedError(code)
                if sequence == last:
                    return

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


def _batches(flows: Sequence[Flow], size: int) -> Iterator[Sequence[Flow]]:
    for first in range(0, len(flows), size):
        yield flows[first : first + size]
