"""The tests of test_packets_udp, in mode nftables."""

from tests.kit.nft_packets import world as world
from tests.packets.test_udp import *  # noqa: F403
