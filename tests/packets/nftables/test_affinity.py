"""The tests of `tests.packets.test_affinity`, in mode nftables."""

from tests.packets.test_affinity import *  # noqa: F403
