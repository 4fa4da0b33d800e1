"""The tests of `tests.packets.test_udp`, in mode nftables."""

from tests.packets.test_udp import *  # noqa: F403
