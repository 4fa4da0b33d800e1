"""Lists that somebody asks for, as the loop does to be sure: no more of them than can help, and none gets lost."""

import time
from pathlib import Path

import pytest

from kproxy.api.kinds import Kind
from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.faults import Status
from tests.kit.sources.watching_world import FAST, QUIET, World, reasons, running, until
from tests.kit.sources.watching_world import narrow as narrow
from tests.kit.sources.watching_world import quiet_world as quiet_world

pytestmark = pytest.mark.usefixtures("narrow")


@pytest.fixture
def world(quiet_world: World) -> World:
    return quiet_world


def test_requests_in_a_row_are_one(world: World) -> None:
    world = World(world.server, world.kubeconfig, timing=FAST._replace(idle=3.0))
    with running(world):
        world.watching()
        began = time.monotonic()
        for _ in range(100):
            world.source.refresh()
            time.sleep(0.01)
        until(lambda: world.status.lists >= 3, "lists")
        assert world.status.lists <= 2 + (time.monotonic() - began) / (3.0 / 600)
        assert reasons(world) == {"requested": world.status.lists - 1}


def test_request_while_the_server_is_away_waits_for_it(world: World) -> None:
    """And makes no storm of requests."""
    with running(world):
        world.watching()
        world.server.stop()
        until(lambda: world.status.failures > 1, "the outage")
        world.source.refresh()
        failures = world.status.failures
        time.sleep(0.5)
        assert world.status.failures - failures < 0.5 / QUIET.first_retry
        world.put("meanwhile")
        world.server.start()
        until(lambda: world.status.lists == 2, "the list")
        world.in_step()
        world.source.refresh()
        until(lambda: world.status.lists == 3, "another list")
        world.watching()
    assert reasons(world) == {"requested": 2}


def test_request_wakes_who_waits_for_a_kind_that_is_not_to_be_had(api_server: ApiServer, kubeconfig: Path) -> None:
    world = World(api_server, kubeconfig, kinds=[Kind.SERVICE], optional=[Kind.SERVICE_CIDR], timing=QUIET)
    rule = api_server.faults.add(Status(403), resource="servicecidrs", times=None)
    with running(world):
        world.in_step(Kind.SERVICE)
        until(lambda: world.source.statuses[1].synced, "absence")
        assert rule.hits == 1
        for hits in (2, 3):
            world.source.refresh()
            until(lambda hits=hits: rule.hits == hits, "another attempt")  # type: ignore[misc]
        time.sleep(0.2)
        assert rule.hits == 3
