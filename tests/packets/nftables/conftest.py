"""The packet tests once more, in mode nftables: the modules beside this one run those of tests/packets with this world.

Where the mode differs on purpose, as kube-proxy's does, they have a test of the same name instead.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit.packets import World

FLAGS = ("--proxy-mode", "nftables")


class NftablesWorld(World):
    """A world whose kproxy is always started in mode nftables."""

    def start(self, *args: str, **settings: Any) -> None:
        """See `World.start`."""
        super().start(*FLAGS, *args, **settings)


@pytest.fixture(scope="module")
def world(idle_world: World) -> Iterator[World]:
    """See `tests.kit.packets.fixtures.world`."""
    idle_world.__class__ = NftablesWorld  # the same world, started in another way
    idle_world.start()
    yield idle_world
    assert idle_world.kproxy.stop() == 0
    assert "Traceback" not in idle_world.kproxy.log()
    assert "using nftables" in idle_world.kproxy.log()
    assert not idle_world.lab.node.iptables_save(table="filter").count("KUBE-")
    idle_world.clean_up()
    assert not idle_world.lab.node.run(["nft", "list", "tables"]).stdout
