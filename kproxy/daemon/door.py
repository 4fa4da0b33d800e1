"""The socket that ``kproxy explain``, ``diff`` and ``status`` ask the daemon by. It is root's, and for root alone.

One line of JSON comes in, one document goes out, and the connection ends. All of it happens in threads of its own: a
question never keeps the loop waiting, and a client that hangs keeps nobody.
"""

import contextlib
import os
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec

from kproxy import logs
from kproxy.faults.containment import survived

log = logs.get("door")

Answerer: TypeAlias = Callable[[bytes], bytes]
"""Turns a question into a document. Must not raise."""

_MOST_BYTES = 64 * 1024
_PATIENCE_SECONDS = 10.0
_MOST_AT_ONCE = 4
_PAUSE_SECONDS = 0.2
_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid


class _Refusal(msgspec.Struct):
    error: str


class _Handler(socketserver.StreamRequestHandler):
    timeout = _PATIENCE_SECONDS
    server: "_Server"

    def handle(self) -> None:
        if not _is_root(self.connection):
            self._say(_Refusal("only root may ask"))
            return
        if not self.server.turns.acquire(timeout=_PATIENCE_SECONDS):
            self._say(_Refusal("too many questions at once; ask again"))
            return
        try:
            with contextlib.suppress(OSError):  # a client that went away
                question = self.rfile.readline(_MOST_BYTES)
                self.wfile.write(self.server.answer(question))
        finally:
            self.server.turns.release()

    def _say(self, refusal: _Refusal) -> None:
        with contextlib.suppress(OSError):
            self.wfile.write(msgspec.json.encode(refusal))


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(self, path: Path, answer: Answerer) -> None:
        self.answer = answer
        self.turns = threading.BoundedSemaphore(_MOST_AT_ONCE)
        super().__init__(str(path), _Handler)

    def get_request(self) -> tuple[socket.socket, object]:
        """Take up a connection; where no more descriptors are to be had, not sooner than in a moment."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(_PAUSE_SECONDS)
            raise

    def handle_error(self, request: object, client_address: object) -> None:
        """Go on with the next question."""
        del request, client_address
        if (error := sys.exception()) is not None:
            survived("door", error)

    def server_bind(self) -> None:
        """Bind, and shut others out before anybody can connect: nobody can until the socket listens."""
        super().server_bind()
        Path(str(self.server_address)).chmod(0o600)


@contextlib.contextmanager
def open_door(path: Path, answer: Answerer) -> Iterator[None]:
    """Answer questions while the block lasts. Where that cannot be, says so in the log and goes on without."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # of a kproxy that was killed, or of one that is about to end
        server = _Server(path, answer)
        its_inode = path.stat().st_ino
    except OSError as error:
        log.warning("no socket for questions; kproxy explain and status will not work here", file=path, problem=error)
        yield
        return
    thread = threading.Thread(target=server.serve_forever, args=(0.2,), name="door", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        with contextlib.suppress(OSError):
            if path.stat().st_ino == its_inode:
                path.unlink()


def _is_root(connection: socket.socket) -> bool:
    """Tell whether the other end is root's, or this process' own user's, as in a test without root."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(raw)
    return user in (0, os.geteuid())
