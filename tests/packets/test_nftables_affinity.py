"""The tests of test_packets_affinity, in mode nftables."""

from tests.kit.nft_packets import world as world
from tests.packets.test_affinity import *  # noqa: F403
