"""Which variant of iptables the node uses, and a warning where the other one holds rules of the same kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kproxy.backends.iptables.kernel.chains import rules_left_in
from kproxy.backends.iptables.kernel.legacy.applier import LegacyApplier
from kproxy.backends.iptables.kernel.legacy.tableinfo import existing_tables
from kproxy.backends.iptables.kernel.nft.applier import NftApplier
from kproxy.backends.iptables.kernel.variant import Variant, detect_variant, open_applier
from kproxy.state.model import IPFamily
from tests.kit.iptables.tools import run
from tests.kit.netns import network_namespace

pytestmark = pytest.mark.kernel

EITHER = pytest.mark.parametrize("variant", Variant)
BOTH_FAMILIES = pytest.mark.parametrize("family", IPFamily)


@pytest.fixture(autouse=True)
def _namespace(tmp_path: Path) -> Iterator[None]:
    with network_namespace(tmp_path):
        yield


@EITHER
@BOTH_FAMILIES
@pytest.mark.parametrize("chain", ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"])
def test_the_kubelets_mark_decides(variant: Variant, family: IPFamily, chain: str) -> None:
    run(family, variant, f"-t mangle -N {chain}")
    assert detect_variant() is variant


def test_legacy_where_nothing_tells() -> None:
    assert detect_variant() is Variant.LEGACY


def test_nft_where_both_have_the_mark() -> None:
    for variant in Variant:
        run(IPFamily.IPV4, variant, "-t mangle -N KUBE-KUBELET-CANARY")
    assert detect_variant() is Variant.NFT


def test_looking_makes_no_legacy_table() -> None:
    detect_variant()
    assert list(rules_left_in(Variant.LEGACY)) == []
    assert [existing_tables(family) for family in IPFamily] == [frozenset(), frozenset()]


@EITHER
@BOTH_FAMILIES
def test_chains_in_the_other_variant_are_reported(variant: Variant, family: IPFamily) -> None:
    other = Variant.NFT if variant is Variant.LEGACY else Variant.LEGACY
    run(family, other, "-t nat -N KUBE-SERVICES")
    run(family, other, "-t nat -N SOMEBODY-ELSE")
    run(family, variant, "-t filter -N KUBE-FORWARD")
    (warning,) = rules_left_in(other)
    assert warning.startswith(f"{family}: 1 chains")
    assert "KUBE-SERVICES" in warning
    assert f"variant {other}" in warning


@BOTH_FAMILIES
def test_each_variant_has_its_applier(family: IPFamily) -> None:
    for variant, kind in ((Variant.LEGACY, LegacyApplier), (Variant.NFT, NftApplier)):
        applier = open_applier(family, variant)
        applier.close()
        assert type(applier) is kind
