"""The one HTTP server of kproxy: in one background thread, with any number of addresses.

What is served is said in plain values: `Routes` map a path to a function that returns a `Response`. All of it is
read-only and small, so requests have no body, answers are made whole, and GET and HEAD are all there is.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, TypeAlias, TypeVar

from kproxy import logs
from kproxy.config import BindAddress
from kproxy.faults.containment import survived
from kproxy.report.ports import BACKLOG, BindError, Ports
from kproxy.report.protocol import Page, Protocol, Request, Response

log = logs.get("http")

RETRY_SECONDS = 5.0
"""How long to wait before trying again to open a port: kube-proxy's interval."""
_AT_ONCE = 4
_STOP_SECONDS = 0.5
"""How long answers under way may take when the servers stop: all of kproxy is to end within a second."""

T = TypeVar("T")


Routes: TypeAlias = Mapping[str, Page]


class HttpServers:
    """All listeners, on one event loop in one thread. Methods may be called from any other thread."""

    def __init__(self, most_clients: int = 256, ports: Ports | None = None) -> None:
        """Make the loop; each protocol (see there) has no more connections at a time than ``most_clients``.

        ``ports`` are those that are open already.
        """
        self._most_clients = most_clients
        self._ports = ports or Ports()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_survive)
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._protocols: list[Protocol] = []
        self._listeners: set[asyncio.Server] = set()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Close all listeners and connections, and end the thread."""
        if not self._thread.is_alive():
            return
        with contextlib.suppress(TimeoutError):  # a page that hangs must not keep kproxy from ending
            self.submit(self._shut_down()).result(_STOP_SECONDS * 2)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_SECONDS)

    def serve(
        self,
        name: str,
        bind: BindAddress | None,
        routes: Routes,
        *,
        hard_fail: bool = False,
        failed: Callable[[str], None] = lambda _: None,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """Serve pages at an address; None serves nothing.

        Where the port can't be opened: tells ``failed`` why; raises BindError with ``hard_fail``, else says so in the
        log and tries again until it can.
        """
        if bind is None:
            return
        protocol = self.protocol(routes_handler(routes), inline=False)
        try:
            self.call(self._open(name, bind, protocol))
        except BindError as error:
            failed(str(error))
            if hard_fail:
                raise
            log.warning("a port could not be opened; trying again", server=name, problem=error, seconds=retry_seconds)
            self.submit(self._keep_trying(name, bind, protocol, retry_seconds))

    def protocol(self, page: Page, *, inline: bool) -> Protocol:
        """Return what speaks HTTP on the connections of any listener and answers all requests with ``page``.

        ``inline`` pages are asked on the loop itself and must answer at once; others get a thread.
        """
        made = Protocol(page, inline=inline, most=self._most_clients)
        self._protocols.append(made)
        return made

    async def listen(self, protocol: Protocol, bind: BindAddress) -> asyncio.Server:
        """Listen at an address, with a protocol made before. To be awaited on the loop (see `submit`).

        Raises BindError.
        """
        opened = self._ports.take(bind)
        # The event loop takes up as many connections at once as may wait, each with a descriptor, before the first of
        # them can be refused. So it is told of few, and the kernel of more.
        listener = await self._loop.create_server(protocol, sock=opened, backlog=_AT_ONCE)
        opened.listen(BACKLOG)
        self._listeners.add(listener)
        return listener

    async def close(self, listener: asyncio.Server) -> None:
        """Stop listening; whoever was taken up by then is answered. To be awaited on the loop."""
        self._listeners.discard(listener)
        # asyncio forgets a connection, open as it is, that it took up just before its listener is closed (in
        # `_accept_connection2`, since the listener is needed once more). So it takes up no more first.
        for sock in listener.sockets:
            self._loop.remove_reader(sock.fileno())
        await asyncio.sleep(0)
        listener.close()

    def submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run a coroutine on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a short coroutine on the loop and wait for its result."""
        return self.submit(work).result(10.0)

    async def _open(self, name: str, bind: BindAddress, protocol: Protocol) -> None:
        await self.listen(protocol, bind)
        log.info("serving", server=name, address=bind)

    async def _keep_trying(self, name: str, bind: BindAddress, protocol: Protocol, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await self._open(name, bind, protocol)
            except BindError as error:
                log.warning("a port still can't be opened", server=name, problem=error)
            else:
                return

    async def _shut_down(self) -> None:
        for listener in list(self._listeners):
            await self.close(listener)
        await asyncio.gather(*(protocol.shut_down(_STOP_SECONDS) for protocol in self._protocols))
        current = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not current]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()


def _survive(_loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """Hear of what went wrong on the loop with nobody to tell: a connection that could not be accepted, say."""
    error = context.get("exception")
    if isinstance(error, BaseException):
        survived("http", error)
    else:
        log.routine("something went wrong on the event loop", message=context.get("message"))


def routes_handler(routes: Routes) -> Page:
    """Return the page that passes each request on to the one that its path names, or answers 404."""

    def handle(request: Request) -> Response:
        page = routes.get(request.path)
        if page is None:
            return Response(404, f"no such page; there are: {' '.join(_listed(routes))}\n")
        return page(request)

    return handle


def _listed(routes: Iterable[str]) -> list[str]:
    return sorted(routes)
