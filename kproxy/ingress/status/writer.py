"""Writes what objects are to be told, and the Services of Gateways, if this replica is the one that writes.

It is given the latest plan as often as there is one, and writes in a thread of its own; what was overtaken before it
was written is never written. A write that the server refuses is for that object alone: all others are written. One that
was made from an old version is dropped: the newer version comes by the watch, and is judged then.
"""

import datetime
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple

import msgspec

from kproxy import logs
from kproxy.api.transport.client import ApiClient
from kproxy.api.transport.failures import ApiError, RefusedError
from kproxy.api.types import ObjectKey
from kproxy.faults.containment import contained, survived
from kproxy.ingress.status.doors import Door
from kproxy.ingress.status.lease import RENEW_SECONDS, Lease
from kproxy.ingress.status.reports import StatusPatch
from kproxy.wording import printable

RETRY_SECONDS = 5.0
"""When what could not be written is tried again."""
DENIED_SECONDS = 60.0
"""When what this program may not write is tried again: somebody may have permitted it meanwhile."""

_log = logs.get("status")


class Work(NamedTuple):
    """All that is to be so."""

    patches: Sequence[StatusPatch] = ()
    doors: Sequence[Door] = ()
    """Services and slices that have to be made or changed; see `kproxy.ingress.status.doors.pending`."""
    superfluous: Sequence[ObjectKey] = ()
    """Services that have to go."""


def now() -> str:
    """Return the time as conditions have it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class StatusWriter:
    """Writes for as long as it holds the lease. `submit` may be called from any thread."""

    def __init__(
        self,
        client: ApiClient,
        lease: Lease,
        renew_seconds: float = RENEW_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
        denied_seconds: float = DENIED_SECONDS,
    ) -> None:
        self._client = client
        self._lease = lease
        self._renew_seconds = renew_seconds
        self._retry_seconds = retry_seconds
        self._denied_seconds = denied_seconds
        self._due = 0.0
        self._condition = threading.Condition()
        self._work: Work | None = None
        self._stopping = False
        self._sent: dict[str, bytes] = {}
        """What was written last, by path. The version that was read is part of it, so that the same is written again
        only to an object that has changed meanwhile."""
        self.denied: Mapping[str, str] = {}
        """What it may not write, by path, and why. Replaced, never changed."""
        self.when_denied: Callable[[], None] = lambda: None
        """Called from this thread after `denied` has been replaced."""
        self.failures = 0
        """Writes that failed, for metrics."""
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)

    @property
    def writes(self) -> bool:
        """Whether this replica is the one that writes."""
        return self._lease.held

    def start(self) -> None:
        """Begin to apply for the lease, and to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write nothing more, and give the lease back."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    def submit(self, work: Work) -> None:
        """Take ``work`` for all that is to be so, instead of what was submitted before."""
        with self._condition:
            self._work = work
            self._condition.notify_all()

    def _run(self) -> None:
        while not self._stopping:
            with contained("statuses"):
                self._turn()
                continue
            with self._condition:
                self._condition.wait_for(lambda: self._stopping, self._retry_seconds)
        self._lease.release()

    def _turn(self) -> None:
        """See to the lease, and write what there is to write."""
        held = self._hold()
        with self._condition:
            self._condition.wait_for(lambda: self._has_to_act(held), self._renew_seconds)
            work = self._work if held else None
            if held:
                self._work = None
        pause = self._write_all(work) if work is not None else None
        if work is not None and pause is not None:
            self._again(work, pause)

    def _has_to_act(self, held: bool) -> bool:
        return self._stopping or (held and self._work is not None)

    def _hold(self) -> bool:
        """Renew the lease when it is time to; tell whether it is held."""
        moment = time.monotonic()
        if moment < self._due and self._lease.held:
            return True
        self._due = moment + self._renew_seconds
        return self._lease.renew()

    def _again(self, work: Work, seconds: float) -> None:
        """Put work back that could not be done, after a while, unless there is newer work."""
        until = time.monotonic() + seconds
        while self._hold() and (left := until - time.monotonic()) > 0:
            with self._condition:
                self._condition.wait_for(
                    lambda: self._stopping or self._work is not None, min(left, self._renew_seconds)
                )
                if self._stopping or self._work is not None:
                    return
        with self._condition:
            if self._work is None:
                self._work = work

    def _write_all(self, work: Work) -> float | None:
        """Write everything; return the seconds until what is left is to be tried again, None where nothing is."""
        denied: dict[str, str] = {}
        settled = [self._settle(write, denied) for write in _writes(work)]
        if denied != self.denied:
            self.denied = denied
            self.when_denied()
        if not all(settled):
            return self._retry_seconds
        return self._denied_seconds if denied else None

    def _settle(self, write: "_Write", denied: dict[str, str]) -> bool:
        """Write one thing, while the lease is held; tell whether that is settled, for good or ill."""
        if write.verb == "PATCH" and self._sent.get(write.path) == write.body:
            return True
        if self._stopping or not self._hold():
            return False
        try:
            self._send(write)
        except RefusedError as error:
            return self._refused(write, error, denied)
        except ApiError as error:
            self.failures += 1
            _log.warning("not written, trying again", path=write.path, error=error)
            return False
        except Exception as error:  # nobody foresaw it; all other objects are told all the same
            self.failures += 1
            survived("statuses", error, f"not written, trying again: {write.path}")
            return False
        self._sent[write.path] = write.body
        return True

    def _send(self, write: "_Write") -> None:
        if write.verb == "DELETE":
            self._client.delete(write.path)
            return
        try:
            self._client.patch(write.path, write.body)
        except RefusedError as error:
            if write.verb != "MAKE" or error.code != HTTPStatus.NOT_FOUND:
                raise
            self._client.post(write.path.rpartition("/")[0], write.body)

    def _refused(self, write: "_Write", error: RefusedError, denied: dict[str, str]) -> bool:
        if error.code in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND):
            return True  # the object has moved on, and comes again by the watch
        self.failures += 1
        if error.code == HTTPStatus.FORBIDDEN:
            denied[write.path] = printable(str(error))
        if error.code != HTTPStatus.FORBIDDEN or self.denied.get(write.path) != denied[write.path]:
            _log.warning("not written", path=write.path, error=error)
        return not (error.code >= HTTPStatus.INTERNAL_SERVER_ERROR or error.code == HTTPStatus.TOO_MANY_REQUESTS)


class _Write(NamedTuple):
    verb: str
    """``PATCH``, ``MAKE`` (patch, or create where there is nothing yet) or ``DELETE``."""
    path: str
    body: bytes = b""


def _writes(work: Work) -> Iterator[_Write]:
    for door in work.doors:
        yield _Write("MAKE", door.path, msgspec.json.encode(door.body))
    for key in work.superfluous:
        yield _Write("DELETE", f"/api/v1/namespaces/{key.namespace}/services/{key.name}")
    for patch in work.patches:
        yield _Write("PATCH", patch.path, msgspec.json.encode(patch.body))
