"""Where things lie in the kernel's rule entries: one table of facts per address family.

From the kernel's uapi headers (linux/netfilter_ipv4/ip_tables.h, linux/netfilter_ipv6/ip6_tables.h,
linux/netfilter/x_tables.h), which are ABI. An entry is

    struct ipt_entry (or ip6t_entry) | struct xt_entry_match … | struct xt_entry_target

each part padded to the machine's widest alignment. Byte order is the machine's own, but for addresses.
"""

import ctypes
import socket
import struct

import msgspec

from kproxy.state.model import IPFamily

ALIGNMENT = ctypes.alignment(ctypes.c_uint64)
"""XT_ALIGN: 8 on every 64-bit machine and on 32-bit Arm."""

MODULE_HEADER = struct.Struct("=H29sB")
"""struct xt_entry_match and struct xt_entry_target: whole size, extension's name, revision."""

STANDARD_TARGET_SIZE = 40
"""MODULE_HEADER, an int verdict, padding."""

ERROR_TARGET_SIZE = 64
"""MODULE_HEADER, 30 bytes of name, padding: marks the head of a user-defined chain, and the table's end."""

COUNTERS = struct.Struct("=QQ")
"""struct xt_counters: packets, bytes."""

OFFSETS = struct.Struct("=HH")
"""target_offset and next_offset, which stand side by side."""

MAX_CHAIN_NAME = 28
"""XT_EXTENSION_MAXNAMELEN - 1: a chain's name stands where an extension's would."""


def padded(size: int) -> int:
    """Return ``size`` rounded up to the kernel's alignment of matches and targets."""
    return (size + ALIGNMENT - 1) & -ALIGNMENT


class EntryLayout(msgspec.Struct, frozen=True, kw_only=True):
    """One family's entry header, and how to ask the kernel about its tables."""

    family: IPFamily
    size: int
    """Of the entry header: matches begin here."""
    cache_offset: int
    """Of the 32-bit nfcache, a scratch field; what stands before it says what the rule matches."""
    offsets_offset: int
    """Of the OFFSETS; the 32-bit comefrom, another scratch field, follows them."""
    counters_offset: int
    goto_flag: int
    address_family: socket.AddressFamily
    sockopt_level: int


_IPV4 = EntryLayout(
    family=IPFamily.IPV4,
    size=112,
    cache_offset=84,
    offsets_offset=88,
    counters_offset=96,
    goto_flag=0x02,  # IPT_F_GOTO
    address_family=socket.AF_INET,
    sockopt_level=socket.IPPROTO_IP,
)

_IPV6 = EntryLayout(
    family=IPFamily.IPV6,
    size=168,
    cache_offset=136,
    offsets_offset=140,
    counters_offset=152,
    goto_flag=0x04,  # IP6T_F_GOTO
    address_family=socket.AF_INET6,
    sockopt_level=socket.IPPROTO_IPV6,
)


def entry_layout(family: IPFamily) -> EntryLayout:
    """Return the layout of that family's entries."""
    return _IPV4 if family is IPFamily.IPV4 else _IPV6
