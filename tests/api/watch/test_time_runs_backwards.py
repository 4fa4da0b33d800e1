"""A backup of etcd is put back: resource versions fall, and objects are what they once were, and no watch tells.

Afterwards kproxy holds what the server holds, however the two meet again: before the new history has reached the place
that kproxy knows or after, with connections cut or not. What it costs is bounded.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kproxy.api.kinds import Kind
from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.faults import Silence, Status
from tests.kit.apiserver.objects import make_node, make_service, make_slice
from tests.kit.logged import Logged
from tests.kit.sources.watching_world import FAST, NODE, QUIET, World, reasons, running, until
from tests.kit.sources.watching_world import narrow as narrow
from tests.kit.sources.watching_world import quiet_world as quiet_world

pytestmark = pytest.mark.usefixtures("narrow")


@pytest.fixture
def world(quiet_world: World) -> World:
    return quiet_world


# What may have happened since the backup


def added(world: World) -> None:
    world.put("new")


def changed(world: World) -> None:
    world.put("b", address="10.96.9.9")


def deleted(world: World) -> None:
    world.delete("a")


def everything(world: World) -> None:
    added(world)
    deleted(world)
    changed(world)


def nothing_of_this_kind(world: World) -> None:
    """Only bookmarks moved the place: what is restored is what was."""
    for number in range(5):
        world.server.put(make_node(f"other-{number}"))
    received = world.status.bytes_received
    world.server.send_bookmarks()
    until(lambda: world.status.bytes_received > received, "the bookmark")


SINCE: list[Callable[[World], None]] = [added, changed, deleted, everything, nothing_of_this_kind]


@pytest.mark.parametrize("since", SINCE)
def test_before_the_new_history_gets_there(world: World, since: Callable[[World], None]) -> None:
    """The server's version is lower than what was seen: that is asked for after every connection that broke."""
    with running(world):
        world.watching()
        world.server.back_up()
        since(world)
        world.in_step()
        world.server.go_back()
        world.put("after")
        world.in_step()
        assert reasons(world) == {"history": 1}


@pytest.mark.parametrize("since", [added, changed, everything])
def test_after_the_new_history_has_passed_it(world: World, since: Callable[[World], None]) -> None:
    """No version ever goes back for kproxy, but what changed last is not as it was left."""
    with running(world):
        world.watching()
        world.server.back_up()
        since(world)
        world.in_step()
        world.server.go_back_and_on()
        world.in_step()
        world.put("after")
        world.in_step()
        assert reasons(world) == {"history": 1}


def test_deletion_that_is_undone_and_passed(world: World) -> None:
    with running(world):
        world.watching()
        world.server.back_up()
        world.delete("a")
        world.in_step()
        world.server.go_back_and_on()
        world.in_step()
        assert reasons(world) == {"history": 1}


def test_other_kinds(api_server: ApiServer, kubeconfig: Path) -> None:
    kinds = [Kind.ENDPOINT_SLICE, Kind.NODE, Kind.SERVICE_CIDR]
    world = World(api_server, kubeconfig, kinds=kinds, timing=QUIET)
    world.server.put(make_slice("web", endpoints=["10.1.0.1"]))
    world.server.put(make_node(NODE))
    with running(world):
        for kind in kinds:
            world.in_step(kind)
        world.server.back_up()
        world.server.put(make_slice("web", endpoints=["10.1.0.2"]))
        world.server.put(make_node(NODE, labels={"topology.kubernetes.io/zone": "z"}))
        for kind in kinds:
            world.in_step(kind)
        world.server.go_back_and_on()
        for kind in kinds:
            world.in_step(kind)
    assert [dict(status.relists) for status in world.source.statuses[:2]] == [{"history": 1}] * 2


def test_several_backups_in_a_row(world: World) -> None:
    world = World(world.server, world.kubeconfig, timing=FAST._replace(idle=0.5))
    with running(world):
        world.watching()
        for _ in range(3):
            world.server.back_up()
            everything(world)
            world.in_step()
            world.server.go_back()
            world.in_step()


def test_connections_that_nobody_cut(api_server: ApiServer, kubeconfig: Path) -> None:
    """The watch is silent, and is opened again, and is silent: until the server is asked."""
    world = World(api_server, kubeconfig, timing=FAST)
    world.put("a", "b")
    with running(world):
        world.watching()
        world.server.back_up()
        everything(world)
        world.in_step()
        world.server.go_back_unnoticed()
        world.in_step()
        assert reasons(world) == {"history": 1}


def test_reopened_watch_that_is_silent_for_too_long(world: World, logged: Logged) -> None:
    """A server that can't be asked, and whose watch says nothing until its history has passed the place."""
    logged.hear_from(logging.INFO)
    world = World(world.server, world.kubeconfig, timing=FAST._replace(idle=0.5))
    with running(world):
        world.watching()
        world.server.back_up()
        world.server.faults.add(Status(403), resource="services", verb="list", times=None)
        nothing_of_this_kind(world)
        world.server.go_back()
        world.put("unseen")  # at a version that the watch is past
        world.in_step()
    reported = [
        str(record.__dict__["fields"].get("reason")) for record in logged.records if "fields" in record.__dict__
    ]
    assert any("watches that were opened again have brought nothing for" in reason for reason in reported)


def test_what_is_said(world: World, logged: Logged) -> None:
    logged.hear_from(logging.INFO)
    with running(world):
        world.watching()
        world.server.back_up()
        everything(world)
        world.in_step()
        world.server.go_back()
        world.in_step()
    assert "the API server's history is another than before: listing again, and comparing" in logged.messages
    assert (
        "the API server's time ran backwards: what was restored is in force, and what is gone is not" in logged.messages
    )
    assert set(world.removed) == {"a", "new"}


def test_server_that_has_not_caught_up_with_itself(world: World) -> None:
    """A list of a server that is behind: 504, Too large resource version. It is asked again, in pages as well."""
    too_large = Status(504, retry_after=0, cause="ResourceVersionTooLarge", message="Too large resource version: 9")
    with running(world):
        world.watching()
        world.server.back_up()
        everything(world)
        world.in_step()
        world.server.faults.add(too_large, resource="services", verb="watch", param="sendInitialEvents", times=2)
        world.server.go_back()
        world.in_step()
        world.server.settings.streaming_lists = "forbidden"
        everything(world)
        world.in_step()


def test_page_that_goes_on_from_a_history_that_is_gone(world: World) -> None:
    """The token of a page names a version that the server has not reached."""
    world.server.settings.streaming_lists = "forbidden"
    world.server.replace_all(make_service(f"s{number:04}", cluster_ip="10.96.0.1") for number in range(600))
    too_large = Status(504, retry_after=0, cause="ResourceVersionTooLarge")
    world.server.faults.add(too_large, resource="services", verb="list", param="continue")
    with running(world):
        world.watching()
        assert len(world.sink.names(Kind.SERVICE)) == 600


# What it costs where nothing is wrong


@pytest.mark.parametrize("meanwhile", [added, changed, deleted, everything, lambda _: None])
def test_outage_costs_a_question_and_no_list(world: World, meanwhile: Callable[[World], None]) -> None:
    """Also if what changed last is deleted meanwhile: the watch tells of it."""
    with running(world):
        world.watching()
        changed(world)
        world.put("a", address="10.96.0.7")
        world.in_step()
        world.server.stop()
        meanwhile(world)
        world.server.start()
        world.in_step()
        world.watching()
        world.put("last")
        world.in_step()
        assert world.status.lists == 1
        questions = world.server.requests.seen("services", "list")
        assert [dict(request.query)["limit"] for request in questions] == ["1"]
        assert questions[0].path == "/api/v1/namespaces/default/services"
        assert "metadata.name=a" in dict(questions[0].query)["fieldSelector"]


def test_watch_that_ends_in_good_order_costs_not_even_a_question(world: World) -> None:
    with running(world):
        world.watching()
        world.server.end_watches()
        world.server.requests.wait("services", "watch", count=2)
        world.put("c")
        world.in_step()
    assert world.server.requests.count("services", "list") == 0


def test_watch_of_its_full_length_is_followed_by_a_question(api_server: ApiServer, kubeconfig: Path) -> None:
    timing = QUIET._replace(shortest_watch=1.0, longest_watch=1.0)
    world = World(api_server, kubeconfig, timing=timing)
    with running(world):
        world.watching()
        world.server.requests.wait("services", "list")
        assert world.status.lists == 1


def test_silence_costs_few_lists(api_server: ApiServer, kubeconfig: Path) -> None:
    """A server without bookmarks: each watch is silent, and yet it is not listed each time."""
    world = World(api_server, kubeconfig, timing=FAST._replace(idle=0.2))
    world.put("a")
    world.server.faults.add(Silence(), resource="services", verb="watch", times=None, param="resourceVersion")
    with running(world):
        world.watching()
        began = time.monotonic()
        until(lambda: world.status.watches > 12, "watches")
        assert world.status.lists <= 2 + (time.monotonic() - began) / 0.6


def test_outage_is_followed_by_a_list(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was made in the restored history before anybody came back, below the place, is found by nothing else."""
    monkeypatch.setattr("kproxy.api.watch.relists._AFTER_OUTAGE_SECONDS", 0.2)
    with running(world):
        world.watching()
        world.server.back_up()
        nothing_of_this_kind(world)
        world.server.stop()
        world.server.store.restore(world.server._backup)
        world.put("unseen")
        world.server.store.advance(world.server.version + 100)
        until(lambda: world.status.failures > 1, "the outage")
        world.server.start()
        world.in_step()
        assert reasons(world) == {"outage": 1}


def test_request_lists_again_and_compares(world: World) -> None:
    world = World(world.server, world.kubeconfig, timing=FAST._replace(idle=5.0))
    with running(world):
        world.watching()
        world.server.back_up()
        everything(world)
        world.in_step()
        world.server.go_back_unnoticed()
        world.source.refresh()
        world.source.refresh()
        world.in_step()
        assert reasons(world) in ({"requested": 1}, {"history": 1})
        assert world.status.failures == 0
        assert world.status.lists == 2
