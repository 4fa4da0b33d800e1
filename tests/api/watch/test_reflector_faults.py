"""Whatever goes wrong between kproxy and its API server: afterwards it holds what the server holds.

Every row is a fault. While it lasts, objects are changed, added and deleted; then the sink must be in step again, and
must never have lost anything but what was deleted.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.faults import (
    Corrupt,
    Drip,
    Duplicate,
    EndStream,
    ErrorEvent,
    Fault,
    Hang,
    Replay,
    Reset,
    Silence,
    Status,
    Swap,
    Truncate,
)
from tests.kit.sources.watching_world import World, running

Act: TypeAlias = Callable[[World], None]

LIST_FAULTS: dict[str, Fault] = {
    "401": Status(401),
    "403": Status(403),
    "410": Status(410),
    "429": Status(429),
    "500": Status(500),
    "503": Status(503),
    "504": Status(504),
    "no answer": Hang(),
    "reset": Reset(),
    "truncated": Truncate(),
    "invalid": Corrupt(),
    "silence": Silence(),
    "slow drip": Drip(size=7),
}
STREAM_FAULTS: dict[str, Fault] = LIST_FAULTS | {
    "reset at once": Reset(at=0),
    "reset between events": Reset(after=2, at=0),
    "reset mid-event": Reset(after=2),
    "reset mid-bookmark": Reset(frame="bookmark"),
    "truncated mid-bookmark": Truncate(frame="bookmark"),
    "truncated after an event": Truncate(after=1, at=1.0),
    "invalid bookmark": Corrupt(frame="bookmark"),
    "silence before the bookmark": Silence(frame="bookmark"),
    "410 event": ErrorEvent(after=1),
    "500 event": ErrorEvent(code=500),
    "ended at once": EndStream(),
    "ended early": EndStream(after=2),
    "duplicates": Duplicate(),
    "replay": Replay(),
    "swapped": Swap(),
}


@pytest.fixture
def world(api_server: ApiServer, kubeconfig: Path) -> World:
    world = World(api_server, kubeconfig)
    world.put("a", "b", "c", "d")
    return world


@pytest.mark.parametrize("name", STREAM_FAULTS)
def test_first_list_streamed(world: World, name: str) -> None:
    world.server.faults.add(STREAM_FAULTS[name], resource="services", verb="watch", times=2)
    check_first_list(world)


@pytest.mark.parametrize("name", LIST_FAULTS)
def test_first_list_in_pages(world: World, name: str) -> None:
    world.server.settings.streaming_lists = "forbidden"
    world.server.faults.add(LIST_FAULTS[name], resource="services", verb="list", times=2)
    check_first_list(world)


def check_first_list(world: World) -> None:
    with running(world):
        world.watching()
        assert world.sink.replaced == 1  # nothing incomplete was handed over
        world.put("e")
        world.delete("a")
        world.in_step()
    assert world.removed == ["a"]


@pytest.mark.parametrize("name", STREAM_FAULTS)
def test_watch(world: World, name: str) -> None:
    """The fault meets the watch that follows the list, and the one after it; there are changes before and within."""
    with running(world):
        world.watching()
        world.server.faults.add(STREAM_FAULTS[name], resource="services", verb="watch", times=2)
        world.server.end_watches()
        for round_ in range(3):
            world.put("b", "c", address=f"10.96.1.{round_}")
            world.put(f"new-{round_}")
            world.server.send_bookmarks()
            world.delete(f"new-{round_}")
            world.put(f"new-{round_}")
        world.delete("a")
        world.in_step()
        world.put("last")
        world.in_step()
    assert set(world.removed) <= {"a", "new-0", "new-1", "new-2"}
    assert world.removed.count("a") == 1


def stop_and_start(world: World) -> None:
    world.server.stop()
    change(world)
    world.server.start()


def cut(world: World) -> None:
    world.server.cut_connections()
    change(world)


def frozen(world: World) -> None:
    world.server.freeze()
    change(world)
    world.server.requests.wait("services", "watch", count=1)
    world.server.cut_connections()
    world.server.thaw()


def half_dead(world: World) -> None:
    """No byte, no FIN: only the client's patience notices."""
    world.server.faults.add(Silence(), resource="services", verb="watch")
    world.server.end_watches()
    world.server.requests.wait_open("services")
    change(world)


def black_hole(world: World) -> None:
    world.server.black_hole()
    world.server.cut_connections()
    change(world)
    world.server.accept()


def refused(world: World) -> None:
    world.server.refuse()
    world.server.cut_connections()
    change(world)
    world.server.accept()


def forgotten(world: World) -> None:
    world.server.refuse()
    world.server.cut_connections()
    change(world)
    world.server.compact()
    world.server.accept()


def forgotten_by_status(world: World) -> None:
    world.server.settings.gone_by_status = True
    forgotten(world)


def forgotten_in_pages(world: World) -> None:
    world.server.settings.streaming_lists = "forbidden"
    forgotten(world)


def new_epoch(world: World) -> None:
    change(world)
    world.server.new_epoch()


def higher_epoch(world: World) -> None:
    change(world)
    world.server.new_epoch(1_000_000)


def new_certificate(world: World) -> None:
    world.server.stop()
    change(world)
    world.server.renew_certificate()
    world.server.start()


def new_authority(world: World) -> None:
    world.server.stop()
    change(world)
    world.server.renew_certificate(new_authority=True)
    world.server.kubeconfig(world.kubeconfig)
    world.server.start()


def rotated_token(world: World) -> None:
    world.server.rotate_token("another")
    world.server.kubeconfig(world.kubeconfig)
    world.server.end_watches()
    change(world)


def slow_drip(world: World) -> None:
    world.server.faults.add(Drip(size=1, pause=0.05), resource="services", verb="watch", times=1)
    world.server.end_watches()
    change(world)


def change(world: World) -> None:
    world.delete("a")
    world.put("b", address="10.96.9.9")
    world.put("e")


ACTS: dict[str, Act] = {
    act.__name__.replace("_", " "): act
    for act in (
        stop_and_start,
        cut,
        frozen,
        half_dead,
        black_hole,
        refused,
        forgotten,
        forgotten_by_status,
        forgotten_in_pages,
        new_epoch,
        higher_epoch,
        new_certificate,
        new_authority,
        rotated_token,
        slow_drip,
    )
}


@pytest.mark.parametrize("name", ACTS)
def test_server(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kproxy.api.transport.client.CONNECT_SECONDS", 0.3)
    with running(world):
        world.watching()
        ACTS[name](world)
        world.in_step()
        world.watching()
        world.put("f")
        world.in_step()
        assert world.status.error is None
        assert world.status.failing_since is None
    assert world.removed == ["a"]


def test_server_comes_back_with_older_data(world: World) -> None:
    """Set up from a backup: what was deleted since is back, what was added since is gone."""
    with running(world):
        world.watching()
        backup = world.server.snapshot()
        world.delete("a")
        world.put("e", "f")
        world.put("b", address="10.96.9.9")
        world.in_step()
        world.server.restore(backup)
        world.put("g")  # in the server's new history, and with a version that was there before
        world.in_step()
        world.put("h")
        world.in_step()
    assert set(world.removed) == {"a", "e", "f"}
