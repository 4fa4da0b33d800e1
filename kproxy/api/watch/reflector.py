"""Keeping a sink in step with the API server, for one kind of object, for as long as the node lives.

The contract is client-go's reflector's. First a complete list: streamed as a watch that begins with everything
(KEP-3157), or in pages where the server doesn't offer that. Then the watch goes on from the list's resource version;
when it ends, for whatever reason, the next one resumes where it stopped. Bookmarks (KEP-956) keep that place fresh.

A place can be lost: the server has forgotten it (410, as a status or inside the stream), or events show that the
server's history is no longer the one it was. Then a fresh list is handed over as a whole, for the receiver to compare:
deletions missed meanwhile are applied, and nothing that is still there is ever taken away in between. For the same
reason, nothing is handed over of a list that is not complete.

Nothing is held here but the place in history (`kproxy.api.watch.delivery`) and what changed last. Silence is never
taken for peace: a watch that brings nothing for `Timing.idle` seconds, not even the bookmark that servers send each
minute, is dead, whatever its connection says. Nor is a watch that was opened again taken for the old one: see
`kproxy.api.watch.suspicions`.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http import HTTPStatus

from kproxy import logs
from kproxy.api.decode import DecodeError, Page, decode_event
from kproxy.api.kinds import ObjectKind
from kproxy.api.sink import Sink
from kproxy.api.status import WatchStatus
from kproxy.api.transport.client import Answer
from kproxy.api.transport.failures import ApiError, RefusedError
from kproxy.api.types import ApiObject, ObjectKey
from kproxy.api.watch.backoff import Backoff
from kproxy.api.watch.delivery import RECENT_SECONDS, Delivery
from kproxy.api.watch.listwatch import Client, ListWatch, Timing
from kproxy.api.watch.relists import Reason
from kproxy.api.watch.stream import PlaceLostError, SilenceError, UnmarkedListError, WatchError, watch_lines
from kproxy.api.watch.suspicions import Suspicions
from kproxy.faults.containment import survived

_MOST_DOUBTS = 3
"""After so many watches in a row that bring nothing but an error, the place is given up."""
_SAY_NOTHING_OF_THE_PLACE = (401, 403, 404, 429, 502, 503, 504)
"""A whole cluster of nodes must not list anew just because its API server was overloaded or away."""
_UNANSWERABLE = (400, 403, 404, 405, 410, 422)
"""Refusals of the question about the server's history: then it goes on without an answer."""

_log = logs.get("reflector")


class ListDueError(Exception):
    """It is time to list again."""


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
        self._timing = timing
        self._optional = optional
        self._server = ListWatch(client, node_name, timing, self.status)
        self._backoff = Backoff(timing.first_retry, timing.last_retry)
        self._stopping = threading.Event()
        self._doubts = 0
        self._suspicions = Suspicions(timing.idle)
        self._delivery = Delivery(self.status, sink, node_name, self._suspicions)
        self._requested = threading.Event()
        self._awake = threading.Event()
        self._answer: Answer | None = None
        self._opened = False
        self._worked = False
        """Whether the watch that has ended had lasted for a while."""
        self._broken_off = False
        """Whether it was us who broke the watch off."""

    def stop(self) -> None:
        """Make `run` return. A request under way has to be broken off from outside."""
        self._stopping.set()
        self._awake.set()

    def relist(self) -> None:
        """List again soon, and compare. From any thread; often asked for, it is done once in ten seconds or so."""
        if self._requested.is_set():
            return
        if self._delivery.place is None:  # a list is under way, or will be
            self._awake.set()
            return
        self._requested.set()
        wait = self._delivery.listed_at + self._suspicions.spread - time.monotonic()
        timer = threading.Timer(max(0.0, wait), self._break_off)
        timer.daemon = True
        timer.start()

    def _break_off(self) -> None:
        """End the watch, or the pause, that is under way; a list goes on: it is what was asked for."""
        self._awake.set()
        answer = self._answer
        if answer is not None and self._delivery.place is not None:
            self._broken_off = True
            answer.abort()

    def run(self) -> None:
        """List and watch until stopped. Nothing that goes wrong ends it."""
        while not self._stopping.is_set():
            pause = self._attempt()
            if pause > 0:
                self._awake.wait(pause)
                self._awake.clear()

    def _attempt(self) -> float:
        """Bring the sink up to date and follow until something ends it; return the seconds to wait before the next."""
        try:
            return self._follow_once()
        except ListDueError:
            return 0.0
        except ApiError as error:
            if self._delivery.place is not None:
                self._suspicions.failed(error, opened=self._opened)
            return self._refused(error) if isinstance(error, RefusedError) else self._broken(error)
        except PlaceLostError as error:
            return self._lost(error, error.reason)
        except UnmarkedListError as error:
            self._server.streams_lists = False
            return self._doubted(error)
        except SilenceError as error:
            return self._fell_silent(error.server)
        except (WatchError, DecodeError) as error:
            return self._doubted(error, getattr(error, "retry_after", None))
        except Exception as error:
            survived(f"watch of {self._kind}", error, "a watch failed in a way nobody foresaw")
            return self._doubted(error)

    def _follow_once(self) -> float:
        self._opened = self._worked = False
        if self._delivery.place is not None:
            self._look_behind(self._delivery.place)
        if pause := self._suspicions.pause():
            return pause
        if self._delivery.place is None and not self._server.streams_lists:
            self._list()
        self._watch()
        return 0.0

    def _look_behind(self, place: str) -> None:
        """Give the place up if a list is due; else make sure, where there is reason to, that it is still one."""
        due = self._suspicions.due()
        if due is not None:
            self._delivery.give_up_place(due.reason)
            _log.info("listing again", kind=self._kind, reason=due.text)
        elif self._requested.is_set() and time.monotonic() - self._delivery.listed_at >= self._suspicions.spread:
            self._requested.clear()
            self._delivery.give_up_place(Reason.REQUESTED)
        elif self._suspicions.must_ask:
            self._ask(place)

    def _ask(self, place: str) -> None:
        try:
            glimpse = self._server.glimpse(self._suspicions.object_to_ask_for)
        except RefusedError as error:
            if error.code not in _UNANSWERABLE:
                raise
            _log.debug("cannot ask for the server's history", kind=self._kind, answer=error)
            self._suspicions.must_ask = False
            return
        self.status.alive()
        self._suspicions.answered(place, glimpse)

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
            self._delivery.report(page.problems)
            for obj in page.objects:
                self._delivery.put(objects, obj)
            self.status.alive()
            if self._stopping.is_set():
                return
        self._hand_over(objects, version)

    def _watch(self) -> None:
        """Open a watch, from the place reached or from the beginning, and follow it until it ends in good order."""
        resumed = self._delivery.place is not None
        with closing(self._server.watch(self._delivery.place)) as answer:
            opened = time.monotonic()
            before = self._progress
            self.status.watches += 1
            if resumed:
                self._works()
            self._answer = answer
            self._opened = True
            try:
                self._follow(answer)
            finally:
                self._answer = None
                lasted = time.monotonic() - opened
                self._worked = self._delivery.place is not None and lasted >= self._timing.too_short
                if self._worked or self._progress > before:
                    self._backoff.reset()
                if lasted >= self._timing.shortest_watch:
                    self._suspicions.must_ask = True
                self._suspicions.ended(resumed=resumed)
        if self._progress > before or self._stopping.is_set():
            return
        if self._delivery.place is None:
            raise WatchError("the list ended before it was complete")
        if lasted < self._timing.too_short:
            raise WatchError(f"the watch ended after {lasted:.1f} s and brought nothing")

    @property
    def _progress(self) -> int:
        return self.status.events + self.status.lists

    def _follow(self, answer: Answer) -> None:
        initial: dict[ObjectKey, ApiObject] | None = {} if self._delivery.place is None else None
        if initial is not None:
            answer.set_patience(self._timing.list_idle)
        elif (patience := self._suspicions.patience()) < self._timing.idle:
            answer.set_patience(patience)
        for line in watch_lines(answer, self._timing.idle, self._received):
            if self._stopping.is_set():
                return
            if initial is None and self._suspicions.due() is not None:
                raise ListDueError
            event, problems = decode_event(self._kind, line)
            self.status.alive()
            self._delivery.report(problems)
            if event is None:
                continue
            if initial is None:
                self._delivery.take(event)
                self._doubts = 0
            elif (version := self._delivery.gather(event, initial)) is not None:
                self._hand_over(initial, version)
                answer.set_patience(self._timing.idle)
                initial = None

    def _received(self, count: int) -> None:
        self.status.bytes_received += count

    def _hand_over(self, objects: dict[ObjectKey, ApiObject], version: str) -> None:
        self._requested.clear()  # whoever asks from now on until it is in force means this one
        self._broken_off = False
        self._delivery.hand_over(objects, version)
        self._works()
        self.status.alive()

    # What becomes of failures

    def _refused(self, error: RefusedError) -> float:
        if self._server.learn(error, self._delivery.place):
            _log.info("the API server can do less than asked, asking for less", kind=self._kind, answer=error)
            return 0.0
        if error.code == HTTPStatus.GONE:
            return self._lost(error, Reason.EXPIRED)
        if error.version_too_large:
            return self._lost(error, Reason.HISTORY)
        if self._optional and error.code in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
            return self._absent(error)
        if error.code in _SAY_NOTHING_OF_THE_PLACE:
            return self._failed(error, error.retry_after)
        return self._doubted(error, error.retry_after)

    def _broken(self, error: ApiError) -> float:
        """Fail; where that ended a watch that had lasted for a while, the next one follows at once."""
        return self._failed(error, pause=self._backoff.at_once() if self._worked else None)

    def _failed(self, error: Exception, retry_after: float | None = None, *, pause: float | None = None) -> float:
        broken_off, self._broken_off = self._broken_off, False
        if self._stopping.is_set() or broken_off:
            return 0.0
        self.status.fails(str(error))
        if pause is None:
            pause = self._backoff.next(retry_after)
        _log.warning("watch failed, trying again", kind=self._kind, error=error)
        _log.debug("waiting", kind=self._kind, seconds=pause)
        return pause

    def _fell_silent(self, server: str) -> float:
        """Draw the consequences of a watch that brings nothing; if that was for long, and a list is due, make it."""
        if self._delivery.place is not None and self._suspicions.due() is not None:
            return 0.0
        self._client.distrust(server)
        self._suspicions.must_ask = True
        text = f"the watch brought nothing for {self._timing.idle:g} s"
        if self._delivery.place is None:
            self._server.streams_lists = False
            text = "the list came to a halt"
        return self._failed(WatchError(f"API server {server}: {text}"))

    def _doubted(self, error: Exception, retry_after: float | None = None) -> float:
        """Fail, and after several times in a row give up the place: it may be what the server cannot cope with."""
        self._doubts += 1
        if self._doubts >= _MOST_DOUBTS and self._delivery.place is not None:
            self._doubts = 0
            self._delivery.give_up_place(Reason.REFUSED)
        return self._failed(error, retry_after)

    def _lost(self, error: Exception, reason: Reason) -> float:
        """List again, at once unless that was done just now."""
        self._delivery.give_up_place(reason)
        if self._backoff.failures or time.monotonic() - self._delivery.listed_at < RECENT_SECONDS:
            return self._failed(error)
        _log.info("listing again", kind=self._kind, reason=error)
        self._backoff.next()
        return 0.0

    def _absent(self, error: RefusedError) -> float:
        if not self.status.synced:
            _log.info("doing without", kind=self._kind, reason=error)
            self._delivery.do_without()
        self._works()
        return self._timing.absent

    def _works(self) -> None:
        since = self.status.failing_since
        if since is not None:
            _log.info("watch works again", kind=self._kind, after_seconds=round(time.monotonic() - since, 1))
        self.status.recovers()
