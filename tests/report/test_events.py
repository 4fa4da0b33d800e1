"""Events: what they say, where they are kept, and that nothing waits for them."""

import datetime
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.lab import until
from kproxy.api.transport.access import AccessOptions
from kproxy.api.transport.client import ApiClient
from kproxy.api.transport.credentials import Credentials
from kproxy.api.transport.failures import RefusedError, UnreachableError
from kproxy.api.types import ObjectKey
from kproxy.report.events import Event, EventRecorder, encode
from kproxy.report.healthcheck import HealthCheckFailure
from tests.kit.apiserver.kinds import Json
from tests.kit.apiserver.server import ApiServer
from tests.kit.deploy.manifests import typed
from tests.kit.waiting import PATIENCE

FAILURE = HealthCheckFailure(ObjectKey("shop", "web"), 30999, "can't listen at [::]:30999: already in use")
NOON = datetime.datetime(2026, 1, 2, 12, 0, 0, 250_000, datetime.UTC)


class Script:
    """A `post` that does what the script says, one word a call, and then takes all."""

    def __init__(self, *words: str) -> None:
        self.words = list(words)
        self.taken: list[Json] = []
        self.calls = 0
        self.goes_on = threading.Event()

    def __call__(self, path: str, body: bytes) -> bytes:
        self.calls += 1
        word = self.words.pop(0) if self.words else "take"
        if word == "hang":
            self.goes_on.wait(PATIENCE)
        elif word == "unreachable":
            raise UnreachableError("API server https://10.0.0.1: nobody is there")
        elif word.isdigit():
            raise RefusedError("API server https://10.0.0.1: no", int(word))
        self.taken.append(json.loads(body) | {"path": path})
        return b"{}"


@pytest.fixture
def recorder(kubeconfig: Path) -> Iterator[EventRecorder]:
    client = ApiClient(Credentials(AccessOptions(kubeconfig=str(kubeconfig))))
    recorder = EventRecorder(client.post, "node-a")
    with recorder.running():
        yield recorder
    client.close()


def test_the_start_is_an_event_on_the_node(api_server: ApiServer, recorder: EventRecorder) -> None:
    recorder.started("0.1.0")
    until(lambda: api_server.events, PATIENCE, "the Event")
    (event,) = api_server.events
    assert event["metadata"]["namespace"] == "default"
    assert event["regarding"] == {"kind": "Node", "apiVersion": "v1", "name": "node-a", "uid": "node-a"}
    assert (event["reason"], event["action"], event["type"]) == ("Starting", "StartKubeProxy", "Normal")
    assert event["reportingController"] == "kproxy"
    assert event["reportingInstance"] == "kproxy-node-a"
    assert event["note"] == "Starting kproxy 0.1.0"


def test_a_health_check_node_port_that_is_taken_is_an_event_on_the_service(
    api_server: ApiServer, recorder: EventRecorder
) -> None:
    recorder.health_check_failed(FAILURE)
    until(lambda: api_server.events, PATIENCE, "the Event")
    (event,) = api_server.events
    assert event["metadata"]["namespace"] == "shop"
    assert event["regarding"] == {"kind": "Service", "apiVersion": "v1", "namespace": "shop", "name": "web"}
    assert (event["reason"], event["action"], event["type"]) == ("FailedToStartServiceHealthcheck", "Listen", "Warning")
    assert event["note"] == f"node node-a failed to start healthcheck on port 30999: {FAILURE.reason}"


def test_a_health_server_that_cannot_open_its_port_is_an_event_on_the_node(
    api_server: ApiServer, recorder: EventRecorder
) -> None:
    recorder.health_server_failed("can't listen")
    until(lambda: api_server.events, PATIENCE, "the Event")
    (event,) = api_server.events
    assert (event["reason"], event["type"]) == ("FailedToStartProxierHealthcheck", "Warning")
    assert event["note"] == "failed to start proxy healthz: can't listen"


@pytest.mark.parametrize("note", ["short", "ü" * 2000])
@pytest.mark.parametrize("node", ["node-a", "n" * 250])
def test_events_are_valid(note: str, node: str) -> None:
    obj = json.loads(encode(Event("Service", ObjectKey("shop", "web"), "Reason", "Action", note), node, NOON))
    event = typed(obj)
    assert event.event_time == NOON
    assert len(event.note.encode()) <= 1024  # as the API server wants it
    assert len(event.reporting_instance) <= 128
    assert event.metadata.name == f"web.{int(NOON.timestamp()) * 10**9 + 250_000_000:x}"


@pytest.mark.parametrize("words", [("unreachable", "unreachable"), ("503",), ("429", "unreachable")])
def test_an_api_server_out_of_reach_is_tried_again(words: tuple[str, ...]) -> None:
    post = Script(*words)
    recorder = EventRecorder(post, "node-a", retry_seconds=(0.01, 0.01))
    with recorder.running():
        recorder.started("1")
        until(lambda: post.taken, PATIENCE, "the Event to be taken")
    assert post.calls == len(words) + 1


def test_in_the_end_an_event_is_given_up() -> None:
    post = Script(*["unreachable"] * 3)
    recorder = EventRecorder(post, "node-a", retry_seconds=(0.01, 0.01))
    with recorder.running():
        recorder.started("1")
        recorder.started("2")
        until(lambda: post.taken, PATIENCE, "the next Event")
    assert [event["note"] for event in post.taken] == ["Starting kproxy 2"]


@pytest.mark.parametrize("code", ["403", "404", "409", "422"])
def test_a_refusal_is_final_and_harms_nobody(code: str) -> None:
    post = Script(code)
    recorder = EventRecorder(post, "node-a")
    with recorder.running():
        recorder.started("1")
        recorder.health_check_failed(FAILURE)
        until(lambda: post.taken, PATIENCE, "the next Event")
    assert post.calls == 2


def test_a_server_that_hangs_keeps_nobody_waiting() -> None:
    post = Script("hang")
    recorder = EventRecorder(post, "node-a", size=4)
    with recorder.running():
        recorder.started("1")
        until(lambda: post.calls, PATIENCE, "the first try")
        for _ in range(1000):  # would not end if one of them waited
            recorder.health_check_failed(FAILURE)
    post.goes_on.set()
    until(lambda: len(post.taken) == 5, PATIENCE, "those that fitted into the queue")


def test_events_made_just_before_the_end_are_written() -> None:
    post = Script()
    recorder = EventRecorder(post, "node-a")
    with recorder.running():
        recorder.health_server_failed("x")
    assert len(post.taken) == 1


def test_without_an_api_server_there_is_nobody_to_tell() -> None:
    recorder = EventRecorder(None, "node-a", size=1)
    with recorder.running():
        for _ in range(3):
            recorder.started("1")
