"""The tests of test_packets_udp, in mode nftables."""

from tests.packets.nftables.conftest import world as world
from tests.packets.test_udp import *  # noqa: F403
