"""A network namespace for the test at hand, so that the machine's own tables are never touched."""

import ctypes
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def need(*tools: str) -> None:
    """Fail, naming it, for the first tool that is not there."""
    for tool in tools:
        assert shutil.which(tool), f"this test needs the program {tool}"


@contextmanager
def network_namespace(lock_folder: Path) -> Iterator[str]:
    """Put the calling thread, and what it starts, into a new namespace with an xtables lock of its own."""
    need("ip")
    name = f"kproxy-test-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    before_lock = os.environ.get("XTABLES_LOCKFILE")
    try:
        with Path("/proc/thread-self/ns/net").open() as home:
            _enter(Path("/run/netns") / name)
            os.environ["XTABLES_LOCKFILE"] = str(lock_folder / "xtables.lock")
            try:
                yield name
            finally:
                _set_namespace(home.fileno())
                del os.environ["XTABLES_LOCKFILE"]
                if before_lock is not None:
                    os.environ["XTABLES_LOCKFILE"] = before_lock
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def _enter(path: Path) -> None:
    with path.open() as namespace:
        _set_namespace(namespace.fileno())


def _set_namespace(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
