"""The tests of test_turns, in mode nftables."""

from tests.packets.nftables.conftest import world as world
from tests.packets.test_turns import *  # noqa: F403
