"""Listening sockets. They may be open before there is a server: who connects meanwhile waits in the kernel for it."""

import errno
import socket
from collections.abc import Iterable

from kproxy.config import BindAddress
from kproxy.faults.containment import explain

BACKLOG = 128


class BindError(Exception):
    """A port could not be opened; the text says which one, why, and what to do."""


class Ports:
    """Sockets that wait for a server. For one thread at a time."""

    def __init__(self) -> None:
        self._open: dict[BindAddress, socket.socket] = {}

    def open(self, addresses: Iterable[BindAddress | None]) -> bool:
        """Open ports, as far as that can be done; tell whether it could for all of them."""
        complete = True
        for address in addresses:
            try:
                if address is not None:
                    self._open[address] = open_socket(address)
            except BindError:  # the server will try again, and say so
                complete = False
        return complete

    def take(self, address: BindAddress) -> socket.socket:
        """Return the socket of a port, opened earlier or now. Raises BindError."""
        return self._open.pop(address, None) or open_socket(address)

    def close(self) -> None:
        """Close those that nobody has taken."""
        while self._open:
            self._open.popitem()[1].close()


def open_socket(bind: BindAddress) -> socket.socket:
    """Listen at an address. The empty host means every address of both families, as far as the machine has them.

    Raises BindError.
    """
    if bind.host:
        family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
        return _listen(family, bind.host, bind)
    try:
        return _listen(socket.AF_INET6, "::", bind, both_families=True)
    except BindError as error:
        if getattr(error.__cause__, "errno", None) not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
    return _listen(socket.AF_INET, "0.0.0.0", bind)  # noqa: S104 - the machine has no IPv6


def _listen(family: int, host: str, bind: BindAddress, *, both_families: bool = False) -> socket.socket:
    listener: socket.socket | None = None
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not both_families))
        listener.bind((host, bind.port))
        listener.listen(BACKLOG)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise BindError(_explain(bind, error)) from error
    listener.setblocking(False)
    return listener


def _explain(bind: BindAddress, error: OSError) -> str:
    remedy = {
        errno.EADDRINUSE: f"already in use; see who has it with: ss -ltnp sport = :{bind.port}",
        errno.EADDRNOTAVAIL: "the machine does not have this address",
        errno.EACCES: "not permitted; ports below 1024 need CAP_NET_BIND_SERVICE",
        errno.EMFILE: explain(error),
        errno.ENFILE: explain(error),
    }.get(error.errno or 0, error.strerror or str(error))
    return f"can't listen at {bind}: {remedy}"
