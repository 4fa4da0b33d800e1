"""What stands between a source of objects and the one who uses them.

A source (the API server, a folder of manifests) pushes into a `Sink` from threads of its own; the receiver is expected
to coalesce, so that a storm of changes costs memory for the objects it is about and no more. A source keeps no objects
itself: it may hand over a complete set at any time, and the receiver finds out what changed.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from kproxy.api.kinds import ObjectKind
from kproxy.api.status import WatchStatus
from kproxy.api.types import ApiObject, ObjectKey, Problem


class Sink(Protocol):
    """Receives objects. Every method may be called from any thread, and should return quickly."""

    def replace(self, kind: ObjectKind, objects: Mapping[ObjectKey, ApiObject]) -> None:
        """Take ``objects`` for all that exist of ``kind``. The first such call means that the kind is synced."""

    def update(self, kind: ObjectKind, obj: ApiObject) -> None:
        """Take ``obj`` for the present state of the object of its name, new or changed."""

    def delete(self, kind: ObjectKind, key: ObjectKey) -> None:
        """Take note that there is no such object (any more; it may never have been handed over)."""

    def report(self, problems: Sequence[Problem]) -> None:
        """Take note of parts of objects that made no sense and were left out. Called before the object itself comes."""


class WholeSink(Sink, Protocol):
    """A sink for sources that know what belongs together."""

    def together(self) -> AbstractContextManager[None]:
        """Take what this thread hands over while the block lasts all at once, or not yet."""


class Source(Protocol):
    """Delivers objects to a sink until it is stopped."""

    @property
    def statuses(self) -> Sequence[WatchStatus]:
        """How each watch is doing; the objects are live and may be read from any thread."""

    def start(self) -> None:
        """Begin to deliver. Returns at once; raises where trying again cannot help."""

    def refresh(self) -> None:
        """Read everything anew, soon, and hand it over to be compared. May be called from any thread."""

    def stop(self) -> None:
        """Deliver nothing more from now on, and end within a second."""
