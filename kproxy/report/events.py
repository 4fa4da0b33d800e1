"""Kubernetes Events: what ``kubectl describe node`` and ``kubectl get events`` show of kproxy.

They are those of kube-proxy, with its reasons and actions (cmd/kube-proxy/app/server.go, pkg/proxy/healthcheck): an
Event on the Node when it starts or can't open its health port, one on a Service whose health-check node port is taken.

Events are a courtesy, so they never cost anything else: they are written by a thread of their own, from a short queue.
What does not fit into it is dropped, and so is what the API server does not take; neither fails anything.
"""

import contextlib
import datetime
import queue
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import NamedTuple

import msgspec

from kproxy import logs
from kproxy.api.transport.access import AccessError
from kproxy.api.transport.failures import RefusedError, UnreachableError
from kproxy.api.types import ObjectKey
from kproxy.faults.containment import contained
from kproxy.report.healthcheck import HealthCheckFailure

log = logs.get("events")

EVENTS_PATH = "/apis/events.k8s.io/v1/namespaces/{namespace}/events"
CONTROLLER = "kproxy"
_NODE_NAMESPACE = "default"
"""Where Events on objects without a namespace are kept."""
_QUEUE = 64
_RETRY_SECONDS = (1.0, 5.0, 15.0, 60.0)
"""How long to wait for an API server that is out of reach: when a node starts, it may be so for a while."""
_STOP_SECONDS = 0.3
_MAX_NOTE = 1024
_MAX_INSTANCE = 128

Post = Callable[[str, bytes], bytes]


class Event(NamedTuple):
    """One Event: on what, and what is to be said."""

    kind: str
    regarding: ObjectKey
    reason: str
    action: str
    note: str
    warning: bool = False
    api_version: str = "v1"
    uid: str = ""


class EventRecorder:
    """Takes Events from any thread, and writes them when it can."""

    def __init__(
        self,
        post: Post | None,
        node_name: str,
        retry_seconds: tuple[float, ...] = _RETRY_SECONDS,
        size: int = _QUEUE,
        controller: str = CONTROLLER,
    ) -> None:
        """Write by ``post`` (`kproxy.api.transport.client.ApiClient.post`); without one, there is nobody to tell."""
        self._controller = controller
        self._post = post
        self._node_name = node_name
        self._retry_seconds = retry_seconds
        self._queue: queue.Queue[tuple[Event, datetime.datetime] | None] = queue.Queue(size)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Write Events for as long as the block lasts; what waits at its end has a moment left."""
        if self._post is not None:
            self._thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            with contextlib.suppress(queue.Full):  # then it has enough to wake up by
                self._queue.put_nowait(None)
            if self._thread.is_alive():
                self._thread.join(_STOP_SECONDS)

    def started(self, version: str) -> None:
        """Say that kproxy starts."""
        self._on_node("Starting", f"Starting kproxy {version}")

    def health_server_failed(self, problem: str) -> None:
        """Say that the health server's port can't be opened."""
        note = f"failed to start proxy healthz: {problem}"
        self._on_node("FailedToStartProxierHealthcheck", note, warning=True)

    def health_check_failed(self, failure: HealthCheckFailure) -> None:
        """Say that a Service's health-check node port can't be opened."""
        note = f"node {self._node_name} failed to start healthcheck on port {failure.port}: {failure.reason}"
        self.record(Event("Service", failure.service, "FailedToStartServiceHealthcheck", "Listen", note, warning=True))

    def node_problem(self, reason: str, note: str) -> None:
        """Say what is wrong with the node."""
        self._on_node(reason, note, warning=True, action="CheckNode")

    def _on_node(self, reason: str, note: str, *, warning: bool = False, action: str = "StartKubeProxy") -> None:
        self.record(Event("Node", ObjectKey("", self._node_name), reason, action, note, warning))

    def record(self, event: Event) -> None:
        """Write an Event, when that can be done."""
        if self._post is None:
            return
        try:
            self._queue.put_nowait((event, datetime.datetime.now(datetime.UTC)))
        except queue.Full:
            log.routine("dropped an Event, as too many wait", reason=event.reason, object=event.regarding)

    def _run(self) -> None:
        while not (self._stopping.is_set() and self._queue.empty()):
            waiting = self._queue.get()
            if waiting is not None:
                with contained("events"):
                    self._write(*waiting)

    def _write(self, event: Event, moment: datetime.datetime) -> None:
        path = EVENTS_PATH.format(namespace=event.regarding.namespace or _NODE_NAMESPACE)
        body = encode(event, self._node_name, moment, self._controller)
        for seconds in (*self._retry_seconds, None):
            problem = self._try(path, body)
            if problem is None or seconds is None or self._stopping.wait(seconds):
                break
        if problem is not None:
            log.routine("dropped an Event", reason=event.reason, object=event.regarding, error=problem)

    def _try(self, path: str, body: bytes) -> Exception | None:
        """Write once; return what went wrong where another try may help."""
        assert self._post is not None  # noqa: S101 - there would be no thread
        try:
            self._post(path, body)
        except (AccessError, UnreachableError) as error:
            return error
        except RefusedError as error:
            if error.code in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
                return error
            # Most likely 403, from RBAC that gives no right to create Events: kproxy works without.
            log.routine("the API server does not take an Event", error=error)
        return None


def encode(event: Event, node_name: str, moment: datetime.datetime, controller: str = CONTROLLER) -> bytes:
    """Return the Event as an object of events.k8s.io/v1, named as client-go names them: after the object and the time.

    A Node is referred to by its name in place of a UID, as the kubelet and kube-proxy do it: ``kubectl describe node``
    looks for that.
    """
    nanoseconds = int(moment.timestamp() * 1_000_000) * 1000
    namespace, name = event.regarding
    regarding = {"kind": event.kind, "name": name, "apiVersion": event.api_version}
    regarding |= {"namespace": namespace} if namespace else {"uid": name}
    regarding |= {"uid": event.uid} if event.uid else {}
    return msgspec.json.encode(
        {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{nanoseconds:x}", "namespace": namespace or _NODE_NAMESPACE},
            "eventTime": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": controller,
            "reportingInstance": f"{CONTROLLER}-{node_name}"[:_MAX_INSTANCE],
            "action": event.action,
            "reason": event.reason,
            "regarding": regarding,
            "note": event.note.encode()[:_MAX_NOTE].decode(errors="ignore"),
            "type": "Warning" if event.warning else "Normal",
        }
    )
