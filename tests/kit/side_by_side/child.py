"""A process that runs tests, and tells its parent of them."""

import contextlib
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest

_ENDING = signal.SIGINT, signal.SIGTERM

Warned = tuple[str, str, str, int, str, str, Any]
"""A warning: its class, words, file and line; when it came, in which test, and where that stands."""
Told = tuple[list[Any], list[Warned]]
"""What a child tells of one test: its reports, and warnings.

As last words it sends what ended it: a line and a traceback, or nothing.
"""


class _Teller:
    """In place of the terminal: keeps what is to be told of a test."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._told: Told = ([], [])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._told[0].append(self._config.hook.pytest_report_to_serializable(config=self._config, report=report))

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: Any
    ) -> None:
        said = warning_message
        words = said.category.__name__, str(said.message), said.filename, said.lineno
        self._told[1].append((*words, when, nodeid, location))

    def take(self) -> Told:
        told, self._told = self._told, ([], [])
        return told


def run(session: pytest.Session, pipe: "Connection[Any, Any]", file: Sequence[int], folder: Path) -> NoReturn:
    """Run one file after the other, as places among the session's items, until none is left or the parent has gone."""
    words = ""
    teller = _settle(session.config, folder)
    try:
        while file:
            for place, following in zip(file, [*file[1:], None], strict=True):
                # After a file's last test, all is torn down but what belongs to the whole session.
                after = session if following is None else session.items[following]
                session.config.hook.pytest_runtest_protocol(
                    item=session.items[place], nextitem=cast(pytest.Item, after)
                )
                pipe.send(teller.take())
            file = pipe.recv()
    except BaseException as error:
        words = f"{error!r}\n{traceback.format_exc()}"
    try:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED if session.testsfailed else pytest.ExitCode.OK
        session.config.hook.pytest_sessionfinish(session=session, exitstatus=session.exitstatus)
        session.config._ensure_unconfigure()
    except BaseException as error:
        words = words or f"{error!r}\n{traceback.format_exc()}"
    with contextlib.suppress(OSError):  # the parent has gone
        pipe.send(words)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if words else 0)


def _settle(config: pytest.Config, folder: Path) -> _Teller:
    """Part a child from its parent in what they must not share: signals, terminal, cache, captured output, folder."""
    for number in _ENDING:
        signal.signal(number, _interrupt)
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))  # in what a test forks
    config.pluginmanager.unregister(name="terminalreporter")
    config.pluginmanager.unregister(name="terminalprogress-plugin")
    vars(config)["workerinput"] = {}  # pytest's word that this process is one of several, and writes no cache
    if capture := config.pluginmanager.get_plugin("capturemanager"):
        capture.stop_global_capturing()
        capture.start_global_capturing()
        capture.suspend_global_capture()
    config.option.basetemp = str(folder)
    vars(config)["_tmp_path_factory"] = pytest.TempPathFactory.from_config(config, _ispytest=True)
    teller = _Teller(config)
    config.pluginmanager.register(teller, "side-by-side")
    teller.take()  # warnings that came during collection, which the parent has told
    return teller


def _interrupt(*_: object) -> None:
    """End the test that runs; once, for what follows is the teardown."""
    for number in _ENDING:
        signal.signal(number, lambda *_: None)
    raise KeyboardInterrupt
