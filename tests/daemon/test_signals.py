"""Signals reach the loop that is at work, or the next one; and never Python's default."""

import os
import signal

import pytest

from kproxy.daemon import signals
from kproxy.daemon.signals import Signals


class Recorder:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def stop(self) -> None:
        self.calls.append("stop")

    def resync(self) -> None:
        self.calls.append("resync")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody end the tests for having been told to stop."""
    monkeypatch.setattr(signals, "_STOP_SECONDS", 3600)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_loop_at_work_is_stopped(number: int) -> None:
    asked, loop = Signals(), Recorder()
    with asked.handled(), asked.steering(loop):
        os.kill(os.getpid(), number)
        assert loop.calls == ["stop"]
    assert asked.stopping


def test_a_loop_that_comes_later_is_stopped_at_once() -> None:
    asked, loop = Signals(), Recorder()
    with asked.handled():
        os.kill(os.getpid(), signal.SIGTERM)
        with asked.steering(loop):
            assert loop.calls == ["stop"]


def test_sighup_asks_for_a_comparison_and_before_there_is_a_loop_for_nothing() -> None:
    asked, loop = Signals(), Recorder()
    with asked.handled():
        os.kill(os.getpid(), signal.SIGHUP)
        with asked.steering(loop):
            assert loop.calls == []
            os.kill(os.getpid(), signal.SIGHUP)
            assert loop.calls == ["resync"]
        os.kill(os.getpid(), signal.SIGHUP)
        assert loop.calls == ["resync"]
    assert not asked.stopping


def test_handlers_of_before_are_back_afterwards() -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with Signals().handled():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in numbers] == before
