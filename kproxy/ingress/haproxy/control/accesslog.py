"""Takes in the lines that HAProxy logs of requests, where they are asked for."""

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path

_LONGEST = 16_384
_POLL_S = 0.5


class AccessLog:
    """A socket that HAProxy sends its lines to. While no kproxy listens they are lost, and nobody waits for it."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._say = say
        self._end = threading.Event()
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        path.chmod(0o600)
        self._socket.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._end.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._end.is_set():
            select.select([self._socket], [], [], _POLL_S)
            with contextlib.suppress(BlockingIOError):
                self._say(self._socket.recv(_LONGEST).decode(errors="replace").strip())
