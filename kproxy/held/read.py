"""Reads what the kernel of this node holds, in the network namespace of the calling thread."""

from collections.abc import Iterator

from kproxy.backends.base import BackendError
from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.kernel.legacy.held import held_tables as legacy_tables
from kproxy.backends.iptables.kernel.nft.held import held_tables as nft_variant_tables
from kproxy.backends.iptables.kernel.variant import Variant
from kproxy.backends.iptables.rules.held import HeldTable as IptablesTable
from kproxy.backends.iptables.rules.walk import HOOKS
from kproxy.backends.nftables.kernel.rules import HeldTable, held_tables
from kproxy.backends.nftables.rules.render import FAMILIES
from kproxy.held.iptables import IptablesPart
from kproxy.held.nftables import NftablesPart
from kproxy.held.node import NodeRules
from kproxy.held.part import Part
from kproxy.state.model import IPFamily


def read_rules(family: IPFamily, variant: Variant | None, layout: Layout | None = None) -> NodeRules:
    """Return the rules of one family, of all programs.

    ``variant`` is that of iptables that kproxy writes to, None in mode nftables; ``layout`` is that of its rules there.
    Raises BackendError where kproxy's own tables can't be read; those of others that can't be read are left out.
    """
    nftables = _nftables(family)
    made_by_iptables = {f"{FAMILIES[family]} {name}" for name in HOOKS}
    native = [table for table in nftables if table.name not in made_by_iptables]
    if nftables and not native:
        nftables[0].close()  # nobody will ask them
    in_nft = [table.name.partition(" ")[2] for table in nftables if table.name in made_by_iptables]
    legacy = list(_readable(legacy_tables(family), must=variant is Variant.LEGACY))
    nft = list(_readable(nft_variant_tables(family, in_nft), must=variant is Variant.NFT)) if in_nft else []
    if variant is None:
        others: list[Part] = [IptablesPart(_apart(tables)) for tables in (legacy, nft) if tables]
        return NodeRules(NftablesPart(family, native), others)
    own, other = (legacy, nft) if variant is Variant.LEGACY else (nft, legacy)
    parts: list[Part] = [IptablesPart(_apart(other))] if other else []
    return NodeRules(IptablesPart(own, layout), [*parts, NftablesPart(family, native)])


def iptables_tables(family: IPFamily, variant: Variant) -> list[IptablesTable]:
    """Return the tables of one variant of iptables that exist. Raises BackendError where they can't be read."""
    if variant is Variant.LEGACY:
        return list(legacy_tables(family))
    tables = _nftables(family)
    for table in tables[:1]:
        table.close()
    names = [table.name.partition(" ")[2] for table in tables if table.name.startswith(f"{FAMILIES[family]} ")]
    return list(nft_variant_tables(family, [name for name in names if name in HOOKS]))


def _nftables(family: IPFamily) -> list[HeldTable]:
    try:
        return held_tables(family)
    except BackendError:
        return []  # no nf_tables in this kernel, so nobody has rules there


def _readable(tables: Iterator[IptablesTable], *, must: bool) -> Iterator[IptablesTable]:
    try:
        yield from tables
    except BackendError:
        if must:
            raise


def _apart(tables: list[IptablesTable]) -> list[IptablesTable]:
    """Give the tables of the variant that kproxy does not write to a name of their own."""
    for table in tables:
        table.name = f"{table.name} (the other variant)"
    return tables
