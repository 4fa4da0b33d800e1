"""The reflector against scripted answers, one attempt after another: what exactly it makes of each event."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import pytest

from kproxy.api.kinds import Kind
from kproxy.api.types import Service
from kproxy.api.watch.listwatch import Timing
from kproxy.api.watch.reflector import Reflector
from tests.kit.sources.recording import RecordingSink

Event: TypeAlias = tuple[str, Any]
TIMING = Timing(idle=7.0, list_idle=3.0, too_short=1.0)


class ScriptedAnswer:
    """Plays the part of `kproxy.api.transport.client.Answer`."""

    server = "https://scripted"

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events
        self.patience: list[float] = []

    def set_patience(self, seconds: float) -> None:
        self.patience.append(seconds)

    def chunks(self) -> Iterator[bytes]:
        for kind, obj in self._events:
            yield json.dumps({"type": kind, "object": obj}).encode() + b"\n"

    def close(self) -> None:
        pass


class ScriptedClient:
    """Gives the scripted answers in turn."""

    def __init__(self, *scripts: Sequence[Event]) -> None:
        self.answers = [ScriptedAnswer(script) for script in scripts]
        self.queries: list[Mapping[str, str]] = []

    def get(self, path: str, query: Mapping[str, str] | None = None, patience: float = 0.0) -> Any:
        assert path == Kind.SERVICE.path
        assert patience == TIMING.idle
        self.queries.append(query or {})
        return self.answers[len(self.queries) - 1]

    def distrust(self, server: str) -> None:
        raise AssertionError(server)


def service(name: str, version: int, cluster_ip: str = "10.0.0.1", **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "d", "resourceVersion": str(version), "labels": labels},
        "spec": {"clusterIP": cluster_ip},
    }


def added(name: str, version: int, **more: str) -> Event:
    return "ADDED", service(name, version, **more)


def modified(name: str, version: int, **more: str) -> Event:
    return "MODIFIED", service(name, version, **more)


def deleted(name: str, version: int) -> Event:
    return "DELETED", service(name, version)


def bookmark(version: int) -> Event:
    return "BOOKMARK", {"metadata": {"resourceVersion": str(version)}}


def complete(version: int) -> Event:
    annotations = {"k8s.io/initial-events-end": "true"}
    return "BOOKMARK", {"metadata": {"resourceVersion": str(version), "annotations": annotations}}


FOREIGN = {"service.kubernetes.io/service-proxy-name": "x"}
LIST = [added("b", 4), added("a", 9), complete(10)]


class Play:
    """A reflector that has made as many attempts as there are scripts."""

    def __init__(self, *scripts: Sequence[Event]) -> None:
        self.client = ScriptedClient(*scripts)
        self.sink = RecordingSink()
        self.reflector = Reflector(Kind.SERVICE, self.client, self.sink, "node", TIMING)
        self.pauses = [self.reflector._attempt() for _ in scripts]

    @property
    def places(self) -> list[str | None]:
        """Where each watch began; None where it began with a list."""
        return [query.get("resourceVersion") for query in self.client.queries]

    @property
    def updated(self) -> list[tuple[str, str | None]]:
        objects = [obj for obj in self.sink.updates if isinstance(obj, Service)]
        return [(obj.metadata.name, obj.spec.cluster_ip) for obj in objects]


def test_order_within_the_list_means_nothing() -> None:
    play = Play(LIST, [])
    assert play.sink.names(Kind.SERVICE) == {"a", "b"}
    assert play.places == [None, "10"]
    assert play.sink.updates == []


def test_list_may_change_while_it_is_streamed() -> None:
    events = [added("a", 1), added("b", 2), added("c", 3), deleted("a", 5), modified("b", 6, cluster_ip="10.0.0.2")]
    play = Play([*events, modified("c", 7, **FOREIGN), added("d", 8, **FOREIGN), complete(8)])
    (obj,) = play.sink.state[Kind.SERVICE].values()
    assert isinstance(obj, Service)
    assert (obj.metadata.name, obj.spec.cluster_ip) == ("b", "10.0.0.2")


@pytest.mark.parametrize("rest", [[], [("ERROR", {"code": 500})], [("ERROR", {"code": 410})], [bookmark(10)]])
def test_incomplete_list_is_not_handed_over(rest: list[Event]) -> None:
    assert Play([*LIST[:2], *rest]).sink.replaced == 0


def test_patience() -> None:
    """Short until the list is complete, then as long as between two bookmarks."""
    play = Play(LIST, [])
    assert [answer.patience for answer in play.client.answers] == [[3.0, 7.0], []]


def test_changes() -> None:
    play = Play(LIST, [modified("a", 11, cluster_ip="10.0.0.9"), added("c", 12), deleted("b", 13)], [])
    assert play.updated == [("a", "10.0.0.9"), ("c", "10.0.0.1")]
    assert [key.name for key in play.sink.removed] == ["b"]
    assert play.places == [None, "10", "13"]
    assert play.sink.replaced == 1


def test_changes_right_behind_the_list() -> None:
    play = Play([*LIST, added("c", 11)], [])
    assert play.updated == [("c", "10.0.0.1")]
    assert play.places == [None, "11"]


def test_duplicate_is_passed_over() -> None:
    play = Play(LIST, [added("c", 11), added("c", 11), deleted("a", 12), deleted("a", 12)], [])
    assert play.updated == [("c", "10.0.0.1")]
    assert play.places == [None, "10", "12"]


@pytest.mark.parametrize(
    "older", [added("a", 10), modified("a", 9), deleted("a", 3), added("new", 11), bookmark(9), bookmark(11)]
)
def test_going_back_means_a_fresh_list(older: Event) -> None:
    """What comes out of order is not applied: it is older than what was, or something else is missing."""
    play = Play(LIST, [added("c", 12), older, added("never", 13)], [added("c", 12), complete(14)])
    assert play.updated == [("c", "10.0.0.1")]
    assert play.places == [None, "10", None]
    assert play.sink.names(Kind.SERVICE) == {"c"}
    assert {key.name for key in play.sink.removed} == {"a", "b"}


def test_versions_that_are_no_numbers_are_taken_as_they_come() -> None:
    object_ = service("c", 0)
    object_["metadata"]["resourceVersion"] = "abc"
    play = Play(LIST, [("ADDED", object_), added("d", 5)], [])
    assert [name for name, _ in play.updated] == ["c", "d"]
    assert play.places == [None, "10", "5"]


def test_object_that_is_no_longer_of_concern_is_deleted() -> None:
    """A server that knows the selectors says DELETED; for the others, kproxy sees for itself."""
    play = Play(LIST, [modified("a", 11, **FOREIGN), modified("b", 12, cluster_ip="None"), added("c", 13, **FOREIGN)])
    assert play.sink.names(Kind.SERVICE) == set()
    assert play.sink.updates == []


def test_bookmark_is_a_place() -> None:
    assert Play(LIST, [bookmark(50)], []).places == [None, "10", "50"]


def test_unusable_object_is_passed_over() -> None:
    play = Play(LIST, [("ADDED", {"metadata": {}}), added("c", 12)], [])
    assert play.updated == [("c", "10.0.0.1")]
    assert len(play.sink.problems) == 1
    assert play.places == [None, "10", "12"]


def test_error_event_says_how_long_to_wait() -> None:
    status = {"code": 429, "reason": "TooManyRequests", "details": {"retryAfterSeconds": 17}}
    play = Play(LIST, [("ERROR", status)], [])
    assert 17 <= play.pauses[1] < 18
    assert play.places == [None, "10", "10"]


def test_place_that_fails_again_and_again_is_given_up() -> None:
    play = Play(LIST, *[[("ERROR", {"code": 500})]] * 3, LIST, [])
    assert play.places == [None, "10", "10", "10", None, "10"]
    assert play.sink.removed == []


def test_progress_restores_confidence() -> None:
    error: Event = ("ERROR", {"code": 500})
    play = Play(LIST, [error], [error], [added("c", 11), error], [error], [error], [])
    assert play.places == [None, "10", "10", "10", "11", "11", None]


def test_delays_begin_anew_after_progress() -> None:
    error: Event = ("ERROR", {"code": 503})
    play = Play(LIST, [error], [error], [bookmark(11), error], [error])
    assert 1.6 <= play.pauses[2] <= 3.2
    assert 0.8 <= play.pauses[3] <= 1.6
    assert 1.6 <= play.pauses[4] <= 3.2
