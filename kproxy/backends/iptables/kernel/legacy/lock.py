"""The lock that keeps programs which edit the legacy tables out of each other's way.

iptables holds an exclusive flock on /run/xtables.lock from reading a table to committing it (xshared.c), and whoever
edits must: the kernel notices a table that changed in between only where its number of entries differs. libiptc does
not take it, so kproxy does.
"""

import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kproxy.backends.iptables.kernel.errors import NEEDED_PRIVILEGE, LockTimeoutError, NoIptablesError

_log = logging.getLogger(__name__)

DEFAULT_PATH = Path("/run/xtables.lock")
PATH_VARIABLE = "XTABLES_LOCKFILE"
"""The environment variable that iptables honours too."""

_POLL_SECONDS = 0.02


class XtablesLock:
    """The lock file, and how long to wait for it."""

    def __init__(self, path: Path | None = None, timeout: float = 5.0) -> None:
        """``timeout`` is in seconds; without a path, the environment or iptables' default decides."""
        self.path = path or Path(os.environ.get(PATH_VARIABLE) or DEFAULT_PATH)
        self.timeout = timeout
        self._warned = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock. Raises LockTimeoutError if another program keeps it for longer than the timeout."""
        descriptor = self._open()
        if descriptor is None:
            yield
            return
        try:
            self._wait(descriptor)
            yield
        finally:
            os.close(descriptor)  # which also releases it

    def _open(self) -> int | None:
        try:
            return os.open(self.path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except PermissionError as err:
            raise NoIptablesError(f"no permission to open {self.path}: {NEEDED_PRIVILEGE}") from err
        except OSError as err:
            # A read-only file system, or no such directory: then no iptables on this side of the mount can take the
            # lock either, and a proxy that serves nothing is worse than one that may have to repair a race.
            if not self._warned:
                self._warned = True
                _log.warning("going on without the xtables lock: cannot open %s: %s", self.path, err.strerror)
            return None

    def _wait(self, descriptor: int) -> None:
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as err:
                if err.errno not in (errno.EAGAIN, errno.EINTR):
                    raise
            else:
                return
            if time.monotonic() >= deadline:
                raise LockTimeoutError(
                    f"{self.path} has been held by {self._holder(descriptor)} for {self.timeout:g} seconds"
                )
            time.sleep(_POLL_SECONDS)

    def _holder(self, descriptor: int) -> str:
        """Name the process that holds the lock, as far as this process may see it."""
        inode = f":{os.fstat(descriptor).st_ino}"
        try:
            for line in Path("/proc/locks").read_text().splitlines():
                fields = line.split()
                if fields[1] == "FLOCK" and fields[5].endswith(inode):
                    command = Path(f"/proc/{fields[4]}/comm").read_text().strip()
                    return f"process {fields[4]} ({command})"
        except (OSError, IndexError):
            pass
        return "another process"
