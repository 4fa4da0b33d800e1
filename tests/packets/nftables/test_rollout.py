"""The tests of test_packets_rollout, in mode nftables."""

from tests.packets.nftables.conftest import world as world
from tests.packets.test_rollout import *  # noqa: F403
