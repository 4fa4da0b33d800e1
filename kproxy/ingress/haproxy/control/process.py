"""Starts HAProxy in master-worker mode, reloads it, watches it, and takes over one that is running already.

HAProxy is not tied to kproxy: it has a session of its own and writes to a file, so that it goes on serving when kproxy
dies. What ties a restarted kproxy to it again is the file with the master's process id.
"""

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from kproxy.ingress.haproxy.control.files import Generations
from kproxy.ingress.haproxy.control.pipe import open_pipe
from kproxy.ingress.haproxy.control.runtime import worker_of
from kproxy.ingress.haproxy.errors import EngineError, NoHAProxyError, RefusedError, UnreachableError
from kproxy.ingress.haproxy.text.render import CONFIGURATION

_START_S = 20.0
_HEAR_S = 1.0
"""A master says at once that it reloads. One that has only just started lets the signal pass."""
_HEARD = ("Reloading HAProxy", "Reexecuting Master", "Initializing new worker", "New worker", "Loading")
"""It may say other things meanwhile: that a worker of the reload before has ended, for one."""
_CHECK_S = 60.0
_PLACE = re.compile(r"^(?:config : )?[Pp]arsing \[[^]]*\] ?: ")
_POLL_S = 0.005
_END_S = 2.0
_FAILED = ("Loading failure!", "Failed to load worker", "Failed to reload")
_CHATTER = (
    " stopped (cumulated conns",
    " stopped (FE:",
    "[NOTICE]",
    "Stopping ",
    "leaving forced maintenance",
    "is DOWN for maintenance",
    "is going DOWN for maintenance",
    "has no server available",
    "no SSL certificate specified",
)


class Master:
    """The master process of HAProxy's."""

    def __init__(self, files: Generations, program: str = "haproxy") -> None:
        """Raises NoHAProxyError."""
        found = shutil.which(program)
        if found is None:
            raise NoHAProxyError(f"{program} is not installed; Debian and Ubuntu: apt-get install haproxy")
        self._program = found
        self._files = files
        self._child: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._read = 0

    @property
    def pid(self) -> int | None:
        """The master's process id, while it lives."""
        if self._child is not None and self._child.poll() is not None:
            self._child = self._pid = None
        if self._pid is not None and not _is_alive(self._pid):
            self._pid = None
        return self._pid

    def adopt(self) -> bool:
        """Find a master that an earlier kproxy has started; tell whether there is one."""
        try:
            pid = int(self._files.pid_file.read_text())
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return False
        if str(self._files.current / CONFIGURATION).encode() not in arguments or not _is_alive(pid):
            return False
        self._pid = pid
        with contextlib.suppress(OSError):
            self._read = self._files.output.stat().st_size
        return True

    def check(self, folder: Path) -> None:
        """Have HAProxy read a configuration. Raises RefusedError with what it says."""
        command = [self._program, "-c", "-f", str(folder / CONFIGURATION)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_CHECK_S, check=False, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired as error:
            raise RefusedError(f"haproxy -c took longer than {_CHECK_S:.0f} s") from error
        if done.returncode != 0:
            raise RefusedError(_first_alert(done.stderr.decode(errors="replace")))

    def start(self) -> tuple[int, int]:
        """Start HAProxy with the generation in force; return the worker's process id and start time.

        Raises EngineError.
        """
        self._files.worker_socket.unlink(missing_ok=True)
        self._files.output.write_bytes(b"")
        self._read = 0
        with self._files.output.open("ab") as output, self._lines() as lines:
            self._child = subprocess.Popen(
                [self._program, "-W", "-f", str(self._files.current / CONFIGURATION), "-p", str(self._files.pid_file)],
                stdin=subprocess.DEVNULL,
                stdout=lines or output,
                stderr=output,
                start_new_session=True,
                cwd="/",
            )
        self._pid = self._child.pid
        return self._await_worker(None)

    @contextlib.contextmanager
    def _lines(self) -> Iterator[int | None]:
        """Yield what the access log is written to; None if that cannot be had."""
        try:
            pipe = open_pipe(self._files.log_pipe)
        except OSError:
            yield None
            return
        try:
            yield pipe
        finally:
            os.close(pipe)

    def reload(self, old_worker: int | None) -> tuple[int, int]:
        """Let HAProxy read the generation in force; return the new worker.

        Raises EngineError; the old worker goes on serving.
        """
        pid = self.pid
        if pid is None:
            raise EngineError("HAProxy is not running")
        self._read = self._output_size()
        return self._await_worker(old_worker, partial(_signal, pid, signal.SIGUSR2))

    def stop(self, grace_s: float) -> None:
        """End HAProxy: let it finish its requests for some time, then not.

        A master that has only just started may miss a signal, so the first one is sent again.
        """
        first = min(1.0, grace_s)
        soft = ((signal.SIGUSR1, first), (signal.SIGUSR1, grace_s - first))
        for number, wait_s in (*soft, (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            pid = self.pid
            if pid is None:
                return
            _signal(pid, number)
            wait_for_end([pid], wait_s)

    def make_sure_of_end(self, worker: int | None) -> None:
        """Wait for a master whose worker has died, and a worker whose master has: they end by themselves or not."""
        for pid in (self.pid, worker):
            if pid is None or not _is_alive(pid) or wait_for_end([pid], _END_S):
                continue
            _signal(pid, signal.SIGKILL)
            wait_for_end([pid], _END_S)

    def news(self) -> list[str]:
        """Return what HAProxy has written since it was last asked, without what it says at every change."""
        try:
            with self._files.output.open("rb") as output:
                output.seek(self._read)
                fresh = output.read(1 << 20)
        except OSError:
            return []
        self._read += len(fresh)
        lines = fresh.decode(errors="replace").splitlines()
        if self._read > 1 << 20:
            self._forget_output()
        return [line for line in lines if line.strip() and not any(word in line for word in _CHATTER)]

    def _await_worker(self, old: int | None, ask: Callable[[], None] = lambda: None) -> tuple[int, int]:
        """Ask for a worker, again where nothing shows that the master has heard, and return it when it serves."""
        began = asked = time.monotonic()
        ask()
        while time.monotonic() < began + _START_S:
            with contextlib.suppress(UnreachableError):
                found = worker_of(self._files.worker_socket)
                if found[0] != old:
                    return found
            said = self._peek()
            if self.pid is None or any(word in line for line in said for word in _FAILED):
                break
            heard = any(word in line for line in said for word in _HEARD)
            if not heard and time.monotonic() > asked + _HEAR_S:
                asked = time.monotonic()
                ask()
            time.sleep(_POLL_S)
        reason = _first_alert("\n".join(self._peek()))
        raise EngineError(f"HAProxy did not take the configuration up: {reason}")

    def _peek(self) -> list[str]:
        with contextlib.suppress(OSError), self._files.output.open("rb") as output:
            output.seek(self._read)
            return output.read(1 << 20).decode(errors="replace").splitlines()
        return []

    def _output_size(self) -> int:
        with contextlib.suppress(OSError):
            return self._files.output.stat().st_size
        return 0

    def _forget_output(self) -> None:
        with contextlib.suppress(OSError):
            os.truncate(self._files.output, 0)
            self._read = 0


def has_exporter(program: str) -> bool:
    """Tell whether a HAProxy is built with an exporter for Prometheus."""
    try:
        done = subprocess.run([program, "-vv"], capture_output=True, timeout=_CHECK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b"prometheus-exporter" in done.stdout


def wait_for_end(pids: list[int], timeout_s: float | None, wake: int | None = None) -> bool:
    """Wait until one of some processes has ended, ``wake`` is readable, or time is up; tell whether one has ended."""
    handles: list[int] = []
    try:
        for pid in pids:
            try:
                handles.append(os.pidfd_open(pid))
            except ProcessLookupError:
                return True
        ready, _, _ = select.select([*handles, *([] if wake is None else [wake])], [], [], timeout_s)
        return any(handle in ready for handle in handles)
    finally:
        for handle in handles:
            os.close(handle)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False


def _first_alert(text: str) -> str:
    alerts = [line.partition(" : ")[2] or line for line in text.splitlines() if "[ALERT]" in line]
    return _PLACE.sub("", alerts[0]).strip() if alerts else (text.strip().splitlines() or ["it does not say why"])[-1]
