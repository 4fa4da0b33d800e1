"""The tests of `tests.packets.test_turns`, in mode nftables."""

from tests.packets.test_turns import *  # noqa: F403
