"""The tests of test_packets_udp, in mode nftables."""

from tests.nftpackets import world as world
from tests.test_packets_udp import *  # noqa: F403
