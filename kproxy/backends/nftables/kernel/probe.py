"""Asks whether this machine can do what the nftables backend needs, and names what is missing.

The kernel and libnftables are asked by having them check small scripts, feature by feature: versions say little, for
distributions carry features over, and kernels are built without parts.
"""

from collections.abc import Sequence
from typing import NamedTuple

from kproxy.backends.nftables.kernel.errors import KernelRefusedError, NoNftablesError
from kproxy.backends.nftables.kernel.library import Libnftables
from kproxy.backends.nftables.kernel.netlink import Notices
from kproxy.backends.nftables.rules.render import FAMILIES
from kproxy.state.model import IPFamily


class Feature(NamedTuple):
    """Something that is needed, and a script that works where it is there."""

    name: str
    since: str
    script: str
    """What is within a table; IP stands for ip or ip6, ADDRESS for the type of its addresses."""


FEATURES = (
    Feature("nf_tables", "Linux 4.18", ""),
    Feature(
        "chains of type nat with masquerade",
        "Linux 4.18, CONFIG_NFT_NAT and CONFIG_NFT_MASQ",
        """chain c1 {
            type nat hook postrouting priority 99
            meta mark & 1 != 0 masquerade fully-random
        }""",
    ),
    Feature(
        "reject",
        "CONFIG_NFT_REJECT",
        """chain c2 {
            type filter hook forward priority -111
            ct state new reject
        }""",
    ),
    Feature(
        "the node's own addresses",
        "CONFIG_NFT_FIB",
        """chain c3 {
            type nat hook prerouting priority -101
            fib daddr type local accept
        }""",
    ),
    Feature(
        "maps from a random number to an address and port",
        "nftables 0.9.4, CONFIG_NFT_NUMGEN",
        """map m4 {
            typeof IP daddr . tcp dport . numgen random mod 2 : IP daddr . tcp dport
        }
        chain c4 {
            dnat IP addr . port to IP daddr . tcp dport . numgen random mod 2 map @m4
        }""",
    ),
    Feature(
        "prefixes in concatenations",
        "Linux 5.6, nftables 0.9.4",
        """set s5 {
            type ADDRESS . inet_proto . inet_service . ADDRESS
            flags interval
        }""",
    ),
    Feature(
        "counters in the elements of sets",
        "Linux 5.7, nftables 0.9.5",
        """set s6 {
            type ADDRESS . inet_service
            counter
        }""",
    ),
    Feature(
        "sets that rules add to",
        "Linux 4.3",
        """set s7 {
            type ADDRESS
            flags dynamic,timeout
        }
        chain c7 {
            update @s7 { IP saddr timeout 1s }
        }""",
    ),
)


def why_not(family: IPFamily) -> str | None:
    """Return why nftables can't be used for ``family`` on this node, naming what is missing; None if it can."""
    try:
        Notices().close()  # of a missing privilege, libnftables would speak on standard error by itself
        library = Libnftables()
    except NoNftablesError as error:
        return str(error)
    try:
        return None if _works(library, family, FEATURES) is None else _first_missing(library, family)
    finally:
        library.close()


def _first_missing(library: Libnftables, family: IPFamily) -> str | None:
    """Ask for one feature after the other, which takes longer: the kernel ends each check with some rest."""
    for feature in FEATURES:
        error = _works(library, family, [feature])
        if error is not None:
            return f"nftables needs {feature.name} ({feature.since}): {error}"
    return None


def _works(library: Libnftables, family: IPFamily, features: Sequence[Feature]) -> KernelRefusedError | None:
    try:
        library.check(_script(features, family))
    except KernelRefusedError as error:
        return error
    return None


def _script(features: Sequence[Feature], family: IPFamily) -> str:
    address = "ipv4_addr" if family is IPFamily.IPV4 else "ipv6_addr"
    body = "\n".join(feature.script for feature in features)
    body = body.replace("IP ", f"{FAMILIES[family]} ").replace("ADDRESS", address)
    return f"table {FAMILIES[family]} kproxy-probe {{\n{body}\n}}\n"
