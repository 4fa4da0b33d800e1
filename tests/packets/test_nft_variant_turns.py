"""The tests of `tests.packets.test_turns` on a node whose iptables is the nft variant."""

from tests.packets.test_nft_variant import kproxy_args as kproxy_args
from tests.packets.test_turns import *  # noqa: F403
