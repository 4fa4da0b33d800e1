"""The two ways rules are laid out, and the lists that services share.

Up to a thousand endpoints the rules are kube-proxy's own, word for word: people can read them, and every guide applies.
Beyond that nobody reads them any more and the kernel's time counts, so the large layout says the same with fewer and
shorter walks: lists become trees (`tree`), endpoints that need no chain get none, a draw among many endpoints is split
(`draw`), and comments go. No packet can tell the difference; the tests hold both to the same table of flows.
"""

import enum
from typing import NamedTuple

from kproxy.backends.iptables.rules import names
from kproxy.backends.iptables.rules.ruleset import Rule, TableName

LARGE_CLUSTER_ENDPOINTS = 1000
"""Above this many endpoints the large layout is used; kube-proxy drops its comments at the same number."""


class Layout(enum.StrEnum):
    """How rules are laid out."""

    CLASSIC = "classic"
    LARGE = "large"


class SharedList(enum.Enum):
    """A list that every service may add entries to; by table, and by what its entries match on."""

    NAT_SERVICES = enum.auto()
    NAT_NODE_PORTS = enum.auto()
    FILTER_SERVICES = enum.auto()
    FILTER_EXTERNAL_IPS = enum.auto()
    FILTER_EXTERNAL_NODE_PORTS = enum.auto()
    FILTER_FIREWALL = enum.auto()
    FILTER_HEALTH_CHECKS = enum.auto()


class ListPlace(NamedTuple):
    """Where a shared list lives."""

    table: TableName
    chain: str
    """The chain it starts in."""


PLACES = {
    SharedList.NAT_SERVICES: ListPlace(TableName.NAT, names.SERVICES),
    SharedList.NAT_NODE_PORTS: ListPlace(TableName.NAT, names.NODE_PORTS),
    SharedList.FILTER_SERVICES: ListPlace(TableName.FILTER, names.SERVICES),
    # Two lists in one chain: by address, then by node port.
    SharedList.FILTER_EXTERNAL_IPS: ListPlace(TableName.FILTER, names.EXTERNAL_SERVICES),
    SharedList.FILTER_EXTERNAL_NODE_PORTS: ListPlace(TableName.FILTER, names.EXTERNAL_SERVICES),
    SharedList.FILTER_FIREWALL: ListPlace(TableName.FILTER, names.PROXY_FIREWALL),
    SharedList.FILTER_HEALTH_CHECKS: ListPlace(TableName.FILTER, names.NODE_PORTS),
}


class Entry(NamedTuple):
    """One service's rule in a shared list."""

    list: SharedList
    rule: Rule
