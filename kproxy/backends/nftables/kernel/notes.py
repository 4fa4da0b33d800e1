"""Reads what nft notes down for itself with a set: by what expressions it was declared.

The kernel keeps these bytes (NFTA_SET_USERDATA) without a look at them; nft needs them to print a set as it was
written. Sets declared by ``typeof`` are noted down alike by all versions. Of those declared by ``type`` nft 1.1 notes
down more than 1.0 can read: nft 1.0.6 (Debian 12) crashes on any listing of a table that has one, and on ``nft -f``.
So kproxy declares by ``typeof`` only, and makes anew what is declared otherwise.

Layout: libnftnl's udata.h, nftables' expression.h and netlink.c. A note is a type and a length, of a byte each, and a
value; numbers are in the machine's byte order.
"""

import sys
from collections.abc import Iterator

_KEY_TYPEOF = 3  # NFTNL_UDATA_SET_KEY_TYPEOF
_EXPRESSION, _DETAILS = 0, 1  # NFTNL_UDATA_SET_TYPEOF_EXPR, NFTNL_UDATA_SET_TYPEOF_DATA
_CONSTANT, _CONCATENATION = 4, 13  # EXPR_VALUE, EXPR_CONCAT


def declared_by_expressions(notes: bytes) -> bool:
    """Tell whether the keys of a set are declared by what a packet has at some place: ``typeof``, not ``type``."""
    return _is_of_packet(dict(_each(notes)).get(_KEY_TYPEOF, b""))


def _is_of_packet(expression: bytes) -> bool:
    its = dict(_each(expression))
    kind = int.from_bytes(its.get(_EXPRESSION, b""), sys.byteorder)
    details = its.get(_DETAILS, b"")
    if kind == _CONCATENATION:
        parts = [part for _, part in _each(details)]
        return bool(parts) and all(map(_is_of_packet, parts))
    return kind != _CONSTANT and bool(details)


def _each(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 2 <= len(data):
        kind, length = data[at], data[at + 1]
        yield kind, data[at + 2 : at + 2 + length]
        at += 2 + length
