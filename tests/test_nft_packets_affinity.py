"""The tests of test_packets_affinity, in mode nftables."""

from tests.nftpackets import world as world
from tests.test_packets_affinity import *  # noqa: F403
