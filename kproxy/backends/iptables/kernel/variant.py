"""Which of iptables' two variants the node uses: legacy tables, or tables that iptables keeps in nftables.

All programs on a node must use the same, or their rules are evaluated one after the other without knowing of each
other. The kubelet leaves a mark in the mangle table of the one it uses, for containers to find; iptables-wrappers, with
which kube-proxy's image decides, looks for it in the same order as here. Where there is no mark, it counts rules;
kproxy takes the legacy tables then, which it reaches without starting programs, as long as the kernel has them.
"""

from collections.abc import Callable
from typing import Any

from kproxy.backends.iptables.kernel.chains import Variant as Variant
from kproxy.backends.iptables.kernel.chains import chains_of, marked
from kproxy.backends.iptables.kernel.engine import Engine
from kproxy.backends.iptables.kernel.errors import KernelRefusedError, NoIptablesError
from kproxy.backends.iptables.kernel.legacy.applier import LegacyApplier
from kproxy.backends.iptables.kernel.legacy.entry import entry_layout
from kproxy.backends.iptables.kernel.legacy.lock import XtablesLock
from kproxy.backends.iptables.kernel.legacy.tableinfo import TableReader
from kproxy.backends.iptables.rules.ruleset import TableName
from kproxy.state.model import IPFamily


def detect_variant() -> Variant:
    """Return the variant that the kubelet on this node uses.

    Where none has left a mark, legacy, unless the kernel has no legacy tables any more (as from RHEL 10 on) and the
    programs of the other variant are there.
    """
    if (variant := marked()) is not None:
        return variant
    if any(_is_there(Variant.LEGACY, family) for family in IPFamily):
        return Variant.LEGACY
    return Variant.NFT if any(_is_there(Variant.NFT, family) for family in IPFamily) else Variant.LEGACY


# The applier of variant nft is imported where it is asked for: most nodes have no use for it and what it imports.


def _is_there(variant: Variant, family: IPFamily) -> bool:
    try:
        if variant is Variant.NFT:
            from kproxy.backends.iptables.kernel.nft.applier import NftTools

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
    if variant is Variant.LEGACY:
        return LegacyApplier(family, lock)
    from kproxy.backends.iptables.kernel.nft.applier import NftApplier

    return NftApplier(family)


def is_guarded() -> bool:
    """Tell whether a rule in either variant keeps the network out of 127.0.0.0/8, or may do so, whoever wrote it."""
    return any(_asked(variant, Engine.is_guarded) for variant in Variant)


def _asked(variant: Variant, question: Callable[[Engine[Any]], bool]) -> bool:
    """Ask a variant something about IPv4; no where it is not to be had, or has nothing in its filter table."""
    if not chains_of(variant, IPFamily.IPV4, TableName.FILTER):
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
