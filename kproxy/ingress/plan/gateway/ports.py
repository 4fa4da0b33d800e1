"""Which port of the engine is whose, where Services are in front of it.

Several Gateways want port 80, each at an address of its own: the Service of each leads to a port of the engine that is
that Gateway's alone. A port that is given out stays: the Services themselves, whose target ports say it, are the
memory, so that neither a restart nor another replica changes anything. A new one is sought from a place that its own
name determines, so that replicas which have not seen the Service yet come to the same.
"""

import hashlib
from collections.abc import Iterable, Mapping

from kproxy.api.types import ObjectKey
from kproxy.ingress.api.core import BackendService
from kproxy.ingress.plan.settings import GatewayPort

GATEWAY_LABEL = "gateway.networking.k8s.io/gateway-name"
"""GEP-1762: what objects made for a Gateway are labelled with."""
MANAGED_LABEL = "app.kubernetes.io/managed-by"
MANAGER = "kproxy-ingress"
FIRST, LAST = 20_000, 29_999
"""Below the usual range of node ports, and of no privileges."""


def is_door(service: BackendService) -> bool:
    """Tell whether a Service is one that this program made to stand in front of a Gateway."""
    return gateway_of(service) is not None


def gateway_of(service: BackendService) -> ObjectKey | None:
    """Return the Gateway that a Service stands in front of, if this program made it.

    The label is ours; the name is the owner's, for a label's value cannot be as long as a name.
    """
    if (service.metadata.labels or {}).get(MANAGED_LABEL) != MANAGER:
        return None
    owners = [owner.name for owner in service.metadata.owner_references or () if owner.kind == "Gateway"]
    return ObjectKey(service.metadata.namespace, owners[0]) if len(owners) == 1 else None


def given_out(services: Mapping[ObjectKey, BackendService]) -> dict[GatewayPort, int]:
    """Return what the Services of Gateways say; where two claim one port, the first by name has it."""
    found: dict[GatewayPort, int] = {}
    for key in sorted(services):
        gateway = gateway_of(services[key])
        if gateway is None:
            continue
        for port in services[key].spec.ports or ():
            target = port.target_port
            if isinstance(target, int) and FIRST <= target <= LAST and target not in found.values():
                found[GatewayPort(*gateway, port.port)] = target
    return found


def assign(wanted: Iterable[GatewayPort], held: Mapping[GatewayPort, int]) -> dict[GatewayPort, int]:
    """Return a port for each of ``wanted``: the one it holds, or a free one. Ports of others are never taken."""
    used = set(held.values())
    assigned: dict[GatewayPort, int] = {}
    for port in sorted(wanted):
        number = held.get(port)
        if number is None:
            number = _free(port, used)
        if number is not None:
            assigned[port] = number
            used.add(number)
    return assigned


def _free(port: GatewayPort, used: set[int]) -> int | None:
    count = LAST - FIRST + 1
    if len(used) >= count:
        return None
    digest = hashlib.sha256(f"{port.namespace}/{port.gateway}:{port.port}".encode()).digest()
    start = int.from_bytes(digest[:4], "big")
    return next(FIRST + (start + step) % count for step in range(count) if FIRST + (start + step) % count not in used)
