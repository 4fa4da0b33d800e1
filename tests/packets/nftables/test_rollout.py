"""The tests of `tests.packets.test_rollout`, in mode nftables."""

from tests.packets.test_rollout import *  # noqa: F403
