"""kproxy is killed again and again while Services change: nobody who uses the others notices, and nothing is left over.

Each table is what it was or what it shall be at any instant; the next start does the rest.
"""

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from hack.lab import until
from kproxy.state.model import IPFamily
from tests.kit.packets import FAMILIES, PATIENCE, PORT, World, service, slices
from tests.kit.packets.tablewatch import TableWatch, expected_rules, own_rules

pytestmark = pytest.mark.kernel

KILLS = 6
CHURNING = 10
"""Services that change all the time."""
PACE = 0.02
"""Seconds between two changes."""
MOST_CHANGES = 15
"""Between the first sync after a start and the next kill."""


class Churn:
    """Changes Services, and how many pods they have, one after the other."""

    def __init__(self, world: World) -> None:
        self.changes = 0
        self._pods = [world.lab.pod(name) for name in ("web-1", "web-2", "web-3")]
        self._server = world.server
        self._stop = threading.Event()

    def _run(self) -> None:
        with self._server.connect() as control:
            while not self._stop.wait(PACE):
                number = self.changes % CHURNING
                name = f"churning-{number}"
                pods = self._pods[: self.changes // CHURNING % 4]
                control.put(service(name, 30 + number), *slices(name, pods))
                self.changes += 1

    def wait(self, changes: int) -> None:
        """Wait for so many changes."""
        target = self.changes + changes
        until(lambda: self.changes >= target, PATIENCE, "some changes")

    @contextmanager
    def going_on(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run, name="churn", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


def test_killed_during_churn(world: World, kproxy_args: Sequence[str]) -> None:
    layout = kproxy_args[-1]
    pods = [world.lab.pod(name) for name in ("web-1", "web-2", "web-3")]
    calm = world.expose("calm", 20, pods)
    asker, node, churn = world.lab.pod("asker"), world.lab.node, Churn(world)
    with ExitStack() as stack:
        # Only the classic layout's rules can be told apart, by their comments.
        watches = [
            stack.enter_context(TableWatch(node, family, "default/calm:", "kubernetes service portals"))
            for family in (IPFamily if layout == "classic" else ())
        ]
        loads = [stack.enter_context(asker.load(calm.ip(family), PORT, every=0.02)) for family in FAMILIES]
        connections = [stack.enter_context(asker.connect(calm.ip(family), PORT)) for family in FAMILIES]
        with churn.going_on():
            for _ in range(KILLS):
                churn.wait(random.randrange(MOST_CHANGES))  # noqa: S311 - no secret
                world.kproxy.process.kill()
                assert all(connection.echo() for connection in connections)
                world.start(*kproxy_args)
        assert churn.changes > 10 * KILLS
        assert all(connection.echo() for connection in connections)
    world.settle()
    assert [load.tally.failures for load in loads] == [(), ()]
    assert [watch.lost for watch in watches] == [set() for _ in watches]
    for family in FAMILIES:
        assert own_rules(node.iptables_save(family)) == expected_rules(world, family, layout)
