"""The thread in which a server answers: its event loop, its listening socket, and the end of both.

A runner lives from one start to one stop. What it listens with can be exchanged while open connections go on: that is
how a server refuses, or swallows, new connections only.
"""

import asyncio
import concurrent.futures
import functools
import ssl
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

from aiohttp import web

from tests.kit.apiserver.certs import KeyPair
from tests.kit.apiserver.responder import Responder, reset

Mode: TypeAlias = Literal["answer", "refuse", "black hole"]

_PATIENCE = 30.0  # seconds for the thread to do what it was asked to
_BACKLOG = 1024


class Runner:
    """A running server.

    ``make_responder`` is called in the new thread's event loop.

    Raises:
        OSError: the address can't be had.
    """

    def __init__(
        self, address: str, port: int, context: ssl.SSLContext | None, make_responder: Callable[[], Responder]
    ) -> None:
        self.address = address
        self.port = port
        self._context = context
        self._make_responder = make_responder
        self._listener: asyncio.Server | None = None
        self._silent: set[asyncio.BaseTransport] = set()
        started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main(started)), name="apiserver", daemon=True)
        self._thread.start()
        started.result(_PATIENCE)

    def call(self, function: Callable[[Responder], None]) -> None:
        """Have the server's thread do something with the responder, and wait until it is done."""

        async def called() -> None:
            function(self._responder)

        asyncio.run_coroutine_threadsafe(called(), self._loop).result(_PATIENCE)

    def listen(self, mode: Mode) -> None:
        """Do something else with new connections."""
        asyncio.run_coroutine_threadsafe(self._listen(mode), self._loop).result(_PATIENCE)

    def cut(self) -> None:
        """Reset all open connections."""
        self.call(lambda _: self._cut())

    def stop(self) -> None:
        """Cut all connections and end the thread."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(_PATIENCE)

    async def _main(self, started: "concurrent.futures.Future[None]") -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._responder = self._make_responder()
        self._web_server = web.Server(self._responder.handle, handler_cancellation=True, access_log=None)
        try:
            await self._listen("answer")
        except OSError as error:
            started.set_exception(error)
            return
        started.set_result(None)
        await self._stopping.wait()
        await self._listen("refuse")
        self._cut()
        await self._web_server.shutdown(timeout=1)

    async def _listen(self, mode: Mode) -> None:
        if self._listener is not None:
            # asyncio forgets a connection, open as it is, that it took up just before its listener is closed (in
            # `_accept_connection2`, since the listener is needed once more). So it takes up no more first.
            for sock in self._listener.sockets:
                self._loop.remove_reader(sock.fileno())
            await asyncio.sleep(0)
            self._listener.close()
            self._listener = None
            await asyncio.sleep(0)  # the socket is closed in the loop's next round
        if mode == "answer":
            await self._open(self._web_server, self._context)
        elif mode == "black hole":
            await self._open(lambda: _Silent(self._silent), None)

    async def _open(self, factory: Callable[[], asyncio.Protocol], context: ssl.SSLContext | None) -> None:
        self._listener = await self._loop.create_server(factory, self.address, self.port, ssl=context, backlog=_BACKLOG)
        self.port = self._listener.sockets[0].getsockname()[1]

    def _cut(self) -> None:
        for connection in self._web_server.connections:
            reset(connection.transport)
        for transport in list(self._silent):
            reset(transport)


class _Silent(asyncio.Protocol):
    """A connection on which nothing ever comes back."""

    def __init__(self, all_silent: set[asyncio.BaseTransport]) -> None:
        self._all = all_silent

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._all.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._all.discard(self._transport)


@functools.cache
def server_context(pair: KeyPair, authority: bytes) -> ssl.SSLContext:
    """TLS for HTTP/1.1, with client certificates of the authority's accepted but not demanded; shared by servers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:  # the ssl module takes certificates of one's own from files alone
        path = Path(folder) / "pair.pem"
        path.write_bytes(pair.key + pair.certificate)
        context.load_cert_chain(path)
    context.load_verify_locations(cadata=authority.decode())
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context
