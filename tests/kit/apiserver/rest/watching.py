"""One watch: which changes a client gets to see, as what, and where bookmarks come in.

Pure but for reading the store: frames in, no socket. What the real server does is followed closely where clients depend
on it: an object that leaves the selection is DELETED in its last selected state; a DELETED object bears the version of
its deletion; a watch from a version that the server has not reached stays silent until it is passed (which is how
clients miss changes after a backup of etcd was put back).
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from tests.kit.apiserver.kinds import Json, Target
from tests.kit.apiserver.rest.listing import in_namespace, list_options
from tests.kit.apiserver.rest.status import invalid_options, status_body, too_large
from tests.kit.apiserver.rest.store import Event, ExpiredError, Store, Stored

FrameType: TypeAlias = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR", "BODY"]
StreamingLists: TypeAlias = Literal["offered", "forbidden", "ignored"]

INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class Frame(NamedTuple):
    """One piece of an answer: an event with its newline, or (BODY) all of an answer that is no stream."""

    type: FrameType
    data: bytes


class Watch:
    """The state of one watch request.

    Raises:
        ApiError: the request is refused before the stream begins.
    """

    def __init__(
        self, store: Store, target: Target, query: Mapping[str, str], streaming: StreamingLists = "offered"
    ) -> None:
        self._store = store
        self._target = target
        self._options = list_options(target, query)
        self._initial = _wants_initial_events(query, self._options.match, streaming)
        self._bookmarks = _flag(query, "allowWatchBookmarks")
        self._key_prefix = f"/{target.namespace}/" if target.namespace else "/"
        self._seen = 0
        wanted = int(self._options.version or 0)
        if self._initial and wanted > store.version:
            raise too_large(wanted, store.version)

    def start(self) -> list[Frame]:
        """The frames that open the stream: the present state, where one was asked for.

        Raises:
            ExpiredError: the version to start from is no longer in the history.
        """
        version = int(self._options.version or 0)
        if version and not self._initial:
            self._seen = version
            return self.poll()
        with self._store.lock:
            self._seen = self._store.version
            state = in_namespace(self._store.state(self._target.kind, self._seen), self._target.namespace)
        if self._initial is False:
            return []
        frames = [_event_frame("ADDED", stored) for stored in state if self._selects(stored)]
        if self._initial and self._bookmarks:
            frames.append(self._bookmark_frame({"annotations": {INITIAL_EVENTS_END: "true"}}))
        return frames

    def poll(self) -> list[Frame]:
        """The frames since the last call.

        Raises:
            ExpiredError: the client was too slow, the history has moved on.
        """
        events = self._store.events_since(self._target.kind, self._seen)
        if events:
            self._seen = events[-1].version
        return [frame for event in events if (frame := self._frame(event)) is not None]

    def bookmark(self) -> list[Frame]:
        """A bookmark at the store's version, preceded by what is still unsent; nothing where none is wanted."""
        with self._store.lock:
            frames = self.poll()
            if not self._bookmarks or self._store.version < self._seen:
                return frames
            self._seen = self._store.version
        return [*frames, self._bookmark_frame({})]

    def expired(self, error: ExpiredError) -> Frame:
        """The ERROR event for a history that is gone."""
        return error_frame(status_body(410, f"too old resource version: {self._seen} ({error.floor})"))

    def _frame(self, event: Event) -> Frame | None:
        before = event.old is not None and self._selects(event.old)
        after = event.new is not None and self._selects(event.new)
        if after and event.new is not None:
            return _event_frame("MODIFIED" if before else "ADDED", event.new)
        if before and event.old is not None:
            return _event_frame("DELETED", event.old, event.version)
        return None

    def _selects(self, stored: Stored) -> bool:
        return (
            stored.key.startswith(self._key_prefix)
            and (not self._target.name or stored.fields["metadata.name"] == self._target.name)
            and self._options.selector.matches(stored.labels, stored.fields)
        )

    def _bookmark_frame(self, extra: Json) -> Frame:
        kind = self._target.kind
        metadata = {"resourceVersion": str(self._seen), **extra}
        body = {"kind": kind.name, "apiVersion": kind.api_version, "metadata": metadata, **kind.empty}
        return _frame("BOOKMARK", msgspec.json.encode(body))


def error_frame(body: Json) -> Frame:
    """An ERROR event with a Status in it."""
    return _frame("ERROR", msgspec.json.encode(body))


def _event_frame(type_: FrameType, stored: Stored, version: int | None = None) -> Frame:
    return _frame(type_, stored.typed_body(version))


def _frame(type_: FrameType, body: bytes) -> Frame:
    return Frame(type_, b'{"type":"%b","object":%b}\n' % (type_.encode(), body))


def _flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("true", "1")


def _wants_initial_events(query: Mapping[str, str], match: str, streaming: StreamingLists) -> bool | None:
    """Tell whether the present state is to be sent first; None where the request leaves it to its version."""
    field = "sendInitialEvents"
    if streaming == "ignored" or field not in query:
        if match and streaming != "ignored":
            raise invalid_options("resourceVersionMatch", "forbidden for watch unless sendInitialEvents is provided")
        return None
    if streaming == "forbidden":
        raise invalid_options(field, f"{field} is forbidden for watch unless the WatchList feature gate is enabled")
    if match != "NotOlderThan":
        raise invalid_options("resourceVersionMatch", f"{field} requires setting resourceVersionMatch to NotOlderThan")
    return _flag(query, field)
