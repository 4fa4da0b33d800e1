"""The tests of `tests.packets.test_clusterip` where iptables is the nft variant: the same rules by another door."""

from collections.abc import Iterator, Sequence

import pytest

from tests.kit.packets import FAMILIES, World
from tests.packets.test_clusterip import *  # noqa: F403


@pytest.fixture(scope="module")
def kproxy_args() -> Sequence[str]:
    return "--iptables-variant", "nft"


@pytest.fixture(scope="module", autouse=True)
def rules_are_where_they_belong(world: World) -> Iterator[None]:
    """The legacy tables, which packets pass first, hold nothing of kproxy's."""
    yield
    for family, program in zip(FAMILIES, ("iptables-nft-save", "ip6tables-nft-save"), strict=True):
        assert "KUBE-" not in world.lab.node.iptables_save(family)
        assert "KUBE-SERVICES" in world.lab.node.run([program]).stdout
