"""Says what is wrong with the node: once, at the start or when it becomes so, in the log, as a metric and as an Event.

See `kproxy.node.problems` for what can be.
"""

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from kproxy import logs
from kproxy.api.types import Node
from kproxy.node import problems
from kproxy.node.problems import View
from kproxy.report.events import EventRecorder
from kproxy.report.metrics import Metrics

log = logs.get("node")

LOOK_SECONDS = 5.0


class Viewer(Protocol):
    """Puts together what is known of the node."""

    def node_changed(self, node: Node | None) -> None:
        """The Node object came, changed, is gone, or was never there."""

    def view(self) -> View:
        """Return what is to be judged."""


class NodeReporter:
    """Looks at the node every now and then. For one thread."""

    def __init__(
        self,
        viewer: Viewer,
        metrics: Metrics,
        events: EventRecorder,
        *,
        gone: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``gone`` hears the reasons that are there no longer."""
        self._viewer = viewer
        self._metrics = metrics
        self._events = events
        self._gone = gone
        self._clock = clock
        self._next_look = float("-inf")
        self._told: Mapping[str, str] = {}

    @property
    def problems(self) -> Mapping[str, str]:
        """What is wrong with the node now, by reason."""
        return self._told

    def node_changed(self, node: Node | None) -> None:
        """The Node object came, changed, is gone, or was never there."""
        self._viewer.node_changed(node)
        self._next_look = float("-inf")

    def idle(self) -> None:
        """Look again, if it is time."""
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        self._tell(problems.problems(self._viewer.view()))

    def _tell(self, found: Mapping[str, str]) -> None:
        if found == self._told:
            return
        before, self._told = self._told, found
        for reason, text in found.items():
            if reason not in before:
                log.warning(text, reason=reason)
                self._events.node_problem(reason, text)
        for reason in before.keys() - found.keys():
            log.info("a problem of the node is gone", reason=reason)
            self._gone(reason)
        self._metrics.node_problems(found)
