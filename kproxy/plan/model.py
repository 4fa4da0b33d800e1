"""The Plan: what becomes of every connection to a Service, said without a word of iptables or nftables.

A backend reads a `ServicePlan` and only translates: it never looks at readiness, policies, hints or source ranges
again. The vocabulary is small on purpose:

* a *frontend* is an address and port that clients connect to, of one of four kinds;
* a *route* says what becomes of a connection that came in by a frontend: which endpoints may get it, whether its source
  address is replaced, or that it is refused;
* the *endpoints* are what new connections are spread over, each with the same chance, or in turn.
"""

import enum
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from kproxy.state.model import Endpoint, IPFamily, ServicePortName


class Target(enum.Enum):
    """Where a connection goes."""

    CLUSTER = "cluster"
    """To one of the endpoints that traffic policy Cluster allows."""
    LOCAL = "local"
    """To one of the endpoints that traffic policy Local allows: those on this node."""
    REJECT = "reject"
    """Nowhere, and the client is told at once: there is no endpoint on any node."""
    DROP = "drop"
    """Nowhere, without a word: a Local policy finds nothing here, but another node may have endpoints, and a load
    balancer retries there when this node stays silent."""


class Masquerade(enum.Enum):
    """When the source address is replaced by the node's, so that replies come back through this node."""

    NEVER = "never"
    OFF_CLUSTER = "off-cluster"
    """Where the source is not a pod (`LocalTraffic` says how pods on this node are told apart)."""
    ALWAYS = "always"


class FrontendKind(enum.Enum):
    """By what kind of address a client came."""

    CLUSTER_IP = "cluster IP"
    EXTERNAL_IP = "external IP"
    LOAD_BALANCER = "loadbalancer IP"
    NODE_PORT = "node port"


class Frontend(msgspec.Struct, frozen=True, gc=False):
    """An address and port of a service port. A node port has no address: it answers at all those of the node plan."""

    kind: FrontendKind
    ip: str | None
    port: int
    sources: tuple[str, ...] = ()
    """CIDRs that may connect here; all others are dropped. Empty: anyone may."""


class Destination(NamedTuple):
    """Where packets are sent to, without what it means: all that is left of a frontend when its service is gone."""

    ip: str | None
    """None for any address that answers at node ports."""
    port: int


class Route(msgspec.Struct, frozen=True, gc=False):
    """What becomes of a connection, depending on whether it came by the ClusterIP or from outside."""

    to: Target
    masquerade: Masquerade = Masquerade.NEVER
    short_cut: bool = False
    """Pods of this node, and the node itself (masqueraded), are sent to the cluster endpoints before `to` is asked:
    a Local policy is a promise to clients *outside* and must not cut the node's own pods off (kube-proxy's
    "local-source short-cut"). Only set where there are cluster endpoints."""
    in_turn: bool = False
    """Endpoints get new connections one after the other, not at random. Wherever a service port is reached by, its
    turn is the same. Never set where clients come back to the endpoint they had."""

    @property
    def forwards(self) -> bool:
        """Whether it leads anybody to an endpoint."""
        return self.short_cut or self.to in (Target.CLUSTER, Target.LOCAL)


class ServicePlan(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """All decisions about one service port in one address family."""

    name: ServicePortName
    frontends: tuple[Frontend, ...]
    internal: Route
    """The route of connections to the ClusterIP."""
    external: Route | None = None
    """The route of connections to any other frontend; None where there are none."""
    cluster_endpoints: tuple[Endpoint, ...] = ()
    local_endpoints: tuple[Endpoint, ...] = ()
    serving_endpoints: tuple[Endpoint, ...] = ()
    """Where flows that exist already may stay, beyond where new ones go: also endpoints that terminate but still serve,
    or that hints would not pick any more. For UDP that is any flow, since none has an end that anybody could see; of
    other protocols, the connections that wait for an answer."""
    affinity_seconds: int = 0
    """How long a client keeps its endpoint after its last new connection; 0 for no affinity."""
    health_check_node_port: int = 0
    """Where a load balancer asks whether this node has endpoints; 0 for none."""
    local_ready: int = 0
    """Number of ready endpoints on this node, by address: what the health-check node port tells."""

    def route(self, frontend: Frontend) -> Route:
        """Return the route for connections that came in by ``frontend``."""
        if frontend.kind is FrontendKind.CLUSTER_IP:
            return self.internal
        if self.external is None:
            raise ValueError(f"{self.name}: {frontend.kind.value} frontend without an external route")
        return self.external

    @property
    def in_turn(self) -> bool:
        """Whether its endpoints get new connections one after the other."""
        return self.internal.in_turn or (self.external is not None and self.external.in_turn)

    def may_hairpin(self, endpoint: Endpoint) -> bool:
        """Tell whether this node can come to send ``endpoint`` a connection of its own, which must be masqueraded then.

        What a pod of another node sends to a Service is proxied there. It gets here only if it is meant for an address
        of this very node, and under policy Local the short cut may then send it to any endpoint.
        """
        return not endpoint.is_remote or (self.external is not None and self.external.short_cut)

    @property
    def reachable_endpoints(self) -> tuple[Endpoint, ...]:
        """Every endpoint that some frontend can lead to, each once, in order."""
        if not self.local_endpoints:
            return self.cluster_endpoints
        merged = {str(endpoint): endpoint for endpoint in (*self.cluster_endpoints, *self.local_endpoints)}
        return tuple(merged[text] for text in sorted(merged))


class LocalTraffic(msgspec.Struct, frozen=True):
    """How to tell that a packet comes from a pod on this node (kube-proxy's detect-local modes).

    Exactly one of the three is set. ``cidr`` is what modes ClusterCIDR and NodeCIDR come down to.
    """

    cidr: str | None = None
    bridge: str | None = None
    interface_prefix: str | None = None


class NodePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for the node as a whole, in one address family."""

    family: IPFamily
    masquerade_mark: int = 0x4000
    """The bit of the packet mark that means "masquerade me on the way out"."""
    local_traffic: LocalTraffic | None = None
    node_port_ips: tuple[str, ...] | None = None
    """The node's addresses that answer at node ports; None means every address the node has."""
    localhost_node_ports: bool = False
    """Whether node ports also answer at 127.0.0.0/8 (IPv4 only)."""
    count_localhost: bool = False
    """Whether to count the connections to them there."""
    drop_invalid: bool = True
    """Drop packets conntrack can't place, lest the node answers a client with a RST (see the compilers)."""
    service_cidrs: tuple[str, ...] = ()
    """The ranges that ClusterIPs come from, where they are known: addresses in them that no Service has are nobody's.
    Only the nftables backend asks, as in kube-proxy."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a backend is told: the node's settings and a plan for each service port."""

    node: NodePlan
    services: Mapping[ServicePortName, ServicePlan]
