"""The tests of test_turns, in mode nftables."""

from tests.kit.nft_packets import world as world
from tests.packets.test_turns import *  # noqa: F403
