"""Watches of the test API server: what a client sees of changes, bookmarks and the end of history, over HTTPS."""

import json
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest

from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.kinds import Json
from tests.kit.apiserver.objects import make_node, make_service, make_slice
from tests.kit.apiserver.rawclient import RawClient
from tests.kit.apiserver.rest.watching import StreamingLists

SERVICES = "/api/v1/services"
STREAMING = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"


@pytest.fixture
def client(api_server: ApiServer) -> Iterator[RawClient]:
    with RawClient(api_server) as client:
        yield client


def brief(event: Json) -> str:
    """An event in short: its type and whom it is about, or its version."""
    meta = event["object"]["metadata"]
    return f"{event['type']} {meta.get('name') or meta.get('resourceVersion')}"


def take(events: Iterator[Json], count: int) -> list[str]:
    return [brief(next(events)) for _ in range(count)]


def test_streaming_list_then_changes(api_server: ApiServer, client: RawClient) -> None:
    api_server.put(make_service("a"))
    version = api_server.put(make_service("b"))
    events = client.watch(f"{SERVICES}?{STREAMING}")

    assert take(events, 2) == ["ADDED a", "ADDED b"]
    bookmark = next(events)
    assert bookmark["object"]["metadata"] == {
        "resourceVersion": str(version),
        "annotations": {"k8s.io/initial-events-end": "true"},
    }
    api_server.put(make_service("a", cluster_ip="10.96.0.77"))
    api_server.delete("services", "default", "b")
    api_server.put(make_service("c"))
    assert take(events, 3) == ["MODIFIED a", "DELETED b", "ADDED c"]


def test_watch_goes_on_where_a_list_ended(api_server: ApiServer, client: RawClient) -> None:
    api_server.put(make_service("before"))
    version = client.request(SERVICES).json()["metadata"]["resourceVersion"]
    api_server.put(make_service("between"))
    events = client.watch(f"{SERVICES}?watch=1&resourceVersion={version}")
    api_server.put(make_service("after"))

    assert take(events, 2) == ["ADDED between", "ADDED after"]


@pytest.mark.parametrize("version", ["", "&resourceVersion=0"])
def test_watch_without_a_version_begins_with_the_present(
    api_server: ApiServer, client: RawClient, version: str
) -> None:
    api_server.put(make_service("a"))
    events = client.watch(f"{SERVICES}?watch=true{version}")
    api_server.put(make_service("b"))

    assert take(events, 2) == ["ADDED a", "ADDED b"]


def test_leaving_the_selection_is_a_deletion(api_server: ApiServer, client: RawClient) -> None:
    query = f"watch=true&labelSelector={quote('!service.kubernetes.io/service-proxy-name')}"
    foreign = {"service.kubernetes.io/service-proxy-name": "other"}
    api_server.put(make_service("web"))
    events = client.watch(f"{SERVICES}?{query}")
    assert take(events, 1) == ["ADDED web"]

    left = api_server.put(make_service("web", labels=foreign))
    api_server.put(make_service("web", labels=foreign, cluster_ip="10.96.0.99"))
    api_server.put(make_service("web"))

    deleted = next(events)
    assert brief(deleted) == "DELETED web"
    assert deleted["object"]["metadata"]["resourceVersion"] == str(left)
    assert "labels" not in deleted["object"]["metadata"]  # the last state that was selected
    assert take(events, 1) == ["ADDED web"]


def test_watch_of_one_name_or_namespace(api_server: ApiServer, client: RawClient) -> None:
    events = client.watch("/api/v1/nodes?watch=true&fieldSelector=metadata.name%3Dnode-a")
    with RawClient(api_server) as other:
        in_shop = other.watch("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices?watch=true")
        for name in ("node-b", "node-a"):
            api_server.put(make_node(name))
        for namespace in ("shop-2", "shop"):
            api_server.put(make_slice("web", namespace))

        assert take(events, 1) == ["ADDED node-a"]
        assert next(in_shop)["object"]["metadata"]["namespace"] == "shop"


def test_bookmarks_on_demand_only_where_wanted(api_server: ApiServer, client: RawClient) -> None:
    wanting = client.watch(f"{SERVICES}?watch=true&allowWatchBookmarks=true")
    with RawClient(api_server) as other:
        refusing = other.watch(f"{SERVICES}?watch=true")
        version = api_server.put(make_node("node-a"))  # another kind: only a bookmark tells of the new version
        api_server.send_bookmarks()
        api_server.put(make_service("web"))

        assert take(wanting, 2) == [f"BOOKMARK {version}", "ADDED web"]
        assert take(refusing, 1) == ["ADDED web"]


def test_bookmarks_by_the_clock(api_server: ApiServer, client: RawClient) -> None:
    api_server.settings.bookmark_period = 0.05
    events = client.watch(f"{SERVICES}?watch=true&allowWatchBookmarks=true")

    assert take(events, 2) == [f"BOOKMARK {api_server.version}"] * 2


@pytest.mark.parametrize(
    ("resource", "path", "empty"),
    [
        ("Service", SERVICES, {"spec": {}, "status": {"loadBalancer": {}}}),
        (
            "EndpointSlice",
            "/apis/discovery.k8s.io/v1/endpointslices",
            {"addressType": "", "endpoints": None, "ports": None},
        ),
        ("ServiceCIDR", "/apis/networking.k8s.io/v1/servicecidrs", {"spec": {}, "status": {}}),
    ],
)
def test_bookmark_is_an_object_without_content(
    api_server: ApiServer, client: RawClient, resource: str, path: str, empty: Json
) -> None:
    events = client.watch(f"{path}?{STREAMING}")

    bookmark = next(events)["object"]
    assert bookmark.pop("kind") == resource
    assert set(bookmark) - {"apiVersion", "metadata"} == set(empty)
    assert empty.items() <= bookmark.items()
    assert bookmark["metadata"]["resourceVersion"] == str(api_server.version)


def test_server_ends_a_watch_after_its_time_and_the_connection_lives_on(
    api_server: ApiServer, client: RawClient
) -> None:
    events = client.watch(f"{SERVICES}?watch=true&timeoutSeconds=1")
    local_port = client.connection.sock.getsockname()

    assert list(events) == []
    assert client.request("/version").code == 200
    assert client.connection.sock.getsockname() == local_port
    api_server.requests.wait_open("services", count=0)


@pytest.mark.parametrize(
    ("by_status", "code", "read"),
    [
        (True, 410, lambda body: body),
        (False, 200, lambda body: body["object"]),
    ],
)
def test_history_that_is_gone(
    api_server: ApiServer, client: RawClient, by_status: bool, code: int, read: Callable[[Json], Json]
) -> None:
    version = api_server.put(make_service("a"))
    api_server.put(make_service("b"))
    api_server.compact()
    api_server.settings.gone_by_status = by_status

    reply = client.request(f"{SERVICES}?watch=true&resourceVersion={version}")

    status = read(reply.json())
    assert reply.code == code
    assert (status["code"], status["reason"]) == (410, "Expired")
    assert status["message"].startswith(f"too old resource version: {version}")


def test_client_too_slow_for_the_history_is_told_so() -> None:
    with ApiServer(history=10) as server, RawClient(server) as client:
        events = client.watch(f"{SERVICES}?watch=true&resourceVersion={server.version}")
        server.freeze()
        for _ in range(50):
            server.put(make_service("web"))
        server.thaw()

        received = list(events)

    assert received[-1]["type"] == "ERROR"
    assert received[-1]["object"]["code"] == 410


@pytest.mark.parametrize(
    ("streaming", "code", "first"),
    [("offered", 200, "ADDED"), ("ignored", 200, "ADDED"), ("forbidden", 422, None)],
)
def test_server_without_streaming_lists(
    api_server: ApiServer, client: RawClient, streaming: StreamingLists, code: int, first: str | None
) -> None:
    api_server.settings.streaming_lists = streaming
    api_server.put(make_service("web"))
    response = client.open(f"{SERVICES}?{STREAMING}")
    api_server.end_watches()

    lines = [json.loads(line) for line in response]

    assert response.status == code
    if first is None:
        assert lines[0]["reason"] == "Invalid"
        assert lines[0]["details"]["causes"][0]["field"] == "sendInitialEvents"
    else:
        ended = any("annotations" in line["object"]["metadata"] for line in lines)
        assert (lines[0]["type"], ended) == (first, streaming == "offered")


@pytest.mark.parametrize(
    "query",
    [
        "watch=true&sendInitialEvents=true",
        "watch=true&sendInitialEvents=true&resourceVersionMatch=Exact",
        "watch=true&resourceVersionMatch=NotOlderThan",
        "watch=true&timeoutSeconds=soon",
    ],
)
def test_contradictory_watch_is_invalid(client: RawClient, query: str) -> None:
    reply = client.request(f"{SERVICES}?{query}")

    assert (reply.code, reply.json()["reason"]) == (422, "Invalid")


def test_streaming_list_at_a_version_from_the_future(client: RawClient) -> None:
    reply = client.request(f"{SERVICES}?{STREAMING}&resourceVersion=999999999")

    assert (reply.code, reply.headers["retry-after"]) == (504, "1")


def test_no_initial_events_where_they_are_declined(api_server: ApiServer, client: RawClient) -> None:
    api_server.put(make_service("before"))
    events = client.watch(f"{SERVICES}?watch=true&sendInitialEvents=false&resourceVersionMatch=NotOlderThan")
    api_server.put(make_service("after"))

    assert take(events, 1) == ["ADDED after"]


def test_watch_from_a_version_not_reached_is_silent_until_it_is_passed(
    api_server: ApiServer, client: RawClient
) -> None:
    """How a client goes stale after a backup of etcd was put back: nothing tells it."""
    ahead = api_server.version + 2
    events = client.watch(f"{SERVICES}?watch=true&allowWatchBookmarks=true&resourceVersion={ahead}")
    for name in ("a", "b", "c"):
        api_server.send_bookmarks()
        api_server.put(make_service(name))

    assert take(events, 2) == [f"BOOKMARK {ahead}", "ADDED c"]


def test_a_thousand_changes_arrive_in_order(api_server: ApiServer, client: RawClient) -> None:
    events = client.watch(f"{SERVICES}?watch=true")
    versions = [str(api_server.put(make_service(f"s{number % 10}"))) for number in range(1000)]

    assert [next(events)["object"]["metadata"]["resourceVersion"] for _ in versions] == versions
