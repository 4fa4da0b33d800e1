"""A source of objects stops at once, whatever its server does meanwhile, and delivers nothing afterwards.

What it waits for in these states would take a minute. It is stopped within one second of its own time, and how much
later that is on a machine that does other things is not known.
"""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.faults import Status
from tests.kit.sources.watching_world import FAST, World, until

PATIENT = FAST._replace(idle=60.0, list_idle=60.0)
WITHIN = 15.0


@pytest.fixture
def world(api_server: ApiServer, kubeconfig: Path) -> World:
    world = World(api_server, kubeconfig, timing=PATIENT)
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
def test_stopping_waits_for_nothing(world: World, state: Callable[[World], None]) -> None:
    world.source.start()
    state(world)
    began = time.monotonic()
    world.source.stop()
    assert time.monotonic() - began < WITHIN
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
    assert time.monotonic() - began < WITHIN
