"""The access log: HAProxy sends each line to a socket in the state folder, and from here it goes to standard output.

Lines come from strangers' requests; HAProxy has escaped what is not printable. Where nobody listens, as between two
kproxys, HAProxy drops them.
"""

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kproxy import logs

log = logs.get("access")

_LONGEST = 1 << 16


@contextlib.contextmanager
def access_log(path: Path, out: BinaryIO | None = None) -> Iterator[None]:
    """Write lines while the block lasts. Where that cannot be, says so in the log and goes on without."""
    stream = sys.stdout.buffer if out is None else out
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        path.unlink(missing_ok=True)
        receiver.bind(str(path))
    except OSError as error:
        receiver.close()
        log.warning("no access log", socket=path, problem=error)
        yield
        return
    thread = threading.Thread(target=_write, args=(receiver, stream), name="access-log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", str(path))  # wakes it up, behind all lines that wait
        thread.join(1.0)
        receiver.close()
        path.unlink(missing_ok=True)


def _write(receiver: socket.socket, stream: BinaryIO) -> None:
    while True:
        line = receiver.recv(_LONGEST)
        if not line:
            return
        try:
            stream.write(line.rstrip(b"\n\0") + b"\n")
            stream.flush()
        except (OSError, ValueError):  # whoever read it has gone
            return
