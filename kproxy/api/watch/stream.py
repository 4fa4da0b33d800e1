"""One watch as a stream of lines, and the ways in which it can end other than in good order."""

import time
from collections.abc import Callable, Iterator
from http import HTTPStatus

from kproxy.api.transport.client import Answer
from kproxy.api.transport.failures import UnreachableError
from kproxy.api.watch.lines import split_lines
from kproxy.api.watch.relists import Reason
from kproxy.api.wire import Status
from kproxy.wording import printable


class PlaceLostError(Exception):
    """The place in the server's history is of no use; only a fresh list helps."""

    def __init__(self, text: str, reason: Reason = Reason.HISTORY) -> None:
        super().__init__(text)
        self.reason = reason


class WatchError(Exception):
    """The watch ended, or was ended by the server, as it should not have."""

    def __init__(self, text: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class UnmarkedListError(WatchError):
    """A streamed list went over into a watch, and nothing says where: the server does not know what was asked of it."""


class SilenceError(Exception):
    """The watch stood, and brought nothing."""

    def __init__(self, server: str) -> None:
        super().__init__(server)
        self.server = server


def watch_lines(answer: Answer, idle: float, received: Callable[[int], None]) -> Iterator[bytes]:
    """Yield the lines of a watch until it ends; ``received`` learns how many bytes came.

    Bytes that make no line are no sign of life. Raises `SilenceError` when there is none for ``idle`` seconds,
    `WatchError` for a stream that is none, and `UnreachableError` when it breaks off.
    """
    last_line = time.monotonic()
    try:
        for lines in split_lines(_counted(answer, received)):
            now = time.monotonic()
            if lines:
                last_line = now
            elif now - last_line > idle:
                raise SilenceError(answer.server)
            yield from lines
    except ValueError as error:
        raise WatchError(str(error)) from error
    except UnreachableError as error:
        if not error.silent:
            raise
        raise SilenceError(answer.server) from error


def _counted(answer: Answer, received: Callable[[int], None]) -> Iterator[bytes]:
    for chunk in answer.chunks():
        received(len(chunk))
        yield chunk


def given_up(status: Status) -> Exception:
    """Return what an ERROR event means."""
    text = f"the server gave up the watch: {status.code} {printable(status.reason)}: {printable(status.message)}"
    if status.code == HTTPStatus.GONE:
        return PlaceLostError(text, Reason.EXPIRED)
    return WatchError(text, status.details.retry_after_seconds if status.details else None)
