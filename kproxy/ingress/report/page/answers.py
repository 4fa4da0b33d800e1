"""Answers requests for ``/page.json``: the overview, or what becomes of a request that somebody asks about."""

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import parse_qs

import msgspec

from kproxy import __version__
from kproxy.ingress.explain.question import Question, QuestionError, read_headers
from kproxy.ingress.plan.model import Plan
from kproxy.ingress.report.metrics import Scraped
from kproxy.ingress.report.page.board import Row, Shown, Total, count, rows, totals
from kproxy.report.health import Verdict
from kproxy.report.protocol import Request, Response

SOONEST_SECONDS = 2.0
"""HAProxy is not asked more often than that, however many look."""
_JSON = "application/json"
_LONGEST = 8192


class Sources(NamedTuple):
    """Where the page gets what it shows. May be called from any thread."""

    plan: Callable[[], Plan | None]
    """None until all objects are known."""
    problems: Callable[[], Sequence[str]]
    scrape: Callable[[], Scraped]
    health: Callable[[], Verdict]
    ready: Callable[[], Verdict]
    explain: Callable[[bytes], bytes]
    """From a `Question` to a `kproxy.ingress.explain.reply.Reply`, both as JSON."""


class Overview(Shown, frozen=True, kw_only=True, omit_defaults=False):
    """All there is to see."""

    boot: str
    """Another one means that kproxy was started anew, and that totals begin anew."""
    counted: float
    """When totals were read (monotonic seconds)."""
    interval: float
    """Seconds until there may be something new."""
    version: str
    ready: bool
    healthy: bool
    reasons: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]
    routes: tuple[Row, ...]
    more: int
    """Routes that are not among them."""
    totals: tuple[Total, ...]


class Answers:
    """Answers requests. May be asked from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._from: Sources | None = None
        self._lock = threading.Lock()
        self._explaining = threading.Lock()
        self._boot = secrets.token_hex(6)
        self._made: tuple[float, bytes, str] | None = None
        """When the overview was made, the overview, and its tag."""
        self._rows: tuple[Plan, tuple[Row, ...], int] | None = None

    def open(self, sources: Sources) -> None:
        """Begin to answer; until then all that is known is that kproxy starts."""
        self._from = sources

    def answer(self, request: Request) -> Response:
        """Return the answer to a request."""
        sources = self._from
        if sources is None:
            return _error(503, "kproxy ingress is starting")
        if len(request.query) > _LONGEST:
            return _error(414, "this question is too long")
        asked = parse_qs(request.query, keep_blank_values=True)
        return self._explain(sources, asked) if "url" in asked else self._overview(sources, request)

    def _explain(self, sources: Sources, asked: dict[str, list[str]]) -> Response:
        try:
            headers = read_headers([line for line in asked.get("header", ()) if line.strip()])
        except QuestionError as error:
            return _error(400, str(error))
        question = Question(url=asked["url"][0].strip(), method=asked.get("method", ["GET"])[0], headers=headers)
        with self._explaining:  # one at a time: walking through a large plan takes its time
            return Response(200, sources.explain(msgspec.json.encode(question)), _JSON)

    def _overview(self, sources: Sources, request: Request) -> Response:
        with self._lock:
            if self._made is None or self._clock() - self._made[0] >= SOONEST_SECONDS:
                body = msgspec.json.encode(self._look(sources))
                self._made = self._clock(), body, f'"{hashlib.sha256(body).hexdigest()[:20]}"'
            _, body, tag = self._made
        if request.if_none_match == tag:
            return Response(304, b"", _JSON, {"ETag": tag})
        return Response(200, body, _JSON, {"ETag": tag})

    def _look(self, sources: Sources) -> Overview:
        plan = sources.plan()
        shown, number = self._routes(plan) if plan is not None else ((), 0)
        scraped, health, ready = sources.scrape(), sources.health(), sources.ready()
        reasons = (*_reasons(ready), *_reasons(health))
        return Overview(
            boot=self._boot,
            counted=self._clock(),
            interval=SOONEST_SECONDS,
            version=__version__,
            ready=ready.status == 200,
            healthy=health.status == 200,
            reasons=tuple(dict.fromkeys(reasons)),
            facts=tuple(_facts(plan, scraped, number)),
            problems=tuple(sources.problems()),
            routes=shown,
            more=number - len(shown),
            totals=totals(scraped.ways),
        )

    def _routes(self, plan: Plan) -> tuple[tuple[Row, ...], int]:
        if self._rows is None or self._rows[0] is not plan:
            self._rows = plan, rows(plan), count(plan)
        return self._rows[1:]


def _reasons(verdict: Verdict) -> Sequence[str]:
    found = verdict.body.get("reasons", ())
    return [str(reason) for reason in found] if isinstance(found, list | tuple) else []


def _facts(plan: Plan | None, scraped: Scraped, routes: int) -> Sequence[tuple[str, str]]:
    backends = plan.backends.values() if plan is not None else ()
    endpoints = sum(len(backend.endpoints) for backend in backends)
    return (
        ("HAProxy", "answers" if scraped.serving else "does not answer"),
        ("routes", f"{routes} to {len(backends)} backends of {endpoints} endpoints"),
        ("certificates", str(len(plan.certificates) if plan is not None else 0)),
        ("connections", str(sum(one.connections for one in scraped.frontends))),
        ("changes", f"{scraped.totals.runtime_changes} while running, {scraped.totals.reloads} by a reload"),
        ("statuses", "written here" if scraped.writes else "not written here"),
    )


def _error(status: int, reason: str) -> Response:
    return Response(status, msgspec.json.encode({"error": reason}), _JSON)
