"""Keeps configurations on disk, each in a folder of its own, and one of them in force.

    STATE/current -> generation-7     where HAProxy reads, at its start and at reloads
    STATE/generation-7/haproxy.cfg, maps/, certs/
    STATE/state                       what is in the running process, for kproxy's next start

A configuration is written whole and checked before ``current`` points to it, so that there is no moment at which
HAProxy could read half of one. Keys are in here: all folders are private.
"""

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from kproxy.faults.undecodable import UNDECODABLE
from kproxy.ingress.haproxy.errors import EngineError
from kproxy.ingress.haproxy.text.diff import Leftovers
from kproxy.ingress.haproxy.text.model import EXPORTER_SOCKET, Configuration


class Running(msgspec.Struct, frozen=True):
    """What a worker of HAProxy's has in it."""

    pid: int
    """The worker's."""
    started: int
    """When it did, as it says itself: process ids come again."""
    configuration: Configuration
    left: Leftovers = Leftovers()


class Generations:
    """The folder of all files. Every method may raise EngineError."""

    def __init__(self, state_dir: Path) -> None:
        self._dir = state_dir
        self.current = state_dir / "current"
        self.worker_socket = state_dir / "worker.sock"
        self.pid_file = state_dir / "haproxy.pid"
        self.output = state_dir / "haproxy.err"
        self.log_pipe = state_dir / "log.pipe"
        self.exporter_socket = state_dir / EXPORTER_SOCKET
        self._state = state_dir / "state"

    def prepare(self) -> None:
        """Make the folder."""
        try:
            self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._dir / ".probe").write_text("")
            (self._dir / ".probe").unlink()
        except OSError as error:
            raise EngineError(
                f"{self._dir}: {error.strerror}; kproxy ingress keeps HAProxy's files there: make it writable,"
                " or name another folder with --state-dir"
            ) from error

    def write(self, files: Mapping[str, str]) -> Path:
        """Write a new generation, which is not in force yet, and return its folder."""
        folder = self._dir / f"generation-{self._last() + 1}"
        try:
            for path in (folder, folder / "maps", folder / "certs"):
                path.mkdir(mode=0o700)
            for name, text in files.items():
                target = folder / name
                target.touch(mode=0o600)
                target.write_text(text)
        except OSError as error:
            self.remove(folder)
            raise EngineError(f"{folder}: {error.strerror}") from error
        return folder

    def put_in_force(self, folder: Path) -> Path | None:
        """Let ``current`` point to a generation; return which one it was before."""
        before = self._in_force()
        link = self._dir / ".current"
        try:
            link.unlink(missing_ok=True)
            link.symlink_to(folder.name)
            link.replace(self.current)
        except OSError as error:
            raise EngineError(f"{self.current}: {error.strerror}") from error
        return before

    def remove(self, folder: Path) -> None:
        """Remove a generation, as far as there is one."""
        shutil.rmtree(folder, ignore_errors=True)

    def remove_others(self) -> None:
        """Remove all generations but the one in force."""
        kept = self._in_force()
        for folder in self._dir.glob("generation-*"):
            if folder != kept:
                self.remove(folder)

    def remember(self, running: Running | None) -> None:
        """Keep what is in the process. None: it is about to change, and nobody knows how far that will get."""
        if running is not None:
            with contextlib.suppress(OSError):
                fresh = self._state.with_suffix(".new")
                fresh.touch(mode=0o600)
                fresh.write_bytes(msgspec.msgpack.encode(running))
                fresh.replace(self._state)
                return
        with contextlib.suppress(OSError):  # a restarted kproxy will reload HAProxy; what was is true no more
            self._state.unlink(missing_ok=True)

    def remembered(self) -> Running | None:
        """Return what was kept last, if anything."""
        try:
            return msgspec.msgpack.decode(self._state.read_bytes(), type=Running)
        except (OSError, *UNDECODABLE):
            return None

    def _in_force(self) -> Path | None:
        try:
            return self._dir / self.current.readlink()
        except OSError:
            return None

    def _last(self) -> int:
        numbers = [folder.name.partition("-")[2] for folder in self._dir.glob("generation-*")]
        return max((int(number) for number in numbers if number.isdigit()), default=0)
