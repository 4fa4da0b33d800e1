"""What is fetched and what the watch tells meanwhile: the watch's word counts, in whatever order they come."""

import threading
from collections.abc import Callable
from io import BytesIO
from typing import Any

import msgspec
import pytest

from hack.lab import until
from kproxy.api.transport.failures import ApiError, RefusedError, UnreachableError
from kproxy.api.types import ObjectKey
from kproxy.ingress.api import secrets as module
from kproxy.ingress.api.core import Secret
from kproxy.ingress.api.kinds import IngressKind
from kproxy.ingress.api.secrets import NamedSecrets
from tests.ingress.kit import secret
from tests.kit.logged import Logged
from tests.kit.sources.recording import DEADLINE, RecordingSink
from tests.kit.yaml_text import from_yaml

KEY, LAST = ObjectKey("default", "cert"), ObjectKey("default", "last")


def stored(version: int) -> dict[str, Any]:
    raw: dict[str, Any] = from_yaml(secret("cert"))
    raw["metadata"]["resourceVersion"] = str(version)
    return raw


class SlowClient:
    """Answers what was true when it was first asked, once ``tell`` is done; from then on what is true then."""

    def __init__(self, then: dict[str, Any] | None, later: dict[str, Any] | None, tell: Callable[[], None]) -> None:
        self._answers = iter([then, *[later] * 9])
        self._tell = [tell]
        self.asked_for_last = threading.Event()

    def get(self, path: str) -> BytesIO:
        if path.endswith("/last"):
            self.asked_for_last.set()
            raise RefusedError("not found", 404)
        answer = next(self._answers)
        while self._tell:
            self._tell.pop()()
        if answer is None:
            raise RefusedError("not found", 404)
        return BytesIO(msgspec.json.encode(answer))


@pytest.mark.parametrize(
    ("then", "told", "expected"),
    [
        pytest.param(stored(1), ["delete"], set(), id="deleted while it was fetched"),
        pytest.param(None, [stored(2)], {"cert"}, id="created while it was fetched"),
        pytest.param(stored(1), [stored(2), "delete"], set(), id="changed and deleted"),
        pytest.param(stored(1), ["delete", stored(3)], {"cert"}, id="made anew"),
    ],
)
def test_what_the_watch_tells_meanwhile_counts(
    then: dict[str, Any] | None, told: list[dict[str, Any] | str], expected: set[str]
) -> None:
    sink = RecordingSink()

    def tell() -> None:
        for event in told:
            if isinstance(event, dict):
                secrets.update(IngressKind.SECRET, msgspec.convert(event, Secret))
            else:
                secrets.delete(IngressKind.SECRET, KEY)

    last = told[-1]
    client = SlowClient(then, last if isinstance(last, dict) else None, tell)
    secrets = NamedSecrets(client, sink)  # type: ignore[arg-type]  # of a client it takes no more than this
    other = msgspec.convert(from_yaml(secret("other")), Secret)
    secrets.replace(IngressKind.SECRET, {other.metadata.key: other})
    secrets.name([KEY, LAST])
    secrets.start()
    try:
        assert client.asked_for_last.wait(DEADLINE), "one after the other is fetched, by name"
        until(lambda: secrets.settled, DEADLINE, "all to be fetched")
        assert sink.names(IngressKind.SECRET) == expected
    finally:
        secrets.stop()


class FailingClient:
    """Fails once; ``failure`` is raised or, if it is an answer, given. Another Secret is there from the first."""

    def __init__(self, failure: ApiError | bytes) -> None:
        self._failure = [failure]
        self.failed = threading.Event()

    def get(self, path: str) -> BytesIO:
        if path.endswith("/other"):
            return BytesIO(msgspec.json.encode(from_yaml(secret("other"))))
        if not self._failure:
            return BytesIO(msgspec.json.encode(stored(1)))
        failure = self._failure.pop()
        self.failed.set()
        if isinstance(failure, ApiError):
            raise failure
        return BytesIO(failure)


@pytest.mark.parametrize(
    "failure",
    [UnreachableError("the server is out of reach"), RefusedError("overloaded", 503), b'{"kind": "Secret", "meta'],
    ids=["out of reach", "refused", "half an answer"],
)
def test_a_secret_that_could_not_be_fetched_is_asked_for_again_and_keeps_no_other_waiting(
    failure: ApiError | bytes, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    client, sink = FailingClient(failure), RecordingSink()
    secrets = NamedSecrets(client, sink)  # type: ignore[arg-type]  # of a client it takes no more than this
    secrets.replace(IngressKind.SECRET, {})
    secrets.name([KEY, ObjectKey("default", "other")])
    assert not secrets.settled
    secrets.start()
    try:
        assert client.failed.wait(DEADLINE)
        until(lambda: secrets.settled, DEADLINE, "all to be fetched")
        assert sink.names(IngressKind.SECRET) == {"cert", "other"}
    finally:
        secrets.stop()
    assert logged.text.count("a Secret cannot be fetched, trying again") == 1
