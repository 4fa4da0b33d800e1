"""Which tables of kproxy's and kube-proxy's there are: asked now and then in any mode, so it takes hardly a module."""

from kproxy.backends.nftables.kernel import netlink
from kproxy.backends.nftables.kernel.errors import NetlinkError, NoNftablesError
from kproxy.backends.nftables.kernel.netlink import Reader, attributes, text
from kproxy.backends.nftables.rules import names
from kproxy.state.model import IPFamily

_TABLE_NAME = 1  # NFTA_TABLE_NAME


def all_tables(family: IPFamily, reader: Reader) -> frozenset[str]:
    """Return the names of all tables of a family, anybody's. Raises NetlinkError."""
    found = reader.dump(netlink.GET_TABLE, netlink.FAMILY_NUMBERS[family])
    return frozenset(text(attributes(message.body)[_TABLE_NAME]) for message in found)


def tables(family: IPFamily) -> frozenset[str]:
    """Return which of the tables ``kproxy`` and ``kube-proxy`` are there; none where there is no nf_tables."""
    try:
        reader = Reader()
    except NoNftablesError:
        return frozenset()
    try:
        return all_tables(family, reader) & {names.TABLE, names.KUBE_PROXY_TABLE}
    except NetlinkError:
        return frozenset()
    finally:
        reader.close()
