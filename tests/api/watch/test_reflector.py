"""The reflector's manners: what it asks for, when it lists anew, what it does with servers that can do less."""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from kproxy.api.kinds import Kind, ObjectKind
from kproxy.api.types import ApiObject
from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.faults import EndStream, Silence, Status
from tests.kit.apiserver.objects import make_node, make_service, make_slice
from tests.kit.logged import Logged
from tests.kit.sources.watching_world import FAST, NODE, World, running, until


@pytest.fixture
def world(api_server: ApiServer, kubeconfig: Path) -> World:
    world = World(api_server, kubeconfig)
    world.put("a", "b")
    return world


def queries(world: World, verb: str, resource: str = "services") -> list[dict[str, str]]:
    return [dict(request.query) for request in world.server.requests.seen(resource, verb)]


# What is asked for


def test_streaming_list_then_watch(world: World) -> None:
    with running(world):
        world.watching()
        world.put("c")
        world.in_step()
        world.server.end_watches()
        world.server.requests.wait("services", "watch", count=2)
        world.watching()
    streaming, resumed = queries(world, "watch")
    selectors = {
        "labelSelector": "!service.kubernetes.io/service-proxy-name",
        "fieldSelector": "spec.clusterIP!=None",
        "watch": "true",
        "allowWatchBookmarks": "true",
    }
    for query in (streaming, resumed):
        assert 300 <= int(query.pop("timeoutSeconds")) <= 600
    assert streaming == selectors | {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
    assert resumed == selectors | {"resourceVersion": str(world.server.version)}
    assert queries(world, "list") == []


def test_pages(world: World) -> None:
    world.server.settings.streaming_lists = "forbidden"
    world.server.replace_all(make_service(f"s{number:04}", cluster_ip="10.96.0.1") for number in range(1_200))
    with running(world):
        world.watching()
        assert len(world.sink.state[Kind.SERVICE]) == 1_200
        assert world.sink.replaced == 1
        world.server.compact()
        world.server.cut_connections()
        until(lambda: world.status.lists == 2 or world.status.watches == 2, "watch again")
        world.watching()
    pages = queries(world, "list")[:3]
    assert [page["limit"] for page in pages] == ["500"] * 3
    assert ["continue" in page for page in pages] == [False, True, True]
    assert all("resourceVersion" not in page for page in pages)
    assert [query.get("sendInitialEvents") for query in queries(world, "watch")][:2] == ["true", None]  # asked once


def test_watch_times_are_spread(world: World) -> None:
    world.server.faults.add(EndStream(), resource="services", verb="watch", times=30)
    with running(world):
        world.watching()
    assert len({query["timeoutSeconds"] for query in queries(world, "watch")}) > 5


@pytest.mark.parametrize(
    ("kind", "selectors"),
    [
        (Kind.ENDPOINT_SLICE, {"labelSelector": "!service.kubernetes.io/headless"}),
        (Kind.NODE, {"fieldSelector": f"metadata.name={NODE}"}),
        (Kind.SERVICE_CIDR, {}),
    ],
)
def test_selectors_of_other_kinds(
    api_server: ApiServer, kubeconfig: Path, kind: ObjectKind, selectors: Mapping[str, str]
) -> None:
    world = World(api_server, kubeconfig, kinds=[kind])
    with running(world):
        world.in_step(kind)
    (query,) = queries(world, "watch", kind.resource)
    assert {name: value for name, value in query.items() if name.endswith("Selector")} == selectors


def test_what_is_of_no_concern_never_arrives(api_server: ApiServer, kubeconfig: Path) -> None:
    world = World(api_server, kubeconfig, kinds=[Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NODE])
    foreign = {"service.kubernetes.io/service-proxy-name": "other"}
    headless = {"service.kubernetes.io/headless": ""}
    world.server.put(make_service("mine"))
    world.server.put(make_service("foreign", labels=foreign))
    world.server.put(make_service("headless", cluster_ip="None"))
    world.server.put(make_slice("mine", endpoints=["10.1.0.1"]))
    world.server.put(make_slice("headless", endpoints=["10.1.0.2"], labels=headless))
    world.server.put(make_node(NODE))
    world.server.put(make_node("other"))
    with running(world):
        for kind in (Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NODE):
            world.in_step(kind)
        assert [world.sink.names(kind) for kind in (Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NODE)] == [
            {"mine"},
            {"mine-1"},
            {NODE},
        ]
        world.server.put(make_service("mine", labels=foreign))  # handed to another proxy
        world.in_step()
        assert world.sink.names(Kind.SERVICE) == set()


# When it lists, and when it doesn't


@pytest.mark.parametrize("times", [1, 3])
def test_resuming_needs_no_list(world: World, times: int) -> None:
    with running(world):
        world.watching()
        for number in range(times):
            world.server.cut_connections()
            world.put(f"c{number}")
            world.in_step()
        assert world.status.lists == 1
        assert world.status.watches == times + 1


def test_bookmark_moves_the_place(world: World) -> None:
    with running(world):
        world.watching()
        world.server.put(make_service("elsewhere", labels={"service.kubernetes.io/service-proxy-name": "x"}))
        world.server.put(make_node("any"))
        received = world.status.bytes_received
        world.server.send_bookmarks()
        until(lambda: world.status.bytes_received > received, "the bookmark")
        world.server.compact()  # all history before the bookmark is gone
        world.server.end_watches()
        world.server.requests.wait("services", "watch", count=2)
        world.put("c")
        world.in_step()
        assert world.status.lists == 1


def test_outage_needs_no_list_and_no_storm(world: World) -> None:
    """When an overloaded server is back, it must not be met by a fresh list for every node."""
    with running(world):
        world.watching()
        world.server.faults.add(Status(503), resource="services", verb="watch", times=6)
        world.server.cut_connections()
        world.put("c")
        world.in_step()
        assert world.status.lists == 1
        assert world.status.failures >= 6


def test_place_that_is_refused_again_and_again_is_given_up(world: World) -> None:
    with running(world):
        world.watching()
        world.server.faults.add(Status(500), resource="services", verb="watch", times=3)
        world.server.cut_connections()
        until(lambda: world.status.lists == 2, "a fresh list")
        world.watching()
    assert world.removed == []
    assert world.status.relists == {"refused": 1}


def test_token_that_expires_between_pages(world: World) -> None:
    world.server.settings.streaming_lists = "forbidden"
    world.server.replace_all(make_service(f"s{number:04}", cluster_ip="10.96.0.1") for number in range(600))
    world.server.faults.add(Status(410), resource="services", verb="list", param="continue")
    with running(world):
        world.watching()
        assert world.sink.replaced == 1
    assert [query.get("limit") for query in queries(world, "list")] == ["500", "500", None]


def test_deletion_missed_while_away_is_applied_without_touching_the_rest(world: World) -> None:
    with running(world):
        world.watching()
        world.server.stop()
        world.delete("a")
        world.server.compact()
        world.server.start()
        world.in_step()
    assert world.removed == ["a"]
    assert world.status.relists == {"expired": 1}


# Servers that can do less


def test_server_that_ignores_the_wish_to_stream(world: World) -> None:
    world.server.settings.streaming_lists = "ignored"
    with running(world):
        world.watching()
        world.put("c")
        world.in_step()
        assert world.status.lists == 1
    assert len(queries(world, "list")) == 1


@pytest.mark.parametrize("streaming", ["offered", "forbidden"])
def test_server_that_cannot_select_by_cluster_ip(world: World, streaming: str) -> None:
    world.server.settings.streaming_lists = "offered" if streaming == "offered" else "forbidden"
    message = 'Unable to find "/v1, Resource=services" that match field selector: field label not supported'
    world.server.faults.add(Status(400, message=message), resource="services")
    world.server.put(make_service("headless", cluster_ip="None"))
    with running(world):
        world.watching()
        assert world.sink.names(Kind.SERVICE) == {"a", "b"}
        world.server.put(make_service("headless-2", cluster_ip="None"))
        world.put("c")
        world.in_step()
        assert world.sink.names(Kind.SERVICE) == {"a", "b", "c"}
    assert "fieldSelector" not in queries(world, "watch")[-1]
    assert "labelSelector" in queries(world, "watch")[-1]


@pytest.mark.parametrize("code", [403, 404])
def test_optional_kind_that_is_not_to_be_had_counts_as_empty(
    api_server: ApiServer, kubeconfig: Path, code: int
) -> None:
    world = World(api_server, kubeconfig, kinds=[Kind.SERVICE], optional=[Kind.SERVICE_CIDR])
    api_server.faults.add(Status(code), resource="servicecidrs", times=None)
    with running(world):
        world.sink.wait(lambda: set(world.sink.state) == {Kind.SERVICE, Kind.SERVICE_CIDR})
        assert world.sink.state[Kind.SERVICE_CIDR] == {}
        status = world.source.statuses[1]
        until(lambda: status.synced, "synced")
        assert status.error is None


# What it tells


def test_status(world: World) -> None:
    with running(world):
        assert not world.status.synced or world.status.lists
        world.watching()
        assert world.status.synced
        assert world.status.kind is Kind.SERVICE
        world.put("c", "d")
        world.in_step()
        assert (world.status.lists, world.status.watches, world.status.events) == (1, 1, 2)
        assert world.status.bytes_received > 1_000
        assert world.status.age() < 10
        world.server.stop()
        until(lambda: world.status.failing_since is not None, "failure shown")
        until(lambda: "connection refused" in str(world.status.error), "error shown")
        since = world.status.failing_since
        failures = world.status.failures
        until(lambda: world.status.failures > failures + 2, "further failures")
        assert world.status.failing_since == since
        world.server.start()
        until(lambda: world.status.failing_since is None, "recovery shown")
        assert world.status.error is None


def test_silence_shows_in_the_age_before_it_is_noticed(api_server: ApiServer, kubeconfig: Path) -> None:
    world = World(api_server, kubeconfig, timing=FAST._replace(idle=60.0))
    with running(world):
        world.in_step()
        age = world.status.age()
        until(lambda: world.status.age() > age + 0.2, "age grows")
        api_server.send_bookmarks()
        until(lambda: world.status.age() < 0.2, "a bookmark is a sign of life")


def test_half_dead_watch_is_noticed(world: World, logged: Logged) -> None:
    with running(world):
        world.watching()
        world.server.faults.add(Silence(), resource="services", verb="watch")
        world.server.end_watches()
        world.server.requests.wait_open("services")
        world.put("c")
        world.in_step()
    (error,) = {str(record.__dict__["fields"]["error"]) for record in logged.records if record.levelno > logging.INFO}
    assert error == f"API server {world.server.url}: the watch brought nothing for 1 s"


def test_problems_are_reported_with_their_objects(world: World) -> None:
    broken = make_service("broken")
    broken["spec"]["ports"] = [{"port": "http"}, {"port": 81}]
    world.server.put(broken)
    with running(world):
        world.in_step()
        later = make_service("later")
        later["spec"]["externalIPs"] = "192.0.2.1"
        world.server.put(later)
        world.in_step()
    assert [f"{problem.key}: {problem.field}" for problem in world.sink.problems] == [
        "default/broken: spec.ports[0].port",
        "default/later: spec.externalIPs",
    ]
    assert world.sink.names(Kind.SERVICE) == {"a", "b", "broken", "later"}


def test_own_mistakes_do_not_end_the_watch(world: World, logged: Logged) -> None:
    """A sink that fails is a bug; the watch goes on all the same, and says so."""
    failed = threading.Event()
    update = world.sink.update

    def fail_once(kind: ObjectKind, obj: ApiObject) -> None:
        if failed.is_set():
            return update(kind, obj)
        failed.set()
        raise RuntimeError("a bug")

    world.sink.update = fail_once  # type: ignore[method-assign]
    with running(world):
        world.watching()
        world.put("c")
        assert failed.wait(10)
        world.put("d")
        until(lambda: "d" in world.sink.names(Kind.SERVICE), "the next change")
    assert "a watch failed in a way nobody foresaw" in logged.messages
