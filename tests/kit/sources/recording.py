"""A sink that remembers, to see what a source of objects has delivered and what it has taken back meanwhile."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from kproxy.api.kinds import ObjectKind
from kproxy.api.types import ApiObject, ObjectKey, Problem

DEADLINE = 20.0
"""Seconds after which a test gives up waiting; nothing should take anywhere near as long."""


class RecordingSink:
    """Holds what was delivered, and every object that was ever removed."""

    def __init__(self) -> None:
        self.state: dict[ObjectKind, dict[ObjectKey, ApiObject]] = {}
        self.removed: list[ObjectKey] = []
        self.replaced = 0
        self.updates: list[ApiObject] = []
        self.problems: list[Problem] = []
        self.apart: list[ObjectKind] = []
        """The kinds of complete sets that came by themselves."""
        self._changed = threading.Condition()
        self._together = False

    def replace(self, kind: ObjectKind, objects: Mapping[ObjectKey, ApiObject]) -> None:
        with self._change():
            self.removed += [key for key in self.state.get(kind, {}) if key not in objects]
            self.state[kind] = dict(objects)
            self.replaced += 1
            self.apart += [] if self._together else [kind]

    @contextmanager
    def together(self) -> Iterator[None]:
        with self._changed:
            self._together = True
            yield
            self._together = False

    def update(self, kind: ObjectKind, obj: ApiObject) -> None:
        with self._change():
            self.state[kind][obj.metadata.key] = obj
            self.updates.append(obj)

    def delete(self, kind: ObjectKind, key: ObjectKey) -> None:
        with self._change():
            if self.state[kind].pop(key, None) is not None:
                self.removed.append(key)

    def report(self, problems: Sequence[Problem]) -> None:
        with self._change():
            self.problems += problems

    def names(self, kind: ObjectKind) -> set[str]:
        """Names of all objects of a kind that are in force."""
        return {key.name for key in self.state.get(kind, {})}

    def wait(self, condition: Callable[[], bool], what: str = "condition") -> None:
        """Wait until ``condition`` holds; it is tried after every delivery."""
        with self._changed:
            assert self._changed.wait_for(condition, DEADLINE), f"not seen in {DEADLINE} s: {what}; state: {self.state}"

    @contextmanager
    def _change(self) -> Iterator[None]:
        with self._changed:
            yield
            self._changed.notify_all()
