"""Which endpoints may get traffic on this node: readiness, termination, hints and locality.

The rules are kube-proxy's (pkg/proxy/topology.go), and so are the reasons:

* ready endpoints are used; only if there is none, those that are terminating but still serve, because a connection to
  a pod on its way out is better than none (KEP-1669);
* hints for nodes or zones are followed only if *every* ready endpoint has them and one is meant for here: partial
  hints would send all traffic to the few endpoints that have them (KEP-2433, KEP-3015);
* policy Local looks at nothing but this node, and ignores hints.
"""

from collections.abc import Sequence
from typing import NamedTuple

from kproxy.state.model import Endpoint, ServicePort


class Usable(NamedTuple):
    """The endpoints of a service port that this node may use."""

    cluster: tuple[Endpoint, ...]
    """Under policy Cluster; empty if the service port never uses it."""
    local: tuple[Endpoint, ...]
    """Under policy Local; empty if the service port never uses it."""
    anywhere: bool
    """Whether there is a usable endpoint on any node: decides between silence and a refusal."""


def usable_endpoints(port: ServicePort, endpoints: Sequence[Endpoint], node_name: str, zone: str) -> Usable:
    """Sort out which of ``endpoints`` the service port uses on the node ``node_name`` in ``zone``."""
    candidates = _ready_or_serving(endpoints)
    cluster = _hinted(candidates, node_name, zone) if port.uses_cluster_endpoints else ()
    local: tuple[Endpoint, ...] = ()
    if port.uses_local_endpoints:
        local = _ready_or_serving([endpoint for endpoint in endpoints if endpoint.is_local])
    return Usable(cluster, local, bool(candidates))


def _ready_or_serving(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """Return the ready ones or, failing that, those that still serve while terminating."""
    ready = tuple(endpoint for endpoint in endpoints if endpoint.ready)
    return ready or tuple(endpoint for endpoint in endpoints if endpoint.serving and endpoint.terminating)


def _hinted(endpoints: tuple[Endpoint, ...], node_name: str, zone: str) -> tuple[Endpoint, ...]:
    """Return the endpoints meant for this node, else those for its zone, else all."""
    if not endpoints or not endpoints[0].ready:
        return endpoints  # falling back to terminating endpoints is about keeping connections, not about distance
    if all(endpoint.node_hints for endpoint in endpoints):
        here = tuple(endpoint for endpoint in endpoints if node_name in endpoint.node_hints)
        if here:
            return here
    if all(endpoint.zone_hints for endpoint in endpoints):
        near = tuple(endpoint for endpoint in endpoints if zone in endpoint.zone_hints)
        if near:
            return near
    return endpoints
