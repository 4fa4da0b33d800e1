"""The sockets: UDP for what is short, TCP for what is not (RFC 7766), and the way to those who know other names."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

import dns.asyncquery
import dns.exception
import dns.message
from dns.asyncbackend import get_default_backend
from dns.message import Message
from dns.name import Name
from dns.rdatatype import RdataType

from hack.tour.dns.answers import LARGEST_DATAGRAM, Ask, parse, respond
from hack.tour.dns.zone import Zone

PORT = 53
WITHOUT_EDNS = 512  # bytes that a client takes by UDP if it does not say how many
ASK_TIMEOUT = 2.0  # seconds that one of the others has
IDLE_TIMEOUT = 10.0  # seconds that a TCP connection may be silent


def others(addresses: Sequence[str]) -> Ask | None:
    """Those who are asked for other names, one after the other. None if there are none."""
    if not addresses:
        return None

    async def ask(name: Name, kind: RdataType) -> Message | None:
        query = dns.message.make_query(name, kind)
        for address in addresses:
            host, _, port = address.rpartition("#") if "#" in address else (address, "", str(PORT))
            try:
                async with await _connected(host, int(port)) as sock:
                    found, _ = await dns.asyncquery.udp_with_fallback(
                        query, host, ASK_TIMEOUT, port=int(port), udp_sock=sock
                    )
            except (dns.exception.DNSException, OSError, EOFError):
                continue
            return found
        return None

    return ask


async def _connected(host: str, port: int) -> Any:
    """A socket that only speaks with one: by it one hears at once that nobody listens there."""
    family = socket.AF_INET if ip_address(host).version == 4 else socket.AF_INET6
    backend: Any = get_default_backend()  # its methods have no types
    return await backend.make_socket(family, socket.SOCK_DGRAM, 0, None, (host, port))


class _Datagrams(asyncio.DatagramProtocol):
    """UDP: each datagram is a query."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        task = asyncio.ensure_future(self._answer(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, data: bytes, addr: tuple[str, int]) -> None:
        query = parse(data)
        if query is not None:
            limit = min(query.payload, LARGEST_DATAGRAM) if query.edns >= 0 else WITHOUT_EDNS
            response = await self._server.respond(query)
            wire = response.to_wire(max_size=max(limit, WITHOUT_EDNS), prefer_truncation=True)
            self._transport.sendto(wire, addr)


class Server:
    """Answers for one zone. `zone` is called for each query: what it returns may change at any time."""

    def __init__(self, zone: Callable[[], Zone], ask: Ask | None) -> None:
        self._zone = zone
        self._ask = ask

    async def respond(self, query: Message) -> Message:
        """The response to one query."""
        return await respond(query, self._zone(), self._ask)

    async def listen(self, address: str, port: int) -> int:
        """Listen on both protocols, and return the port: any free one for 0."""
        family = socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
        loop = asyncio.get_running_loop()
        while True:
            tcp = await asyncio.start_server(self._connected, address, port, family=family)
            bound = int(tcp.sockets[0].getsockname()[1])
            try:
                await loop.create_datagram_endpoint(lambda: _Datagrams(self), (address, bound))
            except OSError as error:
                tcp.close()
                if port == 0 and error.errno == errno.EADDRINUSE:
                    continue  # a port that is free for TCP need not be so for UDP
                raise
            return bound

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """TCP: queries one after the other, each with its length before it."""
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            while True:
                async with asyncio.timeout(IDLE_TIMEOUT):
                    length = int.from_bytes(await reader.readexactly(2))
                    query = parse(await reader.readexactly(length))
                if query is None:
                    break
                wire = (await self.respond(query)).to_wire()
                writer.write(len(wire).to_bytes(2) + wire)
                await writer.drain()
        writer.close()
