"""The tests of `tests.packets.test_policies`, in mode nftables."""

from contextlib import closing

import pytest

from hack.lab import Outcome
from tests.kit.packets import SILENCE, World, address, each_family
from tests.packets.test_policies import *  # noqa: F403
from tests.packets.test_policies import CHECKED_PORT


@pytest.mark.usefixtures("wall")  # type: ignore[no-redef]
@each_family
def test_health_checks_get_through_whatever_else_is_blocked(world: World, family: str) -> None:
    """Not in this mode: an accept in kproxy's table does not bind the tables of others."""
    spec = {"externalTrafficPolicy": "Local", "healthCheckNodePort": CHECKED_PORT}
    world.expose("walled", 18, [world.lab.pod("web-1")], type="LoadBalancer", spec=spec)
    with closing(world.lab.node.serve(CHECKED_PORT - 1)):
        for port in (CHECKED_PORT - 1, CHECKED_PORT):
            answer = world.lab.client.ask(address(world.lab.node, family), port, timeout=SILENCE)
            assert answer.outcome is Outcome.DROPPED
    world.remove("walled")
