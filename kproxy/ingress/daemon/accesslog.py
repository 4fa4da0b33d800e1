"""The access log: HAProxy's standard output is a pipe in the state folder, and from here it goes to kproxy's own.

HAProxy writes each line at once and never waits; what nobody has read when the pipe is full is dropped. The pipe
outlives kproxy, and has room for some thousand lines: the next kproxy finds what was written in between. Lines are
passed on as they come, many in one go, so that a busy log costs little. They are of strangers' requests; HAProxy has
escaped what is not printable.
"""

import contextlib
import os
import re
import select
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kproxy import logs
from kproxy.faults.containment import contained
from kproxy.ingress.haproxy.control.pipe import open_pipe

log = logs.get("access")

_MOST = 1 << 16
_PAUSE_SECONDS = 0.005
"""How long lines gather behind those that have just been passed on."""
_CHATTER = re.compile(rb"^Proxy \S+ stopped \(.*\)\.\n", re.MULTILINE)
"""What a process says at its end, which is no request."""


@contextlib.contextmanager
def access_log(path: Path, out: BinaryIO | None = None) -> Iterator[None]:
    """Write lines while the block lasts. Where that cannot be, says so in the log and goes on without."""
    stream = sys.stdout.buffer if out is None else out
    try:
        pipe = open_pipe(path)
    except OSError as error:
        log.warning("no access log", pipe=path, problem=error)
        yield
        return
    ending = threading.Event()
    wake_reader, wake = os.pipe()
    thread = threading.Thread(target=_write, args=(pipe, wake_reader, ending, stream), name="access-log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        os.write(wake, b"x")
        thread.join(1.0)
        if not thread.is_alive():  # else it hangs in writing, and its descriptors must not become another's
            for descriptor in (pipe, wake_reader, wake):
                os.close(descriptor)


def _write(pipe: int, wake: int, ending: threading.Event, stream: BinaryIO) -> None:
    with contained("access-log"):
        while True:
            select.select([pipe, wake], [], [])
            last = ending.is_set()  # asked before reading, lest what came before the end stays behind
            while lines := _read(pipe):
                try:
                    stream.write(lines)
                    stream.flush()
                except (OSError, ValueError):  # whoever read it has gone
                    return
                if len(lines) < _MOST:
                    break
            if last:
                return
            ending.wait(_PAUSE_SECONDS)


def _read(pipe: int) -> bytes:
    try:
        lines = os.read(pipe, _MOST)
    except BlockingIOError:
        return b""
    return _CHATTER.sub(b"", lines) if b"Proxy " in lines else lines
