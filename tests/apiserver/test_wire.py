"""The test API server against recordings of a real one: the same request must get the same bytes.

tests/wire holds raw answers of a kube-apiserver v1.36.2 over HTTP/2. Given the objects and versions that it had, the
test server must repeat the status, the headers that were kept, and the body to the byte.
"""

import json
from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest

from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.kinds import Json
from tests.kit.apiserver.rawclient import RawClient
from tests.kit.paths import TESTS

WIRE = TESTS / "wire"


class Recording(NamedTuple):
    path: str
    code: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Json:
        result: Json = json.loads(self.body)
        return result


def read_recording(name: str) -> Recording:
    head, _, body = (WIRE / f"{name}.txt").read_bytes().partition(b"\n\n")
    request, _, status, *headers = head.decode().splitlines()
    fields = dict(line.split(": ", 1) for line in headers)
    return Recording(request.removeprefix("$ GET "), int(status.split()[1]), fields, body.strip())


def services_of(*names: str) -> list[Json]:
    items = [item for name in names for item in read_recording(name).json()["items"]]
    return [{"kind": "Service", "apiVersion": "v1", **item} for item in items]


def put_as_recorded(server: ApiServer, obj: Json) -> None:
    server.put(obj, version=int(obj["metadata"]["resourceVersion"]))


def load_services(server: ApiServer) -> None:
    for service in services_of("01-list-page", "02-list-continue"):
        put_as_recorded(server, service)


def load_nothing(server: ApiServer) -> None:
    assert server.objects("services") == []


def compact_at_40931(server: ApiServer) -> None:
    server.store.advance(40931)
    server.compact()


def advance_to_52109(server: ApiServer) -> None:
    server.store.advance(52109)


def advance_to_52108(server: ApiServer) -> None:
    server.store.advance(52108)


ANSWERS: dict[str, Callable[[ApiServer], None]] = {
    "01-list-page": load_services,
    "02-list-continue": load_services,
    "04-watch-from-version": advance_to_52108,
    "05-watch-too-old": compact_at_40931,
    "06-list-future-version": advance_to_52109,
    "07-unauthorized": load_nothing,
    "08-not-found": load_nothing,
    "09-version": load_nothing,
}


def test_every_recording_is_replayed() -> None:
    assert {path.stem for path in WIRE.glob("*.txt")} == {*ANSWERS, "03-watch-list"}


@pytest.mark.parametrize("name", ANSWERS)
def test_answer_is_as_recorded(api_server: ApiServer, name: str) -> None:
    ANSWERS[name](api_server)
    recording = read_recording(name)
    token = None if name == "07-unauthorized" else api_server.token

    with RawClient(api_server, token=token) as client:
        reply = client.request(recording.path, User_Agent="curl/8.5.0")

    assert reply.code == recording.code
    assert {key: reply.headers.get(key) for key in recording.headers} == recording.headers
    assert ("content-length" in reply.headers) is ("content-length" in recording.headers)
    assert reply.body.strip() == recording.body


def test_watch_is_as_recorded(api_server: ApiServer) -> None:
    """A streaming list, and then what happened in those four seconds, event by event."""
    recording = read_recording("03-watch-list")
    events = [json.loads(line) for line in recording.body.splitlines()]
    api_server.settings.bookmark_period = None  # bookmarks come when the recording has them, not by the clock
    load_services(api_server)

    with RawClient(api_server) as client:
        response = client.open(recording.path)
        received = [response.readline() for _ in events[:4]]
        for event in events[4:]:
            repeat_event(api_server, event)
        api_server.end_watches()
        received += response.readlines()

    assert response.status == recording.code
    assert response.headers["content-type"] == recording.headers["content-type"]
    assert [event["type"] for event in events[3:]] == [
        "BOOKMARK",
        "BOOKMARK",
        "MODIFIED",
        "DELETED",
        "ADDED",
        "BOOKMARK",
    ]
    assert b"".join(received).splitlines() == recording.body.splitlines()


def repeat_event(server: ApiServer, event: Json) -> None:
    obj = event["object"]
    version = int(obj["metadata"]["resourceVersion"])
    if event["type"] == "BOOKMARK":
        server.store.advance(version)
        server.send_bookmarks()
    elif event["type"] == "DELETED":
        server.delete("services", obj["metadata"]["namespace"], obj["metadata"]["name"], version=version)
    else:
        put_as_recorded(server, obj)
