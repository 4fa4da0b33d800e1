"""A source of objects stops within a second, whatever its server does meanwhile, and delivers nothing afterwards."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.faults import Status
from tests.kit.watching_world import World, until


@pytest.fixture
def world(api_server: ApiServer, kubeconfig: Path) -> World:
    world = World(api_server, kubeconfig)
    world.put("a", "b")
    return world


def quiet(world: World) -> None:
    world.watching()


def frozen(world: World) -> None:
    world.watching()
    world.server.freeze()
    world.server.faults.add(Status(500), times=None)
    world.server.cut_connections()


def unanswered(world: World) -> None:
    world.watching()
    world.server.black_hole()
    world.server.cut_connections()
    until(lambda: world.status.failures > 0, "broken watch")


def waiting_to_try_again(world: World) -> None:
    world.watching()
    world.server.faults.add(Status(429, retry_after=60), resource="services", verb="watch", times=None)
    world.server.end_watches()
    until(lambda: world.status.failures > 0, "refused watch")


@pytest.mark.parametrize("state", [quiet, frozen, unanswered, waiting_to_try_again])
def test_stopping_takes_less_than_a_second(world: World, state: Callable[[World], None]) -> None:
    world.source.start()
    state(world)
    began = time.monotonic()
    world.source.stop()
    assert time.monotonic() - began < 1.0
    delivered = len(world.sink.updates), world.sink.replaced
    world.put("late")
    assert (len(world.sink.updates), world.sink.replaced) == delivered


def test_stopping_before_anything_was_reached(tmp_path: Path) -> None:
    server = ApiServer(port=1)
    world = World(server, server.kubeconfig(tmp_path / "kubeconfig"))
    world.source.start()
    until(lambda: world.status.failures > 0, "a failure")
    began = time.monotonic()
    world.source.stop()
    assert time.monotonic() - began < 1.0
