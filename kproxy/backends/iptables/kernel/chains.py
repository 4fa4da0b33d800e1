"""The chains that either variant of iptables holds, by name: whose they are, and so who was or is at work on the node.

It takes neither libiptc nor iptables' programs, so that another engine may ask, too.
"""

import enum
from collections.abc import Iterator

from kproxy.backends.iptables.kernel.errors import KernelRefusedError, NoIptablesError
from kproxy.backends.iptables.kernel.legacy.entry import entry_layout
from kproxy.backends.iptables.kernel.legacy.image import TableImage
from kproxy.backends.iptables.kernel.legacy.tableinfo import TableReader, existing_tables
from kproxy.backends.iptables.kernel.nft.names import chain_names
from kproxy.backends.iptables.rules.firewall import KUBE_PROXY_CHAIN, KUBELET_CHAINS
from kproxy.backends.iptables.rules.names import is_ours
from kproxy.backends.iptables.rules.ruleset import TableName
from kproxy.state.model import IPFamily


class Variant(enum.StrEnum):
    """One of the two."""

    LEGACY = "legacy"
    NFT = "nft"


_ORDER_OF_TRAVERSAL = {
    Variant.LEGACY: "packets pass the legacy tables first, so what is stale there wins",
    Variant.NFT: "packets pass those too, after kproxy's",
}


def marked() -> Variant | None:
    """Return the variant that the kubelet has left its mark in, if any."""
    for variant in (Variant.NFT, Variant.LEGACY):
        for family in IPFamily:
            if not KUBELET_CHAINS.isdisjoint(chains_of(variant, family, "mangle")):
                return variant
    return None


def others_who_guard() -> Iterator[str]:
    """Yield who else on this node relies on the guard of 127.0.0.0/8, and would miss it or what it guards."""
    for variant in Variant:
        if any(not KUBELET_CHAINS.isdisjoint(chains_of(variant, family, "mangle")) for family in IPFamily):
            yield "the kubelet"
        if any(KUBE_PROXY_CHAIN in chains_of(variant, IPFamily.IPV4, name) for name in TableName):
            yield "kube-proxy"


def rules_left_in(variant: Variant) -> Iterator[str]:
    """Yield a warning for each family in which a variant, other than what is in use, holds kube-proxy's chains."""
    for family in IPFamily:
        chains = [chain for name in TableName for chain in chains_of(variant, family, name) if is_ours(name, chain)]
        if chains:
            yield (
                f"{family}: {len(chains)} chains of kube-proxy's or kproxy's are also in the {variant} variant of "
                f"iptables, such as {min(chains)}: {_ORDER_OF_TRAVERSAL[variant]}. "
                f"Remove them: kproxy cleanup for variant {variant}, or kube-proxy --cleanup"
            )


def chains_of(variant: Variant, family: IPFamily, table: str) -> frozenset[str]:
    """Return the chains of a table, none where there is no such table or no means to see it."""
    try:
        return chain_names(family, table) if variant is Variant.NFT else _legacy_chains(family, table)
    except (NoIptablesError, KernelRefusedError):
        return frozenset()


def _legacy_chains(family: IPFamily, table: str) -> frozenset[str]:
    if table not in existing_tables(family):  # asking for it would make it
        return frozenset()
    layout = entry_layout(family)
    reader = TableReader(layout)
    try:
        return frozenset(TableImage(layout, *reader.read(table)).chains)
    finally:
        reader.close()
