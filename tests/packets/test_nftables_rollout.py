"""The tests of test_packets_rollout, in mode nftables."""

from tests.kit.nft_packets import world as world
from tests.packets.test_rollout import *  # noqa: F403
