"""Where objects wait between the threads that receive them and the one that programs the kernel.

Only the latest state of each object is kept: a storm of changes to one object is one change by the time it is looked
at, and what waits can never outgrow the number of objects there are.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from kproxy.api.kinds import ObjectKind
from kproxy.api.types import ApiObject, ObjectKey, Problem


class Batch(NamedTuple):
    """All that came since the last drain. Complete sets are to be taken in before the single changes."""

    complete: Mapping[ObjectKind, Mapping[ObjectKey, ApiObject]]
    changes: Mapping[tuple[ObjectKind, ObjectKey], ApiObject | None]
    """None for an object that is gone."""
    problems: Sequence[Problem]
    """Parts of the objects that could not even be decoded."""
    since: float | None
    """When the oldest of it came, on the monotonic clock; None if nothing did."""

    @property
    def empty(self) -> bool:
        """Whether nothing came."""
        return self.since is None


class Inbox:
    """A `kproxy.api.sink.WholeSink` that any number of threads may fill and one drains."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._complete: dict[ObjectKind, Mapping[ObjectKey, ApiObject]] = {}
        self._changes: dict[tuple[ObjectKind, ObjectKey], ApiObject | None] = {}
        self._problems: list[Problem] = []
        self._since: float | None = None
        self._poked = False

    def replace(self, kind: ObjectKind, objects: Mapping[ObjectKey, ApiObject]) -> None:
        """Take in a complete set; single changes of that kind that still wait are older and go."""
        with self._condition:
            self._complete[kind] = objects
            self._changes = {key: value for key, value in self._changes.items() if key[0] is not kind}
            self._note()

    def update(self, kind: ObjectKind, obj: ApiObject) -> None:
        """Take in an object that is new or changed."""
        with self._condition:
            self._changes[kind, obj.metadata.key] = obj
            self._note()

    def delete(self, kind: ObjectKind, key: ObjectKey) -> None:
        """Take in that an object is gone."""
        with self._condition:
            self._changes[kind, key] = None
            self._note()

    def report(self, problems: Sequence[Problem]) -> None:
        """Take in what was wrong with objects; it is told when they are."""
        with self._condition:
            self._problems += problems
            self._note()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let nobody drain before all has come that this thread brings while the block lasts."""
        with self._condition:
            yield

    def poke(self) -> None:
        """Wake the thread that waits, without giving it anything."""
        with self._condition:
            self._poked = True
            self._condition.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until something has come or was poked, ``seconds`` at most; return whether anything waits."""
        with self._condition:
            if self._since is None and not self._poked:
                self._condition.wait(max(0.0, seconds))
            self._poked = False
            return self._since is not None

    def drain(self) -> Batch:
        """Return all that waits, and forget it."""
        with self._condition:
            batch = Batch(self._complete, self._changes, self._problems, self._since)
            self._complete, self._changes, self._problems, self._since = {}, {}, [], None
            return batch

    def _note(self) -> None:
        if self._since is None:
            self._since = time.monotonic()
            self._condition.notify_all()
