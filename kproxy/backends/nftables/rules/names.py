"""What things are called in kproxy's table.

Names of nft may hold letters, digits, slashes, dots, hyphens and underscores, and must begin with a letter.
"""

import base64
import hashlib
import re

from kproxy.state.model import ServicePortName

TABLE = "kproxy"
KUBE_PROXY_TABLE = "kube-proxy"
"""kube-proxy's own, in both families."""

# Base chains; `shared` says what each is for.
NAT_PREROUTING = "nat-prerouting"
NAT_OUTPUT = "nat-output"
NAT_POSTROUTING = "nat-postrouting"
FILTER_PREROUTING = "filter-prerouting"
FILTER_INPUT = "filter-input"
FILTER_FORWARD = "filter-forward"
FILTER_OUTPUT = "filter-output"
FILTER_OUTPUT_AFTER_NAT = "filter-output-after-nat"

# Chains that are always there.
SERVICES = "services"
CHECK_SOURCE = "check-source"
REFUSE = "refuse"
REFUSE_NODE_PORTS = "refuse-node-ports"
GUARD_CLUSTER_IPS = "guard-cluster-ips"

# Sets that are always there.
HAIRPIN = "hairpin"
CLUSTER_IPS = "cluster-ips"
REFUSED = "refused"
DROPPED = "dropped"
REFUSED_NODE_PORTS = "refused-node-ports"
DROPPED_NODE_PORTS = "dropped-node-ports"
GUARDED = "guarded"
PERMITTED = "permitted"
NOT_PERMITTED = "not-permitted"

# Sets that are there if any service has chains of its own: for affinity, or to take turns.
AFFINITY_CLIENTS = "affinity-clients"
OWN_ENDPOINTS = "own-endpoints"

INVALID_DROPS = "invalid-drops"
"""A counter."""

_PLAIN = re.compile(r"[A-Za-z0-9.-]{0,63}")


def own_prefix(what_for: str, name: ServicePortName) -> str:
    """Return what the names of the own chains of a service port begin with: what it has them for, and its name."""
    parts = (name.namespace, name.name, name.port)
    if all(_PLAIN.fullmatch(part) for part in parts):
        return f"{what_for}/{'/'.join(parts)}/{name.protocol}"
    # Kubernetes has no such names; a hash of one cannot end the name it becomes part of.
    digest = hashlib.sha256("\0".join((*parts, name.protocol)).encode("utf-8", "surrogatepass")).digest()
    return f"{what_for}/{base64.b32encode(digest)[:32].decode()}"


def number_for(text: str) -> int:
    """Return 32 bits that stand for a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
