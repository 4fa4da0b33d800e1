"""The names of a table's chains, asked of the kernel: also where iptables can't read what is in them."""

import os
import struct

from kproxy.backends.iptables.kernel.errors import NoIptablesError
from kproxy.backends.iptables.kernel.nft import watch
from kproxy.state.model import IPFamily

_GET_CHAIN, _NEW_CHAIN = 4, 3  # linux/netfilter/nf_tables.h
_TABLE, _NAME = 1, 3  # NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_CODE = struct.Struct("=i")


def chain_names(family: IPFamily, table: str) -> frozenset[str]:
    """Return the names of a table's chains; none where there is no such table.

    Raises NoIptablesError where the kernel's nftables does not answer.
    """
    with watch.open_socket() as asker:
        asker.send(watch.request(_GET_CHAIN, family, _REQUEST_DUMP))
        found: set[str] = set()
        while True:
            for kind, message in watch.messages(asker.recv(watch.RECEIVE_SIZE)):
                if kind == _NLMSG_DONE:
                    return frozenset(found)
                if kind == _NLMSG_ERROR:
                    code = -_CODE.unpack_from(message)[0]
                    raise NoIptablesError(f"the kernel's nftables does not tell its chains: {os.strerror(code)}")
                if kind & 0xFF == _NEW_CHAIN:
                    attributes = watch.attributes(message)
                    if watch.text(attributes[_TABLE]) == table:
                        found.add(watch.text(attributes[_NAME]))
