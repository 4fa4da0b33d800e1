"""What a reflector hands over to its sink, and up to which place in the server's history that is everything.

Lists are handed over whole or not at all, and changes only in the order of the server's history: one that goes back
means that the place is lost.
"""

import time
from collections.abc import Sequence

from kproxy import logs
from kproxy.api.kinds import ObjectKind
from kproxy.api.selection import wanted
from kproxy.api.sink import Sink
from kproxy.api.status import WatchStatus
from kproxy.api.types import ApiObject, ObjectKey, Problem
from kproxy.api.watch.relists import Reason
from kproxy.api.watch.stream import PlaceLostError, UnmarkedListError, given_up
from kproxy.api.watch.suspicions import Suspicions
from kproxy.api.watch.versions import is_older
from kproxy.api.wire import Added, Bookmark, Deleted, Error, Event, Modified
from kproxy.wording import printable

RECENT_SECONDS = 10.0
"""A list is not made again sooner, unless it has to be."""

_log = logs.get("reflector")


class Delivery:
    """Of one reflector, whose thread alone calls it; ``place`` and ``listed_at`` may be read by any."""

    def __init__(self, status: WatchStatus, sink: Sink, node_name: str, suspicions: Suspicions) -> None:
        self._status = status
        self._kind: ObjectKind = status.kind
        self._sink = sink
        self._node_name = node_name
        self._suspicions = suspicions
        self.place: str | None = None
        """The resource version up to which the sink has got everything; None before there is one."""
        self.listed_at = -RECENT_SECONDS
        """When a list was handed over last (monotonic seconds)."""
        self._known = ""
        """The last place that there was."""
        self._reason: Reason | None = None
        """Why the place was given up."""
        self._bytes_before = 0

    def give_up_place(self, reason: Reason) -> None:
        """Have everything listed again."""
        self._bytes_before = self._status.bytes_received
        self.place = None
        self._reason = reason

    def report(self, problems: Sequence[Problem]) -> None:
        """Tell the sink of objects that are no good."""
        if problems:
            self._sink.report(problems)

    def put(self, objects: dict[ObjectKey, ApiObject], obj: ApiObject) -> None:
        """Add an object to a list that is being read, or take it out, if it is not for this node."""
        if wanted(self._kind, obj, self._node_name):
            objects[obj.metadata.key] = obj
        else:
            objects.pop(obj.metadata.key, None)

    def gather(self, event: Event, objects: dict[ObjectKey, ApiObject]) -> str | None:
        """Add to a streamed list; return its resource version if it is complete now.

        Raises UnmarkedListError where the server has not understood that it was asked for a list.
        """
        match event:
            case Added(object=obj) | Modified(object=obj):
                self.put(objects, obj)
            case Deleted(object=obj):
                objects.pop(obj.metadata.key, None)
            case Error(object=status):
                raise given_up(status)
            case Bookmark(ends_initial_events=True, resource_version=version):
                return version
            case Bookmark():  # one of an ordinary watch
                raise UnmarkedListError("the server does not mark the end of a streamed list")
        return None

    def hand_over(self, objects: dict[ObjectKey, ApiObject], version: str) -> None:
        """Replace all that the sink has by a complete list."""
        if is_older(version, self._known):
            _log.warning(
                "the API server's time ran backwards: what was restored is in force, and what is gone is not",
                kind=self._kind,
                resource_version=version,
                before=self._known,
            )
            self._reason = Reason.HISTORY
        if self._reason is not None:
            self._status.listed_again(self._reason)
            self._reason = None
        self._sink.replace(self._kind, objects)
        self.place = self._known = version
        self.listed_at = time.monotonic()
        self._suspicions.listed(objects.values(), self._status.bytes_received - self._bytes_before)
        self._status.lists += 1
        self._status.synced = True
        _log.info("listed", kind=self._kind, objects=len(objects), resource_version=version)

    def do_without(self) -> None:
        """Hand over that there are none, and never were."""
        self._sink.replace(self._kind, {})
        self._status.synced = True

    def take(self, event: Event) -> None:
        """Pass a change on. Raises PlaceLostError for one from before the place, and what an error means."""
        match event:
            case Added(object=obj) | Modified(object=obj):
                if self._advance(obj.metadata.resource_version):
                    self._pass_on(obj, gone=not wanted(self._kind, obj, self._node_name))
            case Deleted(object=obj):
                if self._advance(obj.metadata.resource_version):
                    self._pass_on(obj, gone=True)
            case Bookmark(resource_version=version):
                self._advance(version)
            case Error(object=status):
                raise given_up(status)
        self._status.events += 1
        self._suspicions.proved()

    def _pass_on(self, obj: ApiObject, *, gone: bool) -> None:
        key = obj.metadata.key
        self._suspicions.changed(key, obj.metadata.resource_version, gone=gone)
        if gone:
            self._sink.delete(self._kind, key)
        else:
            self._sink.update(self._kind, obj)

    def _advance(self, version: str) -> bool:
        """Move on to ``version``; tell whether that is news. Raises `PlaceLostError` when it means going back."""
        assert self.place is not None  # noqa: S101 - for the type checker
        if version == self.place:
            return False
        if is_older(version, self.place):
            raise PlaceLostError(f"resource version {printable(version)} came after {self.place}")
        self.place = self._known = version
        return True
