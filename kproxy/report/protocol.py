"""Speaks HTTP/1.1 on connections that somebody else has accepted, with h11, which knows the grammar and does no I/O.

All that kproxy serves is read-only and small: requests have no body worth reading, and answers are made whole.
"""

import asyncio
import functools
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote, urlsplit

import h11

from kproxy import logs
from kproxy.faults.containment import survived

log = logs.get("http")

_IDLE_SECONDS = 30.0
"""How long a connection may be without a whole request."""

_NOT_MODIFIED = 304

_OWN_PATHS = frozenset(
    {
        "/healthz",
        "/livez",
        "/readyz",
        "/metrics",
        "/proxyMode",
        "/configz",
        "/statusz",
        "/flagz",
        "/",
        "/base.css",
        "/base.js",
        "/page.css",
        "/page.js",
        "/page.json",
    }
)
"""Paths that may be told in the log and in metrics; any other may be anything."""


class Request(NamedTuple):
    """What a page may want to know of a request."""

    path: str
    """Without the query, and decoded."""
    port: int
    """The local port it came in by."""
    accept: str = ""
    """The Accept header."""
    query: str = ""
    """As it came, without the question mark."""
    if_none_match: str = ""
    """The If-None-Match header: the ETag of what the client has already."""


class Response(NamedTuple):
    """An answer."""

    status: int
    body: str | bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = {}
    close: bool = False
    """Whether to end the connection after it."""


Page: TypeAlias = Callable[[Request], Response]


class Protocol:
    """Answers all requests with one page, on so many connections at a time at ``most``; closes what comes beyond.

    To be used on the event loop's thread, and called for each connection. ``inline`` pages are asked on the loop itself
    and must answer at once; others get a thread.
    """

    def __init__(self, page: Page, *, inline: bool, most: int) -> None:
        self.page = page
        self.inline = inline
        self._most = most
        self._connections: set[_Connection] = set()

    def __call__(self) -> asyncio.Protocol:
        """Take up a connection."""
        return _Connection(self, self._connections) if len(self._connections) < self._most else _Refusal()

    async def shut_down(self, seconds: float) -> None:
        """Close all connections; those with an answer under way may take so long to finish."""
        for connection in list(self._connections):
            connection.finish()
        if busy := [connection.answering for connection in self._connections if connection.answering]:
            await asyncio.wait(busy, timeout=seconds)
        for connection in list(self._connections):
            connection.abort()


class _Refusal(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        log.routine("closed a connection at once, as there are too many", client=transport.get_extra_info("peername"))
        transport.close()


class _Connection(asyncio.Protocol):
    """One connection: requests one after the other, each answered before the next is looked at."""

    def __init__(self, protocol: Protocol, connections: "set[_Connection]") -> None:
        self._protocol = protocol
        self._connections = connections
        self._http = h11.Connection(h11.SERVER)
        self._transport: asyncio.Transport
        self._idle: asyncio.TimerHandle | None = None
        self._request: h11.Request | None = None
        self._last = False
        self.answering: asyncio.Task[None] | None = None

    # --- what asyncio calls ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what streams have
        self._transport = transport
        self._connections.add(self)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._connections.discard(self)
        self._stop_waiting()
        if self.answering is not None:
            self.answering.cancel()

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._go_on()

    def eof_received(self) -> bool:
        self._http.receive_data(b"")
        self._go_on()
        return True  # there may be an answer to write still; `_go_on` closes

    # --- requests --------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Close, after the answer that is under way."""
        self._last = True
        if self.answering is None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _go_on(self) -> None:
        """Take in events until there is a whole request, or nothing more."""
        while self.answering is None and not self._transport.is_closing():
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                self._refuse(error)
                return
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            if isinstance(event, h11.ConnectionClosed):
                self._transport.close()
            elif isinstance(event, h11.Request):
                self._request = event
            elif isinstance(event, h11.EndOfMessage) and self._request is not None:
                self._stop_waiting()
                self.answering = asyncio.get_running_loop().create_task(self._answer(self._request))

    def _refuse(self, error: h11.RemoteProtocolError) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._send(Response(error.error_status_hint, "this is not HTTP as kproxy knows it\n", close=True))
        self._transport.close()

    async def _answer(self, request: h11.Request) -> None:
        response = await self._ask(request)
        if self._transport.is_closing():
            return
        with_body = request.method != b"HEAD"
        self._send(response, with_body=with_body)
        self.answering = None
        if self._http.our_state is not h11.DONE or self._last:
            self._transport.close()
            return
        self._http.start_next_cycle()
        self._wait()
        self._go_on()

    async def _ask(self, request: h11.Request) -> Response:
        if request.method not in (b"GET", b"HEAD"):
            return Response(405, "only GET and HEAD\n", headers={"Allow": "GET, HEAD"})
        try:
            asked = self._asked(request)
        except ValueError:
            return Response(400, "this is no address of a page\n", close=True)
        if self._protocol.inline:
            return _made(self._protocol.page, asked)
        # Making the metrics of a large cluster takes a while, and health checks can't wait.
        work = functools.partial(_made, self._protocol.page, asked)
        return await asyncio.get_running_loop().run_in_executor(None, work)

    def _asked(self, request: h11.Request) -> Request:
        """Raises ValueError for a target that makes no sense."""
        target = urlsplit(request.target.decode("ascii"))
        name = self._transport.get_extra_info("sockname")
        headers = {bytes(header): bytes(value).decode("latin-1") for header, value in reversed(list(request.headers))}
        accept, tag = headers.get(b"accept", ""), headers.get(b"if-none-match", "")
        return Request(unquote(target.path), name[1] if name else 0, accept, target.query, tag)

    def _send(self, response: Response, *, with_body: bool = True) -> None:
        body = response.body.encode() if isinstance(response.body, str) else response.body
        headers = {
            "Content-Type": response.content_type,
            **({} if response.status == _NOT_MODIFIED else {"Content-Length": str(len(body))}),
            "Date": formatdate(usegmt=True),
            "Server": "kproxy",
            "X-Content-Type-Options": "nosniff",
            **({"Connection": "close"} if response.close or self._last else {}),
            **response.headers,
        }
        head = h11.Response(status_code=response.status, headers=list(headers.items()))
        sent = [self._http.send(head)]
        if with_body and body:
            sent.append(self._http.send(h11.Data(data=body)))
        sent.append(self._http.send(h11.EndOfMessage()))
        self._transport.write(b"".join(part for part in sent if part))

    # --- patience --------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        self._idle = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._transport.close)

    def _stop_waiting(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None


def _made(page: Page, request: Request) -> Response:
    try:
        return page(request)
    except Exception as error:  # other pages are as well as before
        part = f"page {request.path}" if request.path in _OWN_PATHS else "page"
        survived(part, error, "Error handling request; all other pages are as before")
        return Response(500, "kproxy failed to make this page; its log says why\n", close=True)
