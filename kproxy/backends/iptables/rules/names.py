"""Names of chains: kube-proxy's own, so that every debugging guide applies and its rules are taken over in place.

A chain of one service port is named by a hash of what it stands for, since the kernel allows 28 characters only.
Changing a hash would orphan the chains that a running node already has.
"""

import base64
import functools
import hashlib

from kproxy.backends.iptables.rules.ruleset import TableName
from kproxy.state.model import Endpoint, ServicePortName

SERVICES = "KUBE-SERVICES"
EXTERNAL_SERVICES = "KUBE-EXTERNAL-SERVICES"
NODE_PORTS = "KUBE-NODEPORTS"
PROXY_FIREWALL = "KUBE-PROXY-FIREWALL"
FORWARD = "KUBE-FORWARD"
POSTROUTING = "KUBE-POSTROUTING"
MARK_MASQ = "KUBE-MARK-MASQ"
KUBE_FIREWALL = "KUBE-FIREWALL"
"""Shared with the kubelet, which puts rules of its own there: never flushed, only seen to."""

LISTS = {
    SERVICES: "KUBE-SERVICES-",
    EXTERNAL_SERVICES: "KUBE-EXTERNAL-",
    NODE_PORTS: "KUBE-NODEPORTS-",
    PROXY_FIREWALL: "KUBE-PROXY-FW-",
}
"""Where a list of frontends begins, and what the names of the chains below begin with, where it is a tree."""

_FIXED = {
    TableName.FILTER: {SERVICES, EXTERNAL_SERVICES, NODE_PORTS, PROXY_FIREWALL, FORWARD, "KUBE-PROXY-CANARY"},
    TableName.NAT: {SERVICES, NODE_PORTS, POSTROUTING, MARK_MASQ, "KUBE-PROXY-CANARY"},
}
_PREFIXES = {
    TableName.FILTER: tuple(LISTS.values()),
    TableName.NAT: (
        # KUBE-XLB chains are written by kube-proxy before 1.24.
        *("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-", "KUBE-XLB-"),
        *(LISTS[SERVICES], LISTS[NODE_PORTS], "KUBE-SPL-"),
    ),
}


def is_ours(table: TableName, chain: str) -> bool:
    """Tell whether a chain is kproxy's (or kube-proxy's) to write and to delete. `KUBE_FIREWALL` is not."""
    return chain in _FIXED[table] or chain.startswith(_PREFIXES[table])


def list_of(chain: str) -> str:
    """Return in which list of frontends a chain is, by the one that it begins in; empty if in none."""
    return next((root for root, below in LISTS.items() if chain == root or chain.startswith(below)), "")


def is_below_list(chain: str) -> bool:
    """Tell whether a chain is one of those that a list of frontends is spread over."""
    return chain not in LISTS and bool(list_of(chain))


def short_hash(text: str, length: int = 16) -> str:
    """Return the first characters, 16 at most, of base32(sha256(text))."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:10])[:length].decode()


@functools.lru_cache(maxsize=1024)
def _service_hash(name: ServicePortName) -> str:
    return short_hash(f"{name}{name.protocol}")


def cluster_chain(name: ServicePortName) -> str:
    """Spreads over the endpoints that policy Cluster allows."""
    return f"KUBE-SVC-{_service_hash(name)}"


def local_chain(name: ServicePortName) -> str:
    """Spreads over the endpoints that policy Local allows."""
    return f"KUBE-SVL-{_service_hash(name)}"


def external_chain(name: ServicePortName) -> str:
    """Takes connections from outside the cluster."""
    return f"KUBE-EXT-{_service_hash(name)}"


def firewall_chain(name: ServicePortName) -> str:
    """Lets only permitted sources through to the external chain."""
    return f"KUBE-FW-{_service_hash(name)}"


@functools.lru_cache(maxsize=1024)
def endpoint_chain(name: ServicePortName, endpoint: Endpoint) -> str:
    """Sends to one endpoint."""
    return f"KUBE-SEP-{short_hash(f'{name}{name.protocol}{endpoint}')}"
