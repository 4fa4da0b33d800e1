"""Decoding what a real kube-apiserver v1.36.2 sent (tests/wire)."""

from kproxy.api.decode import decode_event, decode_page, decode_status
from kproxy.api.kinds import Kind
from kproxy.api.types import Service
from kproxy.api.wire import Added, Bookmark, Deleted, Error, Modified
from tests.apiserver.test_wire import read_recording


def test_pages() -> None:
    first = decode_page(Kind.SERVICE, read_recording("01-list-page").body)
    last = decode_page(Kind.SERVICE, read_recording("02-list-continue").body)
    assert [obj.metadata.name for obj in (*first.objects, *last.objects)] == ["web", "web2", "web3"]
    assert (first.resource_version, last.resource_version) == ("32041", "32041")
    assert first.continue_token.startswith("eyJ2")
    assert last.continue_token == ""
    assert first.problems == last.problems == ()


def test_streaming_list_and_watch() -> None:
    events = [decode_event(Kind.SERVICE, line) for line in read_recording("03-watch-list").body.split(b"\n")]
    assert all(problems == () for _, problems in events)
    kinds = [type(event) for event, _ in events]
    assert kinds == [Added, Added, Added, Bookmark, Bookmark, Modified, Deleted, Added, Bookmark]
    bookmarks = [event for event, _ in events if isinstance(event, Bookmark)]
    assert [(one.resource_version, one.ends_initial_events) for one in bookmarks] == [
        ("32041", True),
        ("32047", False),
        ("32097", False),
    ]
    modified = events[5].event
    assert isinstance(modified, Modified)
    assert isinstance(modified.object, Service)
    assert modified.object.metadata.resource_version == "32053"
    assert [port.port for port in modified.object.spec.ports or ()] == [81]


def test_place_that_is_too_old() -> None:
    event, _ = decode_event(Kind.SERVICE, read_recording("05-watch-too-old").body)
    assert isinstance(event, Error)
    assert (event.object.code, event.object.reason) == (410, "Expired")


def test_statuses() -> None:
    future = decode_status(read_recording("06-list-future-version").body)
    assert future is not None
    assert future.details is not None
    assert future.details.retry_after_seconds == 1
    assert [cause.reason for cause in future.details.causes or ()] == ["ResourceVersionTooLarge"]
    for name, code in (("07-unauthorized", 401), ("08-not-found", 404)):
        status = decode_status(read_recording(name).body)
        assert status is not None
        assert status.code == code
