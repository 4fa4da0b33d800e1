"""What is fetched and what the watch tells meanwhile: the watch's word counts, in whatever order they come."""

import threading
from collections.abc import Callable
from io import BytesIO
from typing import Any

import msgspec
import pytest
import yaml

from hack.lab import until
from kproxy.api.transport.failures import RefusedError
from kproxy.api.types import ObjectKey
from kproxy.ingress.api.core import Secret
from kproxy.ingress.api.kinds import IngressKind
from kproxy.ingress.api.secrets import NamedSecrets
from tests.ingress.kit import secret
from tests.kit.sources.recording import DEADLINE, RecordingSink

KEY, LAST = ObjectKey("default", "cert"), ObjectKey("default", "last")


def stored(version: int) -> dict[str, Any]:
    raw: dict[str, Any] = yaml.safe_load(secret("cert"))
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
    other = msgspec.convert(yaml.safe_load(secret("other")), Secret)
    secrets.replace(IngressKind.SECRET, {other.metadata.key: other})
    secrets.name([KEY, LAST])
    secrets.start()
    try:
        assert client.asked_for_last.wait(DEADLINE), "one after the other is fetched, by name"
        until(lambda: secrets.settled, DEADLINE, "all to be fetched")
        assert sink.names(IngressKind.SECRET) == expected
    finally:
        secrets.stop()
