"""Keeping a sink in step with the API server, for one kind of object, for as long as the node lives.

The contract is client-go's reflector's. First a complete list: streamed as a watch that begins with everything
(KEP-3157), or in pages where the server doesn't offer that. Then the watch goes on from the list's resource version;
when it ends, for whatever reason, the next one resumes where it stopped. Bookmarks (KEP-956) keep that place fresh.

A place can be lost: the server has forgotten it (410, as a status or inside the stream), or events show that the
server's history is no longer the one it was. Then a fresh list is handed over as a whole, for the receiver to compare:
deletions missed meanwhile are applied, and nothing that is still there is ever taken away in between. For the same
reason, nothing is handed over of a list that is not complete.

Nothing is held here but the place in history. Silence is never taken for peace: a watch that brings nothing for
`Timing.idle` seconds, not even the bookmark that servers send each minute, is dead, whatever its connection says.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http import HTTPStatus

from kproxy import logs
from kproxy.api.backoff import Backoff
from kproxy.api.client import Answer
from kproxy.api.decode import DecodeError, Page, decode_event
from kproxy.api.failures import ApiError, RefusedError, UnreachableError
from kproxy.api.kinds import ObjectKind
from kproxy.api.lines import split_lines
from kproxy.api.listwatch import Client, ListWatch, Timing
from kproxy.api.selection import wanted
from kproxy.api.sink import Sink
from kproxy.api.status import WatchStatus
from kproxy.api.types import ApiObject, ObjectKey
from kproxy.api.versions import is_older
from kproxy.api.wire import Added, Bookmark, Deleted, Error, Event, Modified, Status
from kproxy.wording import printable

_MOST_DOUBTS = 3
"""After so many watches in a row that bring nothing but an error, or nothing at all, the place is under suspicion.

It may lie in the future of a server that was set up from a backup: that server says nothing until it gets there.
"""
_SAY_NOTHING_OF_THE_PLACE = (401, 403, 404, 429, 502, 503, 504)
"""A whole cluster of nodes must not list anew just because its API server was overloaded or away."""
_RECENT_SECONDS = 10.0

_log = logs.get("reflector")


class PlaceLostError(Exception):
    """The place in the server's history is of no use; only a fresh list helps."""


class WatchError(Exception):
    """The watch ended, or was ended by the server, as it should not have."""

    def __init__(self, text: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Reflector:
    """Follows one kind of object. `run` is the body of a thread of its own.

    An ``optional`` kind may be missing or forbidden: it then counts as having no objects.
    """

    def __init__(
        self, kind: ObjectKind, client: Client, sink: Sink, node_name: str, timing: Timing, *, optional: bool = False
    ) -> None:
        self.status = WatchStatus(kind)
        self._kind = kind
        self._client = client
        self._sink = sink
        self._node_name = node_name
        self._timing = timing
        self._optional = optional
        self._server = ListWatch(client, node_name, timing, self.status)
        self._backoff = Backoff(timing.first_retry, timing.last_retry)
        self._stopping = threading.Event()
        self._place: str | None = None
        """The resource version up to which the sink has got everything; None before there is one."""
        self._listed_at = -_RECENT_SECONDS
        self._doubts = 0

    def stop(self) -> None:
        """Make `run` return. A request under way has to be broken off from outside."""
        self._stopping.set()

    def run(self) -> None:
        """List and watch until stopped. Nothing that goes wrong ends it."""
        while not self._stopping.is_set():
            pause = self._attempt()
            if pause > 0:
                self._stopping.wait(pause)

    def _attempt(self) -> float:
        """Bring the sink up to date and follow until something ends it; return the seconds to wait before the next."""
        try:
            if self._place is None and not self._server.streams_lists:
                self._list()
            self._watch()
        except RefusedError as error:
            return self._refused(error)
        except ApiError as error:
            return self._failed(error)
        except PlaceLostError as error:
            return self._lost(error)
        except (WatchError, DecodeError) as error:
            return self._doubted(error, getattr(error, "retry_after", None))
        except Exception as error:
            _log.exception("a watch failed in a way nobody foresaw", error, kind=self._kind)
            return self._doubted(error)
        return 0.0

    # Lists and watches

    def _list(self) -> None:
        try:
            self._read_list(self._server.pages())
        except RefusedError as error:
            if error.code != HTTPStatus.GONE:
                raise
            self._read_list(self._server.whole())

    def _read_list(self, pages: Iterator[Page]) -> None:
        objects: dict[ObjectKey, ApiObject] = {}
        version = ""
        for page in pages:
            version = version or page.resource_version
            if page.problems:
                self._sink.report(page.problems)
            objects.update((obj.metadata.key, obj) for obj in page.objects if wanted(self._kind, obj, self._node_name))
            self.status.alive()
            if self._stopping.is_set():
                return
        self._hand_over(objects, version)

    def _watch(self) -> None:
        """Open a watch, from the place reached or from the beginning, and follow it until it ends in good order."""
        with closing(self._server.watch(self._place)) as answer:
            opened = time.monotonic()
            before = self._progress
            self.status.watches += 1
            if self._place is not None:
                self._works()
            try:
                self._follow(answer)
            finally:
                lasted = time.monotonic() - opened
                if self._progress > before or (self._place is not None and lasted >= self._timing.too_short):
                    self._backoff.reset()
        if self._progress > before or self._stopping.is_set():
            return
        if self._place is None:
            raise WatchError("the list ended before it was complete")
        if lasted < self._timing.too_short:
            raise WatchError(f"the watch ended after {lasted:.1f} s and brought nothing")

    @property
    def _progress(self) -> int:
        return self.status.events + self.status.lists

    def _follow(self, answer: Answer) -> None:
        initial: dict[ObjectKey, ApiObject] | None = {} if self._place is None else None
        if initial is not None:
            answer.set_patience(self._timing.list_idle)
        for line in self._lines(answer):
            event, problems = decode_event(self._kind, line)
            self.status.alive()
            if problems:
                self._sink.report(problems)
            if event is None:
                continue
            if initial is None:
                self._take(event)
            elif self._gather(event, initial):
                answer.set_patience(self._timing.idle)
                initial = None

    def _lines(self, answer: Answer) -> Iterator[bytes]:
        """Yield the lines of a watch until it ends or `stop` is called.

        Bytes that make no line are no sign of life. Raises `WatchError` on silence and on a stream that is none.
        """
        last_line = time.monotonic()
        try:
            for lines in split_lines(self._counted(answer)):
                now = time.monotonic()
                if lines:
                    last_line = now
                elif now - last_line > self._timing.idle:
                    raise WatchError(self._fell_silent(answer.server))
                for line in lines:
                    if self._stopping.is_set():
                        return
                    yield line
        except ValueError as error:
            raise WatchError(str(error)) from error
        except UnreachableError as error:
            if not error.silent:
                raise
            raise WatchError(self._fell_silent(answer.server)) from error

    def _fell_silent(self, server: str) -> str:
        """Draw the consequences of a watch that brings nothing; return what to call it."""
        self._client.distrust(server)
        if self._place is None:
            self._server.streams_lists = False
            return f"API server {server}: the list came to a halt"
        return f"API server {server}: the watch brought nothing for {self._timing.idle:g} s"

    def _counted(self, answer: Answer) -> Iterator[bytes]:
        for chunk in answer.chunks():
            self.status.bytes_received += len(chunk)
            yield chunk

    def _gather(self, event: Event, initial: dict[ObjectKey, ApiObject]) -> bool:
        """Add to a streamed list; tell whether it is complete now, and has been handed over."""
        match event:
            case Added(object=obj) | Modified(object=obj):
                if wanted(self._kind, obj, self._node_name):
                    initial[obj.metadata.key] = obj
                else:
                    initial.pop(obj.metadata.key, None)
            case Deleted(object=obj):
                initial.pop(obj.metadata.key, None)
            case Error(object=status):
                raise _given_up(status)
            case Bookmark(ends_initial_events=True, resource_version=version):
                self._hand_over(initial, version)
                return True
            case Bookmark():  # one of an ordinary watch: the server does not know what was asked of it
                self._server.streams_lists = False
                raise WatchError("the server does not mark the end of a streamed list")
        return False

    def _take(self, event: Event) -> None:
        match event:
            case Added(object=obj) | Modified(object=obj):
                if self._advance(obj.metadata.resource_version):
                    if wanted(self._kind, obj, self._node_name):
                        self._sink.update(self._kind, obj)
                    else:
                        self._sink.delete(self._kind, obj.metadata.key)
            case Deleted(object=obj):
                if self._advance(obj.metadata.resource_version):
                    self._sink.delete(self._kind, obj.metadata.key)
            case Bookmark(resource_version=version):
                self._advance(version)
            case Error(object=status):
                raise _given_up(status)
        self.status.events += 1
        self._doubts = 0

    def _advance(self, version: str) -> bool:
        """Move on to ``version``; tell whether that is news. Raises `PlaceLostError` when it means going back."""
        assert self._place is not None  # noqa: S101 - for the type checker
        if version == self._place:
            return False
        if is_older(version, self._place):
            raise PlaceLostError(f"resource version {printable(version)} came after {self._place}")
        self._place = version
        return True

    def _hand_over(self, objects: dict[ObjectKey, ApiObject], version: str) -> None:
        self._sink.replace(self._kind, objects)
        self._place = version
        self._listed_at = time.monotonic()
        self.status.lists += 1
        self.status.synced = True
        _log.info("listed", kind=self._kind, objects=len(objects), resource_version=version)
        self._works()

    # What becomes of failures

    def _refused(self, error: RefusedError) -> float:
        if self._server.learn(error, self._place):
            _log.info("the API server can do less than asked, asking for less", kind=self._kind, answer=error)
            return 0.0
        if error.code == HTTPStatus.GONE or error.version_too_large:
            return self._lost(error)
        if self._optional and error.code in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
            return self._absent(error)
        if error.code in _SAY_NOTHING_OF_THE_PLACE:
            return self._failed(error, error.retry_after)
        return self._doubted(error, error.retry_after)

    def _failed(self, error: Exception, retry_after: float | None = None) -> float:
        if self._stopping.is_set():
            return 0.0
        self.status.fails(str(error))
        pause = self._backoff.next(retry_after)
        _log.warning("watch failed, trying again", kind=self._kind, error=error)
        _log.debug("waiting", kind=self._kind, seconds=pause)
        return pause

    def _doubted(self, error: Exception, retry_after: float | None = None) -> float:
        """Fail, and after several times in a row give up the place: it may be what the server cannot cope with."""
        self._doubts += 1
        if self._doubts >= _MOST_DOUBTS and self._place is not None:
            self._doubts = 0
            self._place = None
        return self._failed(error, retry_after)

    def _lost(self, error: Exception) -> float:
        """List again, at once unless that was done just now."""
        self._place = None
        if self._backoff.failures or time.monotonic() - self._listed_at < _RECENT_SECONDS:
            return self._failed(error)
        _log.info("listing again", kind=self._kind, reason=error)
        self._backoff.next()
        return 0.0

    def _absent(self, error: RefusedError) -> float:
        if not self.status.synced:
            _log.info("doing without", kind=self._kind, reason=error)
            self._sink.replace(self._kind, {})
            self.status.synced = True
        self._works()
        return self._timing.absent

    def _works(self) -> None:
        since = self.status.failing_since
        if since is not None:
            _log.info("watch works again", kind=self._kind, after_seconds=round(time.monotonic() - since, 1))
        self.status.works()


def _given_up(status: Status) -> Exception:
    """Return what an ERROR event means."""
    text = f"the server gave up the watch: {status.code} {printable(status.reason)}: {printable(status.message)}"
    if status.code == HTTPStatus.GONE:
        return PlaceLostError(text)
    return WatchError(text, status.details.retry_after_seconds if status.details else None)
