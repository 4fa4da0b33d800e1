"""The JSON endpoint of the page: the list of Services, one Service, what becomes of a connection, how kproxy does.

Whatever it costs is bounded, however many look and however often they ask: each thing is made anew no sooner than its
making has been paid for (a part of a core), and what was made is handed to all who ask meanwhile. Asked in threads.
"""

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import parse_qs

import msgspec

from kproxy.api.types import ObjectKey
from kproxy.backends.base import BackendError
from kproxy.explain.model import Answer
from kproxy.explain.question import Question, QuestionError, ask
from kproxy.explain.view import View
from kproxy.proxier.pacing import Pacer
from kproxy.report.page.board import Board, Counted, Family, News, Row, Totals
from kproxy.report.page.picture import EndpointTotals, Picture, names_of, picture
from kproxy.report.protocol import Request, Response
from kproxy.report.status import Status
from kproxy.state.model import IPFamily, ServicePortName

_LOOKING_SHARE = 0.002
_COUNTING_SHARE = 0.003
"""What part of a core looking at the plan may take, and reading the kernel's counters. The rest of the hundredth that
an open page may cost is for requests, and for what the daemon takes by itself."""
_EXPLAINING_SHARE = 0.1
"""The same for explanations, which somebody asks for one by one."""
_SOONEST, _LATEST = 2.0, 300.0
"""Seconds between two looks, and between two counts."""
_MOST_KEPT = 32
_AGE_STEP = 10.0
"""Ages are told in steps, lest each look find something new."""
_ATTEMPTS = 3
_JSON = "application/json"


class Sources(NamedTuple):
    """Whom the page asks."""

    views: Callable[[], Sequence[View]]
    status: Callable[[], Status]
    """How kproxy does, without rates; see `kproxy.report.status`."""
    refused: Callable[[], Mapping[tuple[IPFamily, ServicePortName], str]]
    changed: Callable[[], Mapping[ServicePortName, float]]
    """When service ports were changed lately, in Unix time."""
    totals: Callable[[], Counted | None]
    """Connections so far, as of the last reading; None where there is none."""
    endpoints: Callable[[Sequence[ServicePortName]], EndpointTotals]
    """Connections by endpoint, as of the last count."""
    explain: Callable[[Question], Answer]
    """May raise QuestionError and BackendError."""


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """What the list's page is told."""

    boot: str
    """Another one means that kproxy was started anew, and that numbers begin anew."""
    number: int
    full: bool
    now: float
    """Unix time here."""
    interval: float
    """Seconds until there may be something new."""
    counted: float | None
    """When connections were counted last (monotonic seconds); None for not yet."""
    counting: float
    """Seconds between two counts."""
    status: Status
    services: Sequence[Row]
    gone: Sequence[str]
    totals: Mapping[str, Totals]


class Detail(msgspec.Struct, frozen=True, kw_only=True):
    """What the page of a Service is told."""

    counted: float | None
    service: Picture


class Answers:
    """Answers requests for ``/page.json``. May be asked from any thread."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._cpu = cpu
        self._from: Sources | None = None
        self._lock = threading.Lock()
        self._explaining = threading.Lock()
        self._explaining_pacer = Pacer(_EXPLAINING_SHARE, longest=_LATEST)
        self._look_pacer = Pacer(_LOOKING_SHARE, _SOONEST, longest=_LATEST)
        self._count_pacer = Pacer(_COUNTING_SHARE, _SOONEST, longest=_LATEST)
        self._look_seconds = self._count_seconds = _SOONEST
        """From one to the next, as it is told."""
        self._boot = secrets.token_hex(6)
        self._board = Board()
        self._status: Status | None = None
        self._now = 0.0
        self._counted: float | None = None
        self._totals: Mapping[ServicePortName, Totals] = {}
        self._made: dict[tuple[str, str], bytes] = {}
        """What was made since the last look."""

    def open(self, sources: Sources) -> None:
        """Begin to answer; until then all that is known is that kproxy starts."""
        self._from = sources

    def answer(self, request: Request) -> Response:
        """Return the answer to a request."""
        if self._from is None:
            return _error(503, "kproxy is starting; try again in a moment", **{"Retry-After": "1"})
        asked = {
            name: values[-1]
            for name, values in parse_qs(request.query, keep_blank_values=True, max_num_fields=8).items()
        }
        if "explain" in asked:
            return self._explain(self._from, asked)
        if "status" in asked:
            return Response(200, msgspec.json.encode(self._from.status()), _JSON)
        with self._lock:
            self._look(self._from)
            if "service" in asked:
                return self._one(self._from, asked["service"], request.if_none_match)
            return self._overview(asked.get("boot"), asked.get("since", ""), request.if_none_match)

    # --- looking ---------------------------------------------------------------------------------------------------

    def _look(self, sources: Sources) -> None:
        """See what is new, where it is time to."""
        first = self._status is None
        if self._is_due(self._look_pacer):
            began = self._cpu()
            before = self._board.number
            self._board.look(_families(sources), sources.changed(), self._wall_clock())
            status = _steady(sources.status())
            if status != self._status:
                self._board.touch()
            self._status = status
            if self._board.number != before:
                self._now = self._wall_clock()
                self._made.clear()
            # All later ones take a fraction of the first.
            self._look_seconds = self._done(self._look_pacer, 0.0 if first else self._cpu() - began)
        # The first picture does not wait for the kernel's counters. Nor does a change that waits for the kernel.
        pending = self._status is None or any(family.pending for family in self._status.families)
        if not first and self._is_due(self._count_pacer) and not pending:
            began = self._cpu()
            counted = sources.totals()
            if counted is not None and counted.at != self._counted:
                self._counted, self._totals = counted
                self._board.count(counted.totals)
                self._made.clear()
            self._count_seconds = self._done(self._count_pacer, self._cpu() - began)

    def _is_due(self, pacer: Pacer) -> bool:
        return pacer.delay(self._clock()) == 0.0

    def _done(self, pacer: Pacer, cpu_seconds: float) -> float:
        """Note what was done just now, and what processor time that took; return for how many seconds to let it be."""
        now = self._clock()
        pacer.succeeded(now, now, cpu_seconds)
        return pacer.delay(now)

    def _overview(self, boot: str | None, since: str, seen: str) -> Response:
        number = int(since) if boot == self._boot and since.isascii() and since.isdecimal() else None
        tag = f'"{self._boot}-{self._board.number}"'
        if seen == tag and number == self._board.number:
            return Response(304, b"", _JSON, {"ETag": tag})
        return Response(200, self._once("since", str(number), lambda: self._document(number)), _JSON, {"ETag": tag})

    def _document(self, number: int | None) -> bytes:
        assert self._status is not None  # noqa: S101 - there was a look
        news: News = self._board.since(number)
        return msgspec.json.encode(
            Overview(
                boot=self._boot,
                number=self._board.number,
                full=news.full,
                now=self._now,
                interval=self._look_seconds,
                counted=self._counted,
                counting=self._count_seconds,
                status=self._status,
                services=news.rows,
                gone=news.gone,
                totals=news.totals,
            )
        )

    def _once(self, kind: str, what: str, make: Callable[[], bytes]) -> bytes:
        """Return what was made for somebody else since the last look, or make it."""
        if (kind, what) not in self._made:
            if len(self._made) >= _MOST_KEPT:
                self._made.clear()
            self._made[kind, what] = make()
        return self._made[kind, what]

    def _one(self, sources: Sources, said: str, seen: str) -> Response:
        namespace, _, name = said.partition("/")
        key = ObjectKey(namespace, name)
        if key not in self._board.rows:
            return _error(404, f"there is no Service {said} here that kproxy serves")
        tag = f'"{self._boot}-{self._board.number}-{hash(key) & 0xFFFFFFFF:x}"'
        if seen == tag:
            return Response(304, b"", _JSON, {"ETag": tag})
        return Response(200, self._once("service", said, lambda: self._picture(sources, key)), _JSON, {"ETag": tag})

    def _picture(self, sources: Sources, key: ObjectKey) -> bytes:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                views = sources.views()
                counted = sources.endpoints(names_of(views, key))
                return msgspec.json.encode(
                    Detail(counted=self._counted, service=picture(views, key, self._totals, counted))
                )
            except (KeyError, RuntimeError):  # the state changed meanwhile
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    # --- explaining ------------------------------------------------------------------------------------------------

    def _explain(self, sources: Sources, asked: Mapping[str, str]) -> Response:
        """Explain one connection at a time, and no more often than that takes a part of a core."""
        if not self._explaining.acquire(blocking=False):
            return _error(503, "kproxy is explaining something else; try again in a moment", **{"Retry-After": "1"})
        try:
            if not self._is_due(self._explaining_pacer):
                return _error(503, "too many questions at once; try again in a moment", **{"Retry-After": "1"})
            began = self._cpu()
            try:
                question = ask(
                    asked["explain"].strip(),
                    sender=asked.get("from", "pod").strip() or "pod",
                    protocol=asked.get("protocol", ""),
                )
                answer = sources.explain(question)
            except QuestionError as error:
                return _error(400, str(error))
            except BackendError as error:
                return _error(502, str(error))
            finally:
                self._done(self._explaining_pacer, self._cpu() - began)
        finally:
            self._explaining.release()
        # Who is connected to what is told by the socket for root alone, not by an open port.
        return Response(200, msgspec.json.encode(msgspec.structs.replace(answer, flows=())), _JSON)


def _families(sources: Sources) -> list[Family]:
    refused = sources.refused()
    return [
        Family(view.plan, view.losses, {name: why for (family, name), why in refused.items() if family is view.family})
        for view in sources.views()
    ]


def _steady(status: Status) -> Status:
    """Return a status without what is another at each look."""
    watches = tuple(
        msgspec.structs.replace(watch, age_seconds=watch.age_seconds // _AGE_STEP * _AGE_STEP)
        for watch in status.watches
    )
    return msgspec.structs.replace(status, uptime_seconds=0.0, watches=watches)


def _error(status: int, text: str, **headers: str) -> Response:
    return Response(status, msgspec.json.encode({"error": text}), _JSON, headers)
