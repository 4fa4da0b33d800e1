"""The tests of test_packets_rollout, in mode nftables."""

from tests.nftpackets import world as world
from tests.test_packets_rollout import *  # noqa: F403
