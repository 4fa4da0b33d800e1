"""Steering a test API server from another process: a unix socket, one JSON command a line, one JSON reply a line.

A unix socket is reached from every network namespace by its path, and needs no port in the namespace under test.
Commands are msgspec structs, so that the client and the server cannot disagree about them. One put at a time already
makes thousands of changes a second; batches make more.
"""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import msgspec

from tests.kit.apiserver.faults import Fault
from tests.kit.apiserver.kinds import Json
from tests.kit.apiserver.requestlog import Request
from tests.kit.apiserver.rest.watching import StreamingLists
from tests.kit.apiserver.server import ApiServer

Verb: TypeAlias = Literal[
    "accept",
    "back_up",
    "black_hole",
    "compact",
    "cut_connections",
    "end_watches",
    "freeze",
    "go_back",
    "go_back_and_on",
    "go_back_unnoticed",
    "new_epoch",
    "refuse",
    "renew_certificate",
    "send_bookmarks",
    "start",
    "stop",
    "thaw",
]

_BATCH = 200  # objects in one command of put_all


class Command(msgspec.Struct, tag=True, frozen=True):
    """One line from client to server."""

    def run(self, server: ApiServer) -> object:
        """Carry it out; what is returned goes back to the client.

        Raises:
            ValueError: the command makes no sense.
        """
        raise NotImplementedError


class Put(Command, frozen=True, tag=True):
    """Store objects; returns the version of the last."""

    objects: list[dict[str, Any]]

    def run(self, server: ApiServer) -> object:
        return [server.put(obj) for obj in self.objects][-1:]


class Delete(Command, frozen=True, tag=True):
    """Remove an object; tells whether it was there."""

    resource: str
    namespace: str
    name: str

    def run(self, server: ApiServer) -> object:
        return server.delete(self.resource, self.namespace, self.name)


class ReplaceAll(Command, frozen=True, tag=True):
    """Make these the only objects."""

    objects: list[dict[str, Any]]

    def run(self, server: ApiServer) -> object:
        server.replace_all(self.objects)
        return None


class Objects(Command, frozen=True, tag=True):
    """List all objects of a kind, or the Events of both API groups."""

    resource: str

    def run(self, server: ApiServer) -> object:
        return server.events if self.resource == "events" else server.objects(self.resource)


class AddFault(Command, frozen=True, tag=True):
    """Add a fault; the fields are those of `FaultTable.add`."""

    fault: Fault
    resource: str | None = None
    verb: str | None = None
    times: int | None = 1
    param: str | None = None

    def run(self, server: ApiServer) -> object:
        server.faults.add(self.fault, resource=self.resource, verb=self.verb, times=self.times, param=self.param)
        return None


class ClearFaults(Command, frozen=True, tag=True):
    """Forget all faults that have not happened yet."""

    def run(self, server: ApiServer) -> object:
        server.faults.clear()
        return None


class Do(Command, frozen=True, tag=True):
    """Call one of the server's methods that take no argument."""

    verb: Verb

    def run(self, server: ApiServer) -> object:
        getattr(server, self.verb)()
        return None


class Set(Command, frozen=True, tag=True):
    """Change settings, or the one accepted token."""

    streaming_lists: StreamingLists | None = None
    bookmark_period: float | None = None
    token: str | None = None

    def run(self, server: ApiServer) -> object:
        if self.streaming_lists is not None:
            server.settings.streaming_lists = self.streaming_lists
        if self.bookmark_period is not None:
            server.settings.bookmark_period = self.bookmark_period
        if self.token is not None:
            server.rotate_token(self.token)
        return None


class Ask(Command, frozen=True, tag=True):
    """Ask for the version, the number of requests and of open watches, and the requests of one resource and verb."""

    resource: str | None = None
    verb: str | None = None
    with_requests: bool = False

    def run(self, server: ApiServer) -> object:
        seen = server.requests.seen(self.resource, self.verb) if self.with_requests else []
        return State(
            server.version,
            server.requests.count(self.resource, self.verb),
            server.requests.open_watches(self.resource),
            seen,
        )


class State(msgspec.Struct, frozen=True):
    """The reply to `Ask`."""

    version: int
    count: int
    open_watches: int
    requests: list[Request]


AnyCommand: TypeAlias = Put | Delete | ReplaceAll | Objects | AddFault | ClearFaults | Do | Set | Ask


class Reply(msgspec.Struct, frozen=True):
    """One line from server to client: a value, or what was wrong."""

    value: msgspec.Raw = msgspec.Raw(b"null")
    error: str | None = None


@contextlib.contextmanager
def serve_control(server: ApiServer, path: Path) -> Iterator[None]:
    """Listen at ``path`` for as long as the context lasts; a socket left there by an earlier process is replaced."""
    decoder = msgspec.json.Decoder(AnyCommand)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                self.wfile.write(msgspec.json.encode(_reply(server, decoder, line)) + b"\n")

    path.unlink(missing_ok=True)
    with socketserver.ThreadingUnixStreamServer(str(path), Handler) as listener:
        listener.daemon_threads = True
        threading.Thread(target=listener.serve_forever, args=(0.01,), name="apiserver-control", daemon=True).start()
        yield
        listener.shutdown()
    path.unlink(missing_ok=True)


def _reply(server: ApiServer, decoder: "msgspec.json.Decoder[AnyCommand]", line: bytes) -> Reply:
    try:
        return Reply(msgspec.Raw(msgspec.json.encode(decoder.decode(line).run(server))))
    except (ValueError, OSError, RuntimeError) as error:  # msgspec's errors are ValueErrors
        return Reply(error=str(error))


class ControlClient:
    """The other end of the socket. Not for several threads at once: give each its own.

    Every method raises ValueError with the server's words where the command was refused, and OSError where the
    connection broke.
    """

    def __init__(self, path: Path, timeout: float = 60) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        self._socket.connect(str(path))
        self._replies = self._socket.makefile("rb")
        self._decoder = msgspec.json.Decoder(Reply)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._replies.close()
        self._socket.close()

    def put(self, *objects: Json) -> int:
        """Store objects in one go; returns the version of the last."""
        versions: list[int] = msgspec.json.decode(self.do(Put(list(objects))), type=list[int])
        return versions[-1] if versions else 0

    def put_all(self, objects: Iterable[Json]) -> None:
        """Store any number of objects, as fast as the server takes them."""
        batch: list[Json] = []
        for obj in objects:
            batch.append(obj)
            if len(batch) == _BATCH:
                self.put(*batch)
                batch = []
        self.put(*batch)

    def delete(self, resource: str, namespace: str, name: str) -> bool:
        """Remove an object; tells whether it was there."""
        return self.do(Delete(resource, namespace, name)) == b"true"

    def replace_all(self, objects: Iterable[Json]) -> None:
        """Make these the only objects."""
        self.do(ReplaceAll(list(objects)))

    def objects(self, resource: str) -> list[Json]:
        """List all objects of a kind; for "events", the Events of both API groups."""
        return msgspec.json.decode(self.do(Objects(resource)), type=list[dict[str, Any]])

    def add_fault(
        self,
        fault: Fault,
        *,
        resource: str | None = None,
        verb: str | None = None,
        times: int | None = 1,
        param: str | None = None,
    ) -> None:
        """Add a fault, as `FaultTable.add` does."""
        self.do(AddFault(fault, resource, verb, times, param))

    def clear_faults(self) -> None:
        """Forget all faults that have not happened yet."""
        self.do(ClearFaults())

    def state(self, resource: str | None = None, verb: str | None = None, *, with_requests: bool = False) -> State:
        """Ask what has happened; see `Ask`."""
        return msgspec.json.decode(self.do(Ask(resource, verb, with_requests)), type=State)

    def call(self, verb: Verb) -> None:
        """Call one of the server's methods that take no argument."""
        self.do(Do(verb))

    def set(
        self,
        *,
        streaming_lists: StreamingLists | None = None,
        bookmark_period: float | None = None,
        token: str | None = None,
    ) -> None:
        """Change settings, or the one accepted token; None leaves as it is."""
        self.do(Set(streaming_lists, bookmark_period, token))

    def do(self, command: AnyCommand) -> bytes:
        """Send any command; returns its result as JSON."""
        return self.send(msgspec.json.encode(command))

    def send(self, line: bytes) -> bytes:
        """Send one line as it is."""
        self._socket.sendall(line + b"\n")
        answer = self._replies.readline()
        if not answer:
            raise ConnectionResetError("the test API server has closed its control socket")
        reply = self._decoder.decode(answer)
        if reply.error is not None:
            raise ValueError(reply.error)
        return bytes(reply.value)
