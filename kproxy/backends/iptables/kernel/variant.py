"""Which of iptables' two variants the node uses: legacy tables, or tables that iptables keeps in nftables.

All programs on a node must use the same, or their rules are evaluated one after the other without knowing of each
other. The kubelet leaves a mark in the mangle table of the one it uses, for containers to find; iptables-wrappers, with
which kube-proxy's image decides, looks for it in the same order as here. Where there is no mark, it counts rules;
kproxy takes the legacy tables then, which it reaches without starting programs, as long as the kernel has them.
"""

import enum
from collections.abc import Callable, Iterator
from typing import Any

from kproxy.backends.iptables.kernel.engine import Engine
from kproxy.backends.iptables.kernel.errors import KernelRefusedError, NoIptablesError
from kproxy.backends.iptables.kernel.legacy.applier import LegacyApplier
from kproxy.backends.iptables.kernel.legacy.entry import entry_layout
from kproxy.backends.iptables.kernel.legacy.image import TableImage
from kproxy.backends.iptables.kernel.legacy.lock import XtablesLock
from kproxy.backends.iptables.kernel.legacy.tableinfo import TableReader, existing_tables
from kproxy.backends.iptables.kernel.nft.applier import NftApplier, NftTools
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


def detect_variant() -> Variant:
    """Return the variant that the kubelet on this node uses.

    Where none has left a mark, legacy, unless the kernel has no legacy tables any more (as from RHEL 10 on) and the
    programs of the other variant are there.
    """
    for variant in (Variant.NFT, Variant.LEGACY):
        for family in IPFamily:
            if not KUBELET_CHAINS.isdisjoint(_chains(variant, family, "mangle")):
                return variant
    there = {variant for variant in Variant for family in IPFamily if _is_there(variant, family)}
    return Variant.NFT if there == {Variant.NFT} else Variant.LEGACY


def _is_there(variant: Variant, family: IPFamily) -> bool:
    try:
        if variant is Variant.NFT:
            NftTools(family).chains("filter")
        else:
            TableReader(entry_layout(family)).close()
    except KernelRefusedError:
        return True  # it is there, and says no to what it was asked
    except NoIptablesError:
        return False
    return True


def open_applier(family: IPFamily, variant: Variant, lock: XtablesLock | None = None) -> Engine[Any]:
    """Return the applier of a variant, in the calling thread's network namespace. Raises NoIptablesError."""
    return LegacyApplier(family, lock) if variant is Variant.LEGACY else NftApplier(family)


def is_guarded() -> bool:
    """Tell whether a rule in either variant keeps the network out of 127.0.0.0/8, or may do so, whoever wrote it."""
    return any(_asked(variant, Engine.is_guarded) for variant in Variant)


def others_who_guard() -> Iterator[str]:
    """Yield who else on this node relies on the guard of 127.0.0.0/8, and would miss it or what it guards."""
    for variant in Variant:
        if any(not KUBELET_CHAINS.isdisjoint(_chains(variant, family, "mangle")) for family in IPFamily):
            yield "the kubelet"
        if any(KUBE_PROXY_CHAIN in _chains(variant, IPFamily.IPV4, name) for name in TableName):
            yield "kube-proxy"


def rules_left_in(variant: Variant) -> Iterator[str]:
    """Yield a warning for each family in which a variant, other than what is in use, holds kube-proxy's chains."""
    for family in IPFamily:
        chains = [chain for name in TableName for chain in _chains(variant, family, name) if is_ours(name, chain)]
        if chains:
            yield (
                f"{family}: {len(chains)} chains of kube-proxy's or kproxy's are also in the {variant} variant of "
                f"iptables, such as {min(chains)}: {_ORDER_OF_TRAVERSAL[variant]}. "
                f"Remove them: kproxy cleanup for variant {variant}, or kube-proxy --cleanup"
            )


def _asked(variant: Variant, question: Callable[[Engine[Any]], bool]) -> bool:
    """Ask a variant something about IPv4; no where it is not to be had, or has nothing in its filter table."""
    if not _chains(variant, IPFamily.IPV4, TableName.FILTER):
        return False  # and no library need be loaded to know that
    try:
        applier = open_applier(IPFamily.IPV4, variant)
    except NoIptablesError:
        return False
    try:
        return question(applier)
    except KernelRefusedError:
        return True  # it can't be read, so that the answer may well be yes
    finally:
        applier.close()


def _chains(variant: Variant, family: IPFamily, table: str) -> frozenset[str]:
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
