"""The tests of `tests.packets.test_external`, in mode nftables."""

from tests.kit.packets import Exposed, World, address, assert_refused, bridge, each_family, of
from tests.packets.test_external import *  # noqa: F403
from tests.packets.test_external import WEB


@each_family  # type: ignore[no-redef]
def test_every_address_of_the_node_answers_at_node_ports(world: World, shop: Exposed, family: str) -> None:
    """The primary one does, unless nodePortAddresses says otherwise; see test_settings."""
    assert world.lab.client.ask(address(world.lab.node, family), shop.node_port).server in WEB
    assert_refused(world.lab.pod("asker").ask(of(bridge(), family), shop.node_port))


def test_localhost_answers_at_node_ports_in_ipv4_alone(world: World, shop: Exposed) -> None:  # type: ignore[no-redef]
    """Localhost never does in this mode."""
    for ip in ("127.0.0.1", "127.8.8.8", "::1"):
        assert_refused(world.lab.node.ask(ip, shop.node_port))
