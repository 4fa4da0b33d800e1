"""The process that collected the tests: hands out files, and tells pytest what children tell of them."""

import contextlib
import os
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

import pytest

from tests.kit.side_by_side import child as child_process
from tests.kit.side_by_side.child import Told, Warned

_PATIENCE = 30.0
"""Seconds that a child has for the teardown of its fixtures when all is to end."""


@dataclass
class _Child:
    pid: int
    ended: int
    """A file descriptor (pidfd) that is readable when it has; the pipe may be held open by what a test started."""
    pipe: "Connection[Any, Any]"
    todo: deque[int]
    """The tests of its file that it has not told of yet, as places among the session's items; it is at the first."""
    last: int
    """The test that it told of last."""
    words: str | None = None


class Parent:
    """Runs all of a session's tests in a number of children."""

    def __init__(self, session: pytest.Session, number: int) -> None:
        self._session = session
        self._config = session.config
        self._number = number
        self._started = 0
        self._children: list[_Child] = []
        self._untold = set(range(len(session.items)))
        files: dict[str, deque[int]] = {}
        for place, item in enumerate(session.items):
            files.setdefault(item.nodeid.partition("::")[0], deque()).append(place)
        self._files = deque(files.values())

    def run(self) -> None:
        """Run all tests.

        Raises Session.Failed or Session.Interrupted where pytest is to stop early, as for -x; no child is left then.
        """
        if reporter := self._config.pluginmanager.get_plugin("terminalreporter"):
            reporter.showfspath = False  # those of several files come mixed
        try:
            with _heeding(signal.SIGTERM, lambda *_: pytest.exit("ended by SIGTERM", 128 + signal.SIGTERM)):
                while self._files or self._children:
                    while self._files and len(self._children) < self._number:
                        self._start(self._files.popleft())
                    self._listen()
        finally:
            self._end()
        for place in sorted(self._untold):
            self._fail(place, "call", "no process told how it went")

    def _start(self, file: deque[int]) -> None:
        self._started += 1
        factory: pytest.TempPathFactory = self._config._tmp_path_factory  # type: ignore[attr-defined]
        folder = factory.getbasetemp() / f"process-{self._started}"
        own, its = Pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            try:
                for pipe in (own, *(other.pipe for other in self._children)):
                    pipe.close()  # so that each sees when the parent is no more
                child_process.run(self._session, its, list(file), folder)
            finally:
                os._exit(1)
        its.close()
        self._children.append(_Child(pid, os.pidfd_open(pid), own, file, file[0]))

    def _listen(self) -> None:
        ready = wait([one for child in self._children for one in (child.pipe, child.ended)])
        for child in list(self._children):
            if child.pipe in ready:
                self._hear(child)
            elif child.ended in ready and not child.pipe.poll():
                self._bury(child)

    def _hear(self, child: _Child) -> None:
        try:
            told: Told | str = child.pipe.recv()
        except (EOFError, OSError):
            return self._bury(child)
        if isinstance(told, str):
            child.words = told
            return None
        child.last = child.todo.popleft()
        self._tell(child.last, *told)
        if not child.todo:
            child.todo = self._files.popleft() if self._files else child.todo
            with contextlib.suppress(OSError):  # it has ended, which is noticed next
                child.pipe.send(list(child.todo))
        return None

    def _bury(self, child: _Child) -> None:
        """Note how a child ended; what it was at has failed, and what it had not begun is left to another."""
        self._children.remove(child)
        status = _reap(child)
        if not child.todo and child.words == "":
            return None
        how = f"exit status {status}" if status >= 0 else f"signal {-status}, {signal.strsignal(-status)}"
        how, _, trace = (child.words or how).partition("\n")
        why = f"the process that ran it has ended: {how}"
        if not child.todo:
            return self._fail(child.last, "teardown", why, trace)
        place = child.todo.popleft()
        if child.todo:
            self._files.appendleft(child.todo)
        return self._fail(place, "call", why, trace)

    def _fail(self, place: int, when: Literal["call", "teardown"], why: str, trace: str = "") -> None:
        item = self._session.items[place]
        sections = [("where it ended", trace)] if trace else []
        report = pytest.TestReport(item.nodeid, item.location, {}, "failed", why, when, sections)
        self._tell(place, [self._config.hook.pytest_report_to_serializable(config=self._config, report=report)], [])

    def _tell(self, place: int, reports: Iterable[Any], warned: Iterable[Warned]) -> None:
        item = self._session.items[place]
        hook = self._config.hook
        for category, text, file, line, when, nodeid, location in warned:
            message = warnings.WarningMessage(text, type(category, (Warning,), {}), file, line)
            of = {"when": when, "nodeid": nodeid, "location": location}
            hook.pytest_warning_recorded.call_historic(kwargs={"warning_message": message, **of})
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for data in reports:
            report = hook.pytest_report_from_serializable(config=self._config, data=data)
            if report.when == "call" or not report.passed:
                self._untold.discard(place)
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        if self._session.shouldfail:
            raise self._session.Failed(self._session.shouldfail)
        if self._session.shouldstop:
            raise self._session.Interrupted(self._session.shouldstop)

    def _end(self) -> None:
        """End what children there are, and let their fixtures be torn down."""
        for child in self._children:
            child.pipe.close()
            signal.pidfd_send_signal(child.ended, signal.SIGTERM)
        for child in self._children:
            if not wait([child.ended], _PATIENCE):
                signal.pidfd_send_signal(child.ended, signal.SIGKILL)
            _reap(child)


@contextlib.contextmanager
def _heeding(number: signal.Signals, handler: Callable[..., object]) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def _reap(child: _Child) -> int:
    _, status = os.waitpid(child.pid, 0)
    os.close(child.ended)
    child.pipe.close()
    return os.waitstatus_to_exitcode(status)
