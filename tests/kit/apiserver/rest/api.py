"""From a request to its answer, without a socket: who asks, what for, and which part of the server replies."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from tests.kit.apiserver.kinds import Json, Target, parse_path
from tests.kit.apiserver.rest import writes
from tests.kit.apiserver.rest.discovery import discover
from tests.kit.apiserver.rest.listing import render_list
from tests.kit.apiserver.rest.status import ApiError
from tests.kit.apiserver.rest.store import Store
from tests.kit.apiserver.rest.watching import StreamingLists, Watch

HEALTH_PATHS = ("/healthz", "/livez", "/readyz")  # these ask for no credentials
_WRITE_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass
class Settings:
    """What kind of API server to be; may be changed while it runs.

    ``streaming_lists``: with sendInitialEvents, what a current server does ("offered"), one with the feature switched
    off (422, "forbidden"), or one too old to know the parameter ("ignored").
    ``bookmark_period`` is in seconds; None: only on demand. A real server sends one about every minute.
    ``gone_by_status``: a watch from too old a version is refused with HTTP 410, not accepted with an ERROR event.
    ``anonymous``: credentials are not asked for.
    ``watch_timeout``: seconds that a watch lasts which names no timeoutSeconds.
    """

    streaming_lists: StreamingLists = "offered"
    bookmark_period: float | None = 60.0
    gone_by_status: bool = False
    anonymous: bool = False
    watch_timeout: float = 1800.0


class Call(NamedTuple):
    """A request, read."""

    method: str
    path: str
    query: Mapping[str, str]
    content_type: str
    body: bytes
    target: Target | None
    verb: str  # "" where there is no target


class Answer(NamedTuple):
    """A finished answer."""

    code: int
    body: bytes
    content_type: str = "application/json"
    retry_after: float | None = None

    @classmethod
    def of_json(cls, code: int, body: Json, retry_after: float | None = None) -> "Answer":
        """An answer that is one JSON object."""
        return cls(code, msgspec.json.encode(body), retry_after=retry_after)

    @classmethod
    def of_error(cls, error: ApiError) -> "Answer":
        """An answer other than success."""
        return cls.of_json(error.code, error.body, error.retry_after)


def read_call(method: str, path: str, query: Mapping[str, str], content_type: str, body: bytes) -> Call:
    """Find out what a request is about."""
    target = parse_path(path)
    return Call(method, path, query, content_type, body, target, _verb(method, target, query))


def answer(store: Store, settings: Settings, call: Call) -> Answer | Watch:
    """Answer a call; a watch is answered by the stream that it is.

    Raises:
        ApiError: any answer other than success.
    """
    if call.path in HEALTH_PATHS or call.path.startswith(("/livez/", "/readyz/")):
        return Answer(200, b"ok", "text/plain; charset=utf-8")
    target = call.target
    if target is None:
        document = discover(call.path)
        if document is None:
            raise ApiError(404, details={})
        return Answer.of_json(200, document)
    if call.verb == "watch":
        return Watch(store, target, call.query, settings.streaming_lists)
    if call.verb == "list":
        return Answer(200, render_list(store, target, call.query))
    if call.verb == "get":
        return Answer(200, writes.fetch(store, target).typed_body())
    return _write(store, call, target)


def _write(store: Store, call: Call, target: Target) -> Answer:
    if call.verb not in _WRITE_VERBS.values() or (call.verb == "create") is bool(target.name):
        raise ApiError(405, "the server does not allow this method on the requested resource", details={})
    if "dryRun" in call.query:
        raise ApiError(400, "this server can not dry-run")
    if "protobuf" in call.content_type:
        raise ApiError(415, f"the body of the request was in an unknown format: {call.content_type!r}")
    if call.verb == "create":
        return Answer(201, writes.create(store, target, writes.decode_object(call.body)).typed_body())
    if call.verb == "update":
        return Answer(200, writes.update(store, target, writes.decode_object(call.body)).typed_body())
    if call.verb == "patch":
        return Answer(200, writes.patch(store, target, call.content_type, call.body).typed_body())
    return Answer.of_json(200, writes.delete(store, target))


def _verb(method: str, target: Target | None, query: Mapping[str, str]) -> str:
    if target is None:
        return ""
    if method == "GET":
        if query.get("watch", "").lower() in ("true", "1"):
            return "watch"
        return "get" if target.name else "list"
    return _WRITE_VERBS.get(method, method.lower())
