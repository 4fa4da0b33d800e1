"""How long the reflector waits after a failure, and what it gives up: its policies, without a server."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from kproxy.api.kinds import Kind
from kproxy.api.transport.client import Answer
from kproxy.api.transport.failures import RefusedError, UnreachableError
from kproxy.api.watch.backoff import AT_ONCE_SECONDS
from kproxy.api.watch.listwatch import Timing
from kproxy.api.watch.reflector import Reflector
from kproxy.api.wire import Status as WireStatus
from kproxy.api.wire import StatusCause, StatusDetails
from tests.kit.sources.recording import RecordingSink
from tests.kit.sources.watching_world import NODE


class Refusing:
    """A client that fails in one way."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def get(self, path: str, query: Mapping[str, str] | None = None, patience: float = 0.0) -> Answer:  # noqa: ARG002
        raise self.error

    def distrust(self, server: str) -> None:
        raise AssertionError(server)


def refusing(error: Exception, timing: Timing | None = None) -> Reflector:
    return Reflector(Kind.SERVICE, Refusing(error), RecordingSink(), NODE, timing or Timing())


def test_retry_after_is_honoured() -> None:
    for code in (429, 503):
        reflector = refusing(RefusedError("too busy", code, retry_after=40.0))
        assert 40.0 <= reflector._attempt() < 41.0


def test_delays_grow_and_are_spread() -> None:
    reflector = refusing(UnreachableError("refused"))
    delays = [reflector._attempt() for _ in range(12)]
    for number, delay in enumerate(delays):
        expected = min(30.0, 0.8 * 2**number)
        assert expected <= delay <= 2 * expected
    assert len({delay / 30.0 for delay in delays[6:]}) == 6


class BreaksOff:
    """A server whose watches break off, each as soon as it stands."""

    server = "https://somewhere"
    closed = False

    def get(self, path: str, query: Mapping[str, str] | None = None, patience: float = 0.0) -> Any:
        del path, query, patience
        if self.closed:
            raise UnreachableError("refused")
        return self

    def distrust(self, server: str) -> None:
        raise AssertionError(server)

    def set_patience(self, seconds: float) -> None:
        pass

    def chunks(self) -> Iterator[bytes]:
        raise UnreachableError("broken off")

    def close(self) -> None:
        pass


@pytest.mark.parametrize("lasted", [True, False])
def test_a_watch_that_breaks_off_is_opened_again_at_once_if_it_had_lasted(lasted: bool) -> None:
    timing = Timing(too_short=0.0 if lasted else 60.0)
    reflector = Reflector(Kind.SERVICE, BreaksOff(), RecordingSink(), NODE, timing)
    reflector._delivery.place = "7"
    pause = reflector._attempt()
    assert 0.0 <= pause <= AT_ONCE_SECONDS if lasted else pause >= timing.first_retry
    assert reflector.status.failures == 1


def test_if_it_can_not_be_opened_again_the_row_of_delays_begins() -> None:
    server = BreaksOff()
    reflector = Reflector(Kind.SERVICE, server, RecordingSink(), NODE, Timing(too_short=0.0))
    reflector._delivery.place = "7"
    assert reflector._attempt() <= AT_ONCE_SECONDS
    server.closed = True
    assert [reflector._attempt() >= 0.8 * 2**number for number in range(3)] == [True] * 3


def test_version_that_is_too_large_means_a_fresh_list() -> None:
    status = WireStatus(504, "Timeout", "", StatusDetails(causes=(StatusCause("ResourceVersionTooLarge"),)))
    reflector = refusing(RefusedError("Too large resource version", 504, 1.0, status))
    reflector._delivery.place = "7"
    assert reflector._attempt() == 0
    assert reflector._delivery.place is None


def test_expired_again_and_again_is_slowed_down() -> None:
    reflector = refusing(RefusedError("too old", 410))
    assert reflector._attempt() == 0
    assert [reflector._attempt() > 1.0 for _ in range(3)] == [True] * 3
