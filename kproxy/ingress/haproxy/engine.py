"""HAProxy as ``kproxy ingress`` sees it: plans in, a report out.

Between two plans HAProxy goes on by itself: `Engine.watch` starts it again when it dies. It survives kproxy, and the
next kproxy takes it over; what is in it then is known from a file that is written after each change.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from kproxy.ingress.haproxy.compile.compiler import NOTHING_LEFT_OUT, Compiler, LeftOut, compile_plan
from kproxy.ingress.haproxy.control.files import Generations, Running
from kproxy.ingress.haproxy.control.process import Master, wait_for_end
from kproxy.ingress.haproxy.control.runtime import RuntimeSocket, worker_of
from kproxy.ingress.haproxy.errors import EngineError, RefusedError, UnreachableError
from kproxy.ingress.haproxy.refusals import Refusals, Refused
from kproxy.ingress.haproxy.settings import EngineSettings
from kproxy.ingress.haproxy.text.diff import NOTHING_LEFT, Leftovers, Reload, Steps, diff, tidy
from kproxy.ingress.haproxy.text.model import NOTHING, Configuration, Memory
from kproxy.ingress.haproxy.text.render import files
from kproxy.ingress.plan.model import Plan

_LONGEST_PAUSE_S = 30.0
_GRACE_S = 10.0


class ApplyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one successful `Engine.apply` did."""

    reloaded: str | None = None
    """Why HAProxy was reloaded; None if it was not."""
    commands: int = 0
    """Commands for the runtime socket."""
    refused: Sequence[Refused] = ()


class Totals(msgspec.Struct):
    """What has happened since this kproxy started."""

    reloads: int = 0
    failed_reloads: int = 0
    restarts: int = 0
    runtime_changes: int = 0


class Engine:
    """Keeps HAProxy doing what the plan says. `apply` and `watch` may be called by different threads."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        program: str = "haproxy",
        say: Callable[[str], None] = lambda _: None,
        totals: Totals | None = None,
    ) -> None:
        """``say`` gets what HAProxy writes, line by line; ``totals`` are to go on from. Raises NoHAProxyError."""
        self.settings = settings
        self.totals = Totals() if totals is None else totals
        self._files = Generations(Path(settings.state_dir))
        self._master = Master(self._files, program)
        self._say = say
        self._lock = threading.Lock()
        self._running: Running | None = None
        self._last_good: Configuration | None = None
        self._refusals = Refusals(ipv6=settings.ipv6)
        self._compiler = Compiler()
        self._begun = False
        self._stopping = False
        self._wake_reader, self._wake = os.pipe()
        os.set_blocking(self._wake_reader, False)

    # --- what is asked of it ---------------------------------------------------------------------------------------

    def apply(self, plan: Plan) -> ApplyReport:
        """Make HAProxy do what ``plan`` says; see `ApplyReport`. Raises EngineError, and the last state stays."""
        with self._lock:
            self._begin()
            self._refusals.forget_what_changed(plan)
            wanted = self._compile(plan)
            step = self._step(wanted)
            commands = 0
            if isinstance(step, Steps):
                try:
                    commands = self._at_runtime(wanted, step)
                except EngineError as error:
                    step = Reload(f"a change while running failed: {error}")
            if isinstance(step, Reload):
                self._reload(plan)
            self._tell()
            return ApplyReport(
                reloaded=step.reason if isinstance(step, Reload) else None,
                commands=commands,
                refused=self._refusals.all(),
            )

    def forgive(self) -> bool:
        """Forget that addresses were refused which can be had by now; tell whether there are any: `apply` once more."""
        with self._lock:
            return self._refusals.forget_free_binds()

    def tidy(self) -> int:
        """Remove what earlier changes have left over in the process; return how much is left still.

        To be called some time after `apply`, a second say. Servers that have connections stay until these end.
        """
        with self._lock:
            running = self._running
            if running is None or running.left == NOTHING_LEFT:
                return 0
            try:
                with RuntimeSocket(self._files.worker_socket) as runtime:
                    left = _tidied(runtime, running.left)
            except UnreachableError:
                return 1
            self._is_running(msgspec.structs.replace(running, left=left))
            return sum(map(len, left.servers.values()))

    def configuration(self) -> Configuration | None:
        """Return what is in force."""
        running = self._running
        return running.configuration if running is not None else None

    def is_serving(self) -> bool:
        """Tell whether a worker answers at the runtime socket."""
        try:
            worker_of(self._files.worker_socket)
        except UnreachableError:
            return False
        return True

    def ask(self, command: str) -> str:
        """Return the running worker's answer to a command that changes nothing. Raises UnreachableError."""
        with RuntimeSocket(self._files.worker_socket) as runtime:
            return runtime.ask(command)

    def watch(self) -> None:
        """Start HAProxy again whenever it dies, until `close` is called; for a thread of its own."""
        pause_s, last = 0.0, 0.0
        while not self._is_stopping():
            pids = [pid for pid in (self._master.pid, self._worker()) if pid is not None]
            died = wait_for_end(pids, 1.0 if len(pids) < 2 else None, self._wake_reader)
            if self._is_stopping() or (not died and len(pids) == 2) or self._last_good is None:
                self._drain_wake()
                continue
            if time.monotonic() - last > 2 * _LONGEST_PAUSE_S:
                pause_s = 0.0
            if pause_s and self._pause(pause_s):
                return
            pause_s, last = min(_LONGEST_PAUSE_S, max(0.25, 2 * pause_s)), time.monotonic()
            self._revive()

    def close(self, *, stop: bool, grace_s: float = _GRACE_S) -> None:
        """End `watch`; with ``stop`` end HAProxy, too. Else it goes on serving, for the next kproxy to take over."""
        self._stopping = True
        os.write(self._wake, b"x")
        with self._lock:
            if stop:
                self._files.remember(None)
                self._master.stop(grace_s)

    # --- how -------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._begun:
            return
        self._files.prepare()
        if self._master.adopt():
            remembered = self._files.remembered()
            with contextlib.suppress(UnreachableError):
                if remembered is not None and (remembered.pid, remembered.started) == worker_of(
                    self._files.worker_socket
                ):
                    self._running, self._last_good = remembered, remembered.configuration
        self._begun = True

    def _memory(self) -> Memory:
        return self._running.configuration.memory if self._running is not None else NOTHING

    def _compile(self, plan: Plan) -> Configuration:
        return self._compiler.compile(plan, self.settings, self._memory(), self._refusals.left_out())

    def _step(self, wanted: Configuration) -> Steps | Reload:
        if self._running is None or self._master.pid is None:
            return Reload("HAProxy was not running" if self._master.pid is None else "kproxy does not know its state")
        return diff(self._running.configuration, wanted, self._running.left)

    def _at_runtime(self, wanted: Configuration, step: Steps) -> int:
        running = self._running
        if running is None or not step.commands:
            if running is not None and running.configuration != wanted:
                self._is_running(msgspec.structs.replace(running, configuration=wanted, left=step.leftovers))
            return 0
        self._files.remember(None)
        self._running = None  # until it has gone well
        with RuntimeSocket(self._files.worker_socket) as runtime:
            runtime.carry_out(step.commands)
        self._is_running(msgspec.structs.replace(running, configuration=wanted, left=step.leftovers))
        self.totals.runtime_changes += 1
        return len(step.commands)

    def _reload(self, plan: Plan) -> None:
        """Bring the plan into force by a reload, without what HAProxy does not accept."""
        known = self._last_good.head if self._last_good is not None and self._master.pid is not None else ()
        self._refusals.find_binds(plan, known)
        wanted = self._compile(plan)
        folder = self._files.write(files(wanted))
        try:
            self._master.check(folder)
        except RefusedError as error:
            self._files.remove(folder)
            self._refusals.find(plan, error, lambda without: self._check(plan, without))
            wanted = self._compile(plan)
            folder = self._files.write(files(wanted))
        self._take_up(wanted, folder)

    def _take_up(self, wanted: Configuration, folder: Path) -> None:
        """Put a checked generation in force."""
        self._files.remember(None)
        before = self._files.put_in_force(folder)
        try:
            if self._master.pid is None:
                pid, started = self._master.start()
            else:
                pid, started = self._master.reload(self._worker())
        except EngineError:
            self.totals.failed_reloads += 1
            if before is not None:
                self._files.put_in_force(before)
                self._files.remove_others()  # or each attempt would leave its files behind
            self._running = None  # the next apply has to find out
            raise
        self.totals.reloads += 1
        memory = msgspec.structs.replace(wanted.memory, used=frozenset(wanted.memory.slots.values()))
        self._is_running(Running(pid, started, _without_draining(msgspec.structs.replace(wanted, memory=memory))))
        self._files.remove_others()
        os.write(self._wake, b"x")

    def _worker(self) -> int | None:
        """Return the worker's process id; after a change that failed, that of whoever answers."""
        running = self._running
        if running is not None:
            return running.pid
        with contextlib.suppress(UnreachableError):
            return worker_of(self._files.worker_socket)[0]
        return None

    def _is_running(self, running: Running) -> None:
        self._running, self._last_good = running, running.configuration
        self._files.remember(running)

    def _check(self, plan: Plan, without: LeftOut) -> None:
        folder = self._files.write(files(compile_plan(plan, self.settings, self._memory(), without)))
        try:
            self._master.check(folder)
        finally:
            self._files.remove(folder)

    def _revive(self) -> None:
        with self._lock:
            if self._stopping or self._last_good is None:
                return
            if self._master.pid is not None and self.is_serving():
                return
            self.totals.restarts += 1
            self._say("HAProxy has died; starting it again with the last good state")
            self._tell()
            orphan, self._running = self._worker(), None
            self._master.make_sure_of_end(orphan)
            try:
                self._take_up(self._last_good, self._files.write(files(self._last_good)))
            except EngineError as error:
                self._say(str(error))

    def _pause(self, seconds: float) -> bool:
        """Wait; tell whether it is time to end."""
        deadline = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < deadline:
            wait_for_end([], deadline - time.monotonic(), self._wake_reader)
            self._drain_wake()
        return self._stopping

    def _is_stopping(self) -> bool:
        return self._stopping

    def _drain_wake(self) -> None:
        if not self._stopping:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_reader, 4096)

    def _tell(self) -> None:
        for line in self._master.news():
            self._say(line)


def render(plan: Plan, settings: EngineSettings | None = None) -> dict[str, str]:
    """Return all files of HAProxy's for a plan, by their paths: what ``kproxy ingress render`` shows."""
    return dict(files(compile_plan(plan, settings or EngineSettings(), NOTHING, NOTHING_LEFT_OUT)))


def _tidied(runtime: RuntimeSocket, left: Leftovers) -> Leftovers:
    """Remove what HAProxy lets go; return the rest: servers that have connections."""
    kept: dict[str, frozenset[str]] = {}
    for command, one in tidy(left):
        try:
            runtime.carry_out([command])
        except RefusedError:
            for slot, names in one.servers.items():
                kept[slot] = kept.get(slot, frozenset()) | names
    return Leftovers(kept)


def _without_draining(configuration: Configuration) -> Configuration:
    """Return what is in a process that has been started with ``configuration``."""
    slots = {
        name: msgspec.structs.replace(slot, servers=tuple(server for server in slot.servers if not server.draining))
        for name, slot in configuration.slots.items()
    }
    return msgspec.structs.replace(configuration, slots=slots)
