"""The tests of `tests.packets.test_clusterip`, in mode nftables."""

from contextlib import closing

from tests.kit.packets import PORT, Exposed, World, assert_refused, service, slices
from tests.packets.test_clusterip import *  # noqa: F403


def test_only_the_ports_of_a_service_lead_to_it(world: World, shop: Exposed) -> None:  # type: ignore[no-redef]
    """All others are refused: a ClusterIP is nobody's, so packets for it would be passed on to who knows where."""
    asker = world.lab.pod("asker")
    with closing(world.lab.pod("web-1").serve(PORT + 1)):
        for family in ("ipv4", "ipv6"):
            assert_refused(asker.ask(shop.ip(family), PORT + 1))
            assert_refused(world.lab.node.ask(shop.ip(family), PORT + 1))


def test_ports_can_be_added_and_taken_away(world: World) -> None:  # type: ignore[no-redef]
    asker, pod = world.lab.pod("asker"), world.lab.pod("web-1")
    moving = world.expose("moving", 21, [pod])
    assert asker.ask(moving.ip("ipv4"), PORT).server == "web-1"
    world.put(service("moving", 21, protocols=["TCP", "UDP"]), *slices("moving", [pod], protocols=["TCP", "UDP"]))
    assert asker.ask(moving.ip("ipv4"), PORT, "UDP").server == "web-1"
    world.put(service("moving", 21, protocols=["UDP"]))
    assert asker.ask(moving.ip("ipv4"), PORT, "UDP").server == "web-1"
    assert_refused(asker.ask(moving.ip("ipv4"), PORT, "TCP"))
