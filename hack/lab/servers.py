"""The programs in the pods: each tells who it is and whom it saw, then repeats what it is told until closed.

The first line a client gets is ``NAME ADDRESS PORT``: the server's name, and the client's address and port as the
server sees them, so after whatever the nodes between have rewritten. That is all a test needs to know which pod a
Service picked and whether the client's address was kept.

* TCP: the line at once on connecting, then an echo. ``nc 10.244.0.11 8080`` in a namespace shows it.
* UDP: the line in answer to every datagram.
* SCTP: the line in the cookie of the INIT ACK, see `hack.lab.sctp`.

All servers of a lab share one thread and one event loop. They need no process of their own, because a listening socket
stays in the namespace in which it was made (see `hack.lab.namespaces`).
"""

import asyncio
import socket
import threading
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from hack.lab import sctp
from hack.lab.errors import LabError

T = TypeVar("T")
BACKLOG = 1024
DATAGRAM_LIMIT = 65536

# A Service's protocols as arguments of socket().
SOCKET_KINDS = {
    "TCP": (socket.SOCK_STREAM, 0),
    "UDP": (socket.SOCK_DGRAM, 0),
    "SCTP": (socket.SOCK_RAW, sctp.PROTOCOL_NUMBER),
}


class ServerThread:
    """The event loop that all servers of a lab run in."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="lab servers", daemon=True)
        self._thread.start()

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop, wait for its end, and return what it returns."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def close(self) -> None:
        """End the thread. The servers must have been closed."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Server:
    """One name listening on one port of one machine, on each of the machine's addresses."""

    def __init__(self, name: str, port: int, thread: ServerThread) -> None:
        self.name = name
        self.port = port
        self.answered = 0  # connections, datagrams or INITs so far
        self._thread = thread
        self._listeners: list[_Closable] = []
        self._being_accepted: set[asyncio.Future[Any]] = set()
        self._open: set[asyncio.Transport] = set()
        self._all_closed = asyncio.Event()

    @property
    def connections(self) -> int:
        """How many TCP connections are open now."""
        return len(self._open)

    def listen(self, sockets: list[socket.socket], protocol: str) -> None:
        """Serve on sockets that are bound already; they belong to this server from now on."""
        self._thread.do(self._listen(sockets, protocol))

    def drain(self, timeout: float = 30.0) -> bool:
        """End as a well-behaved pod does: take no new connection, wait for the open ones to end, then close.

        True if they all ended by themselves within `timeout` seconds. While a pod is merely *terminating*, leave it
        alone: it must go on answering until the proxies have heard of it.
        """
        return self._thread.do(self._drain(timeout))

    def close(self) -> None:
        """End at once, as if killed; open connections are cut."""
        self._thread.do(self._close())

    def greeting(self, client: tuple[Any, ...]) -> bytes:
        """The line that answers a client, given its socket address."""
        self.answered += 1
        return f"{self.name} {client[0]} {client[1]}\n".encode()

    def accepted(self, connection: socket.socket) -> None:
        """Serve a TCP connection that the kernel has set up."""
        task = asyncio.ensure_future(self._thread.loop.connect_accepted_socket(lambda: _TCP(self), connection))
        self._being_accepted.add(task)
        task.add_done_callback(self._being_accepted.discard)

    def opened(self, connection: asyncio.Transport) -> None:
        """Take note of a new TCP connection."""
        self._open.add(connection)

    def closed(self, connection: asyncio.Transport) -> None:
        """Take note of the end of a TCP connection."""
        self._open.discard(connection)
        if not self._open:
            self._all_closed.set()

    async def _listen(self, sockets: list[socket.socket], protocol: str) -> None:
        loop = asyncio.get_running_loop()
        for sock in sockets:
            sock.setblocking(False)
            if protocol == "TCP":
                self._listeners.append(_Listener(self, sock))
            elif protocol == "UDP":
                transport, _ = await loop.create_datagram_endpoint(lambda: _UDP(self), sock=sock)
                self._listeners.append(transport)
            else:
                self._listeners.append(_SCTP(self, sock))

    async def _stop_listening(self) -> None:
        while self._listeners:
            self._listeners.pop().close()
        await asyncio.gather(*self._being_accepted)
        await asyncio.sleep(0)  # transports let go of their sockets in the loop's next round

    async def _drain(self, timeout: float) -> bool:
        await self._stop_listening()
        self._all_closed.clear()
        try:
            if self._open:
                await asyncio.wait_for(self._all_closed.wait(), timeout)
        except TimeoutError:
            return False
        finally:
            await self._close()
        return True

    async def _close(self) -> None:
        await self._stop_listening()
        for connection in self._open:
            connection.abort()
        await asyncio.sleep(0)


class _Closable(Protocol):
    def close(self) -> None: ...


class _Listener:
    """One listening TCP socket.

    asyncio's own server forgets a connection that comes in while it is being closed, and the client waits for ever.
    This one accepts whatever the kernel has already set up, then closes.
    """

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self._server = server
        self._socket = sock
        sock.listen(BACKLOG)
        asyncio.get_running_loop().add_reader(sock, self._accept_all)

    def _accept_all(self) -> None:
        try:
            while True:
                self._server.accepted(self._socket.accept()[0])
        except (BlockingIOError, ConnectionAbortedError):
            return

    def close(self) -> None:
        self._accept_all()
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


class _TCP(asyncio.Protocol):
    """One connection: greet, then echo."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.opened(transport)
        transport.write(self._server.greeting(transport.get_extra_info("peername")))

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._server.closed(self._transport)


class _UDP(asyncio.DatagramProtocol):
    """One socket: every datagram is answered on its own."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:  # noqa: ARG002
        self._transport.sendto(self._server.greeting(addr), addr)


class _SCTP:
    """One raw socket: every INIT for the server's port is answered."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self._server = server
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock, self._readable)

    def _readable(self) -> None:
        datagram, client = self._socket.recvfrom(DATAGRAM_LIMIT)
        init = sctp.decode(sctp.payload(datagram, self._socket.family == socket.AF_INET6))
        if init is None or init.chunk != sctp.INIT or init.destination_port != self._server.port:
            return
        cookie = self._server.greeting((client[0], init.source_port))
        answer = sctp.Packet(
            sctp.INIT_ACK, self._server.port, init.source_port, init.initiate_tag, sctp.new_tag(), cookie
        )
        self._socket.sendto(sctp.encode(answer), (client[0], 0))

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


def bound_socket(address: str, port: int, protocol: str) -> socket.socket:
    """A socket of the calling thread's namespace, bound to `address` and ready to be given to `Server.listen`.

    `protocol` is TCP, UDP or SCTP as a Service spells it. Raises LabError where the address or port cannot be had.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind, number = SOCKET_KINDS[protocol]
    sock = socket.socket(family, kind, number)
    try:
        if protocol == "TCP":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, 0 if protocol == "SCTP" else port))
    except OSError as error:
        sock.close()
        raise LabError(f"cannot listen on {address} port {port}/{protocol}: {error.strerror}") from None
    return sock
