"""The async side: one coroutine per request, which writes its answer out, or whatever a fault makes of it.

aiohttp parses requests and frames bodies; everything below the frames (when bytes go out, how many, whether the
connection is reset) is decided here. Runs in the server's event loop; other threads come in through
`Responder.wake_soon` alone.
"""

import asyncio
import contextlib
import socket
import struct
import zlib
from collections.abc import Collection, Iterable
from typing import cast

import msgspec
from aiohttp import web

from tests.kit.apiserver.faults import BodyFault, Cut, End, FaultTable, Hang, Mangler, Pause, Send, Status
from tests.kit.apiserver.requestlog import Request, RequestLog
from tests.kit.apiserver.rest import api
from tests.kit.apiserver.rest.api import Answer, Call, Settings
from tests.kit.apiserver.rest.status import ApiError, invalid_options
from tests.kit.apiserver.rest.store import ExpiredError, Store
from tests.kit.apiserver.rest.watching import Frame, Watch

# As recorded: short answers bear their length, longer ones come in chunks.
_CHUNKED_FROM = 4096
_SLICE = 256 * 1024
_GZIP_FROM = 128 * 1024  # a real server compresses lists beyond this, for clients that ask for it
_LAST_BOOKMARK = 2.0  # seconds before the end of a watch at which a real server sends a bookmark
_PRETTY_AGENTS = ("curl/", "Wget/", "Mozilla/")


class AnswerOverError(Exception):
    """The answer has ended, or was cut off, on a fault's behalf."""


class Stream:
    """One open watch, as far as others may touch it."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.pending: list[Frame] = []  # to be sent before anything newer
        self.ending = False
        self.woken = asyncio.Event()


class Responder:
    """Answers requests from one store."""

    def __init__(
        self, store: Store, settings: Settings, tokens: Collection[str], faults: FaultTable, requests: RequestLog
    ) -> None:
        self._store = store
        self._settings = settings
        self._tokens = tokens
        self._faults = faults
        self._requests = requests
        self._streams: set[Stream] = set()
        self._loop = asyncio.get_running_loop()
        self._wake_scheduled = False
        self.thawed = asyncio.Event()  # cleared: nobody gets a byte
        self.thawed.set()

    def wake_soon(self) -> None:
        """Have all watches look at the store. Callable from any thread; many calls are one."""
        if not self._wake_scheduled:
            self._wake_scheduled = True
            with contextlib.suppress(RuntimeError):  # the loop has just been closed: nobody is left to be woken
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._wake_scheduled = False
        for stream in self._streams:
            stream.woken.set()

    def send_bookmarks(self) -> None:
        """Queue a bookmark at the present version on every watch that wants them."""
        for stream in self._streams:
            with contextlib.suppress(ExpiredError):  # the stream will find out by itself, and say so
                stream.pending += stream.watch.bookmark()
            stream.woken.set()

    def end_watches(self) -> None:
        """End all watches in good order."""
        for stream in self._streams:
            stream.ending = True
            stream.woken.set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request: the handler for aiohttp's server."""
        await self.thawed.wait()
        call = api.read_call(
            request.method, request.path, dict(request.query), request.content_type, await request.read()
        )
        user = self._user(request, call)
        self._note(request, call, user)
        fault = self._faults.take(call.target.kind.plural, call.verb, call.query) if call.target is not None else None
        if isinstance(fault, Hang):
            await _pause(fault.seconds)
        writer = _Writer(request, self.thawed, fault if isinstance(fault, BodyFault) else None)
        with contextlib.suppress(AnswerOverError):
            await self._respond(writer, call, user, fault if isinstance(fault, Status) else None)
        return writer.response

    async def _respond(self, writer: "_Writer", call: Call, user: str, fault: Status | None) -> None:
        try:
            if fault is not None:
                details = {"causes": [{"reason": fault.cause}]} if fault.cause else None
                raise ApiError(
                    fault.code, fault.message, retry_after=fault.retry_after, reason=fault.reason, details=details
                )
            if not user:
                raise ApiError(401)
            result = api.answer(self._store, self._settings, call)
            if isinstance(result, Watch):
                await self._stream(writer, call, result)
                return
        except ApiError as error:
            result = Answer.of_error(error)
        await writer.whole(result, compressible=call.verb == "list")

    async def _stream(self, writer: "_Writer", call: Call, watch: Watch) -> None:
        deadline = self._loop.time() + _timeout(call, self._settings)
        stream = Stream(watch)
        try:
            frames = watch.start()
        except ExpiredError as error:
            if self._settings.gone_by_status:
                raise ApiError(410, f"too old resource version: {call.query.get('resourceVersion')}") from error
            await writer.start_stream()
            await writer.frames([watch.expired(error)])
            await writer.end()
            return
        # Registered before anything is awaited: what happens from now on is either in the store or wakes the stream.
        self._streams.add(stream)
        resource = call.target.kind.plural if call.target is not None else ""
        self._requests.watch_opened(resource)
        try:
            await writer.start_stream()
            await writer.frames(frames)
            await self._follow(writer, stream, deadline)
        finally:
            self._streams.discard(stream)
            self._requests.watch_opened(resource, -1)
        await writer.end()

    async def _follow(self, writer: "_Writer", stream: Stream, deadline: float) -> None:
        over = False
        bookmark_at = self._next_bookmark(deadline)
        while not over:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(deadline, bookmark_at)):
                    await stream.woken.wait()
            stream.woken.clear()
            now = self._loop.time()
            over = stream.ending or now >= deadline  # but not before what is there has been sent
            frames, stream.pending = stream.pending, []
            try:
                frames += stream.watch.bookmark() if now >= bookmark_at else stream.watch.poll()
            except ExpiredError as error:
                frames.append(stream.watch.expired(error))
                over = True
            if now >= bookmark_at:
                bookmark_at = self._next_bookmark(deadline)
            await writer.frames(frames)

    def _next_bookmark(self, deadline: float) -> float:
        period = self._settings.bookmark_period
        if period is None:
            return float("inf")
        now = self._loop.time()
        last = deadline - _LAST_BOOKMARK
        return min(now + period, last) if last > now else now + period

    def _user(self, request: web.BaseRequest, call: Call) -> str:
        """Who asks: by token or client certificate; "" if neither is good."""
        if self._settings.anonymous or call.path in api.HEALTH_PATHS:
            return "system:anonymous"
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return "system:serviceaccount:kube-system:kproxy" if token.strip() in self._tokens else ""
        peer = request.get_extra_info("peercert") or {}
        names = [value for part in peer.get("subject", ()) for key, value in part if key == "commonName"]
        return names[0] if names else ""

    def _note(self, request: web.BaseRequest, call: Call, user: str) -> None:
        resource = call.target.kind.plural if call.target is not None else ""
        agent = request.headers.get("User-Agent", "")
        headers = tuple((str(name), value) for name, value in request.headers.items())
        query, body = call.query, call.body
        self._requests.add(Request(call.method, call.path, resource, call.verb, query, agent, user, headers, body))


class _Writer:
    """Writes one answer, frame by frame, through the fault that it may have met."""

    def __init__(self, request: web.BaseRequest, thawed: asyncio.Event, fault: BodyFault | None) -> None:
        self._request = request
        self._thawed = thawed
        self._faulty = fault is not None
        self._mangler = Mangler(fault)
        self.response = web.StreamResponse()

    async def whole(self, result: Answer, *, compressible: bool) -> None:
        """Write an answer that is no stream."""
        headers = {"Content-Type": result.content_type, "Cache-Control": "no-cache, private"}
        if result.retry_after is not None:
            headers["Retry-After"] = str(result.retry_after)
        body = self._prettied(result.body) if result.content_type == "application/json" else result.body
        accepted = self._request.headers.get("Accept-Encoding", "")
        if compressible and len(body) > _GZIP_FROM and "gzip" in accepted:
            headers["Content-Encoding"] = "gzip"
            body = await asyncio.to_thread(_gzip, body)
        self.response = web.StreamResponse(status=result.code, headers=headers)
        if len(body) < _CHUNKED_FROM and not self._faulty:
            self.response.content_length = len(body)
        await self._prepare()
        await self.frames([Frame("BODY", body)])
        await self.end()

    async def start_stream(self) -> None:
        """Write the headers of a watch."""
        headers = {"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        self.response = web.StreamResponse(headers=headers)
        await self._prepare()

    async def frames(self, frames: Iterable[Frame]) -> None:
        """Write some frames.

        Raises:
            AnswerOverError: a fault has ended the answer.
        """
        if not self._faulty:
            await self._send(b"".join([frame.data for frame in frames]))
            return
        for frame in frames:
            for action in self._mangler.actions(frame):
                await self._act(action)

    async def end(self) -> None:
        """End the answer in good order."""
        await self._thawed.wait()
        await self.response.write_eof()

    async def _prepare(self) -> None:
        await self._thawed.wait()
        await self.response.prepare(self._request)
        for action in self._mangler.opening():
            await self._act(action)

    async def _act(self, action: Send | Pause | End | Cut) -> None:
        if isinstance(action, Send):
            await self._send(action.data)
        elif isinstance(action, Pause):
            await _pause(action.seconds)
        elif isinstance(action, End):
            await self.end()
            raise AnswerOverError
        else:
            reset(self._request.transport)
            raise AnswerOverError

    async def _send(self, data: bytes) -> None:
        for start in range(0, len(data), _SLICE):
            await self._thawed.wait()
            await self.response.write(data[start : start + _SLICE])

    def _prettied(self, body: bytes) -> bytes:
        """Indented for those who read it with their own eyes, else on one line: as a real server decides."""
        agent, wish = self._request.headers.get("User-Agent", ""), self._request.query.get("pretty", "")
        pretty = wish.lower() in ("true", "1") or (not wish and agent.startswith(_PRETTY_AGENTS))
        return msgspec.json.format(body, indent=2) if pretty else body + b"\n"


def reset(transport: asyncio.BaseTransport | None) -> None:
    """Close a connection with RST instead of FIN."""
    if transport is None:
        return
    sock = cast(socket.socket | None, transport.get_extra_info("socket"))
    if sock is not None:
        with contextlib.suppress(OSError):  # closed already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    cast(asyncio.WriteTransport, transport).abort()


async def _pause(seconds: float | None) -> None:
    if seconds is None:
        await asyncio.get_running_loop().create_future()  # until the client leaves or the server stops
    else:
        await asyncio.sleep(seconds)


def _gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(1, wbits=31)
    return packer.compress(body) + packer.flush()


def _timeout(call: Call, settings: Settings) -> float:
    wanted = call.query.get("timeoutSeconds", "")
    if wanted and not wanted.isdigit():
        raise invalid_options("timeoutSeconds", f"invalid value {wanted!r}")
    return float(wanted or 0) or settings.watch_timeout
