"""The tests of test_packets_affinity, in mode nftables."""

from tests.packets.nftables.conftest import world as world
from tests.packets.test_affinity import *  # noqa: F403
