"""Faults on demand: what can go wrong between a client and its API server, as values.

A fault is added for requests of a resource and verb and for a number of times; the request that meets it gets the fault
instead of, or in the middle of, its answer. Faults are msgspec structs, so that they travel over the control socket
as they are. Nothing here touches a socket: a fault turns the *frames* of an answer (each event of a watch, or the whole
body of a list) into *actions*, and the responder carries those out. Faults of whole connections (refused, black hole,
frozen) are methods of the server.

    server.faults.add(Status(503, retry_after=1), resource="services", verb="watch", times=2)
    server.faults.add(Reset(after=3), resource="endpointslices", verb="watch")
    server.faults.add(Truncate(), verb="list", param="continue")
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from tests.kit.apiserver.kinds import kind_named
from tests.kit.apiserver.rest.status import status_body
from tests.kit.apiserver.rest.watching import Frame, error_frame


class Send(NamedTuple):
    """Write these bytes, and see them off before anything else is done."""

    data: bytes


class Pause(NamedTuple):
    """Write nothing for a while; None: until the client gives up."""

    seconds: float | None


class End(NamedTuple):
    """End the answer in good order."""


class Cut(NamedTuple):
    """Reset the connection (RST), with no end of the answer."""


Action: TypeAlias = Send | Pause | End | Cut


class Status(msgspec.Struct, frozen=True, tag=True):
    """Answer with this code instead; ``retry_after`` in seconds goes into the header, as a real server sends it.

    ``cause`` is what the details say: ``ResourceVersionTooLarge``.
    """

    code: int
    retry_after: int | None = None
    reason: str | None = None
    message: str | None = None
    cause: str | None = None


class Hang(msgspec.Struct, frozen=True, tag=True):
    """Answer nothing at all, not even headers, for ``seconds`` (None: for good), and then as if nothing had been."""

    seconds: float | None = None


class BodyFault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault within an answer, after its headers.

    ``after`` frames of the kind ``frame`` pass unharmed ("event": ADDED, MODIFIED and DELETED; "any" includes
    bookmarks, errors, and the one frame that a list is); then ``count`` frames are struck (None: all that follow).
    """

    after: int = 0
    count: int | None = None
    frame: Literal["any", "event", "bookmark"] = "any"

    def strike(self, frame: Frame, previous: Frame, nth: int) -> Sequence[Action]:
        """What to do instead of sending ``frame``, the ``nth`` struck one (from 0)."""
        raise NotImplementedError

    @property
    def eager(self) -> bool:
        """Whether the fault strikes as soon as ``after`` frames are out, without waiting for one more."""
        return False

    def concerns(self, frame: Frame) -> bool:
        """Tell whether a frame counts."""
        if self.frame == "any":
            return True
        return (frame.type == "BOOKMARK") is (self.frame == "bookmark") and frame.type not in ("ERROR", "BODY")


class Reset(BodyFault, frozen=True, tag=True, kw_only=True):
    """Send part of the frame (``at``: which share of it), then reset the connection."""

    at: float = 0.5

    @property
    def eager(self) -> bool:
        return self.at == 0

    def strike(self, frame: Frame, previous: Frame, nth: int) -> Sequence[Action]:  # noqa: ARG002
        return Send(_part(frame, self.at)), Cut()


class Truncate(BodyFault, frozen=True, tag=True, kw_only=True):
    """Send part of the frame, then end the answer as if it were whole: correct HTTP, broken JSON."""

    at: float = 0.5

    def strike(self, frame: Frame, previous: Frame, nth: int) -> Sequence[Action]:  # noqa: ARG002
        return Send(_part(frame, self.at)), End()


class Corrupt(BodyFault, frozen=True, tag=True, kw_only=True):
    """Send a line that is not JSON in place of the frame, and go on as if nothing had happened."""

    count: int | None = 1

    def strike(self, frame: Frame, previous: Frame, nth: int) -> Sequence[Action]:  # noqa: ARG002
        return (Send(_part(frame, 0.5).replace(b":", b" ") + b"\xff}}\n"),)


class Silence(BodyFault, frozen=True, tag=True, kw_only=True):
    """Say nothing more for ``seconds`` (None: for good), with the connection open: the half-dead watch."""

    seconds: float | None = None
    count: int | None = 1

    def strike(self, frame: Frame, previous: Frame, nth: int) -> Sequence[Action]:  # noqa: ARG002
        return Pause(self.seconds), Send(frame.data)


class Drip(BodyFault, frozen=True, tag=True, kw_only=True):
    """Send ``size`` bytes at a time with ``pause`` seconds between, each in a chunk and a TLS record of its own."""

    size: int = 16
    pause: float = 0.001

    def strike(self, frame: Frame, previous: Frame, nth: int) -> Sequence[Action]:  # noqa: ARG002
        actions: list[Action] = []
        for start in range(0, len(frame.data), self.size):
            actions += [Send(frame.data[start : start + self.size]), Pause(self.pause)]
        return actions


class ErrorEvent(BodyFault, frozen=True, tag=True):
    """An ERROR event, and the end of the stream: a 410 inside HTTP 200, among others."""

    code: int = 410
    reason: str | None = None
    message: str | None = None

    @property
    def eager(self) -> bool:
        return True

    def strike(self, frame: Frame, previous: Frame, nth: int) -> Sequence[Action]:  # noqa: ARG002
        return Send(error_frame(status_body(self.code, self.message, reason=self.reason)).data), End()


class EndStream(BodyFault, frozen=True, tag=True, kw_only=True):
    """End the stream in good order, long before its time."""

    @property
    def eager(self) -> bool:
        return True

    def strike(self, frame: Frame, previous: Frame, nth: int) -> Sequence[Action]:  # noqa: ARG002
        return (End(),)


class Duplicate(BodyFault, frozen=True, tag=True, kw_only=True):
    """Send the frame twice."""

    def strike(self, frame: Frame, previous: Frame, nth: int) -> Sequence[Action]:  # noqa: ARG002
        return Send(frame.data), Send(frame.data)


class Replay(BodyFault, frozen=True, tag=True, kw_only=True):
    """Send the frame, then the one before it once more: an old state after the new one."""

    frame: Literal["any", "event", "bookmark"] = "event"

    def strike(self, frame: Frame, previous: Frame, nth: int) -> Sequence[Action]:  # noqa: ARG002
        return Send(frame.data), Send(previous.data)


class Swap(BodyFault, frozen=True, tag=True, kw_only=True):
    """Send the second of each pair of frames before the first, which is held back until the second comes."""

    count: int | None = 2
    frame: Literal["any", "event", "bookmark"] = "event"

    def strike(self, frame: Frame, previous: Frame, nth: int) -> Sequence[Action]:
        return (Send(frame.data), Send(previous.data)) if nth % 2 else ()


Fault: TypeAlias = (
    Status | Hang | Reset | Truncate | Corrupt | Silence | Drip | ErrorEvent | EndStream | Duplicate | Replay | Swap
)


class Mangler:
    """Applies one fault (or none) to the frames of one answer."""

    def __init__(self, fault: BodyFault | None) -> None:
        self._fault = fault
        self._count = 0  # frames that concerned the fault so far
        self._previous: Frame | None = None

    def opening(self) -> Sequence[Action]:
        """What to do right after the headers."""
        fault = self._fault
        return fault.strike(_NOTHING, _NOTHING, 0) if fault is not None and fault.eager and fault.after == 0 else ()

    def actions(self, frame: Frame) -> Sequence[Action]:
        """What to do for the next frame."""
        fault = self._fault
        if fault is None or not fault.concerns(frame):
            return (Send(frame.data),)
        nth = self._count - fault.after
        previous = self._previous or frame
        self._count += 1
        self._previous = frame
        if fault.eager and nth == -1:
            return Send(frame.data), *fault.strike(_NOTHING, _NOTHING, 0)
        if nth < 0 or (fault.count is not None and nth >= fault.count):
            return (Send(frame.data),)
        return fault.strike(frame, previous, nth)


@dataclass
class Rule:
    """A fault with the requests it is meant for. ``hits`` counts those it met; ``left`` is None for no end."""

    fault: Fault
    resource: str | None = None
    verb: str | None = None
    param: str | None = None
    left: int | None = 1
    hits: int = 0

    def matches(self, resource: str, verb: str, query: Mapping[str, str]) -> bool:
        """Tell whether a request is one of those meant."""
        return (
            self.left != 0
            and self.resource in (None, resource)
            and self.verb in (None, verb)
            and (self.param is None or self.param in query)
        )


class FaultTable:
    """The faults in force; the first rule that matches a request is the one it gets."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []

    def add(
        self,
        fault: Fault,
        *,
        resource: str | None = None,
        verb: str | None = None,
        times: int | None = 1,
        param: str | None = None,
    ) -> Rule:
        """Let the next ``times`` matching requests (None: all) meet a fault.

        ``resource`` is a plural, ``verb`` one of get, list, watch, create, update, patch, delete; None means any.
        With ``param``, only requests with that query parameter ("continue") are meant.
        """
        rule = Rule(fault, None if resource is None else kind_named(resource).plural, verb, param, times)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Heal everything that has not happened yet."""
        with self._lock:
            self._rules.clear()

    def take(self, resource: str, verb: str, query: Mapping[str, str]) -> Fault | None:
        """The fault for a request, counted as met; None for most."""
        with self._lock:
            for rule in self._rules:
                if rule.matches(resource, verb, query):
                    rule.hits += 1
                    rule.left = None if rule.left is None else rule.left - 1
                    return rule.fault
        return None


def _part(frame: Frame, share: float) -> bytes:
    return frame.data[: int(len(frame.data) * share)]


_NOTHING = Frame("BODY", b"")
