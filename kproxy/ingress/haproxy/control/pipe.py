"""The pipe that HAProxy's standard output is."""

import contextlib
import fcntl
import os
import stat
from pathlib import Path

_ROOM = 1 << 20
"""Octets that may wait in it: what the kernel lets everybody have (``fs.pipe-max-size``)."""


def open_pipe(path: Path) -> int:
    """Open the pipe, which is made if there is none, and return a descriptor. Raises OSError.

    It is opened for both directions, so that neither side ever meets one at which nobody is.
    """
    if not path.exists() or not stat.S_ISFIFO(path.lstat().st_mode):
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
    pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _ROOM)
    return pipe
