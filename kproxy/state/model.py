"""The nouns of a service proxy: ServicePort and Endpoint.

A Service is a bundle of ports, an EndpointSlice a bundle of addresses with ports of its own. What a proxy programs is
neither: it is one *service port* (name, protocol, address and port) with the *endpoints* behind it. Here those two get
the flat, validated, single-family form that all later stages work on.
"""

import enum
from typing import NamedTuple

import msgspec

from kproxy.api.types import ObjectKey


class IPFamily(enum.StrEnum):
    """One of the two address families; each has kernel tables of its own and is proxied on its own."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"

    @property
    def metric_label(self) -> str:
        """The family as kube-proxy's ``ip_family`` metric label spells it."""
        return "IPv4" if self is IPFamily.IPV4 else "IPv6"


class Protocol(enum.StrEnum):
    """The transport protocols a Service may have; the value is what the kernel's tools call it."""

    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"

    __hash__ = str.__hash__  # it is part of every key; an enum's own hash is written in Python, and slow


class LoadBalancing(enum.StrEnum):
    """How new connections are spread over endpoints."""

    RANDOM = "random"
    ROUND_ROBIN = "round-robin"
    """In turn."""


class ServicePortName(NamedTuple):
    """Names one port of one Service: the key under which services and endpoints find each other.

    The protocol is part of the key because a Service may use one port name for several protocols.
    """

    namespace: str
    name: str
    port: str
    protocol: Protocol

    @property
    def service(self) -> ObjectKey:
        """The Service this port belongs to."""
        return ObjectKey(self.namespace, self.name)

    def __str__(self) -> str:
        """``namespace/name:port``, or without the colon where the port has no name: kube-proxy's spelling."""
        base = f"{self.namespace}/{self.name}"
        return f"{base}:{self.port}" if self.port else base


AGE_UNKNOWN = 2**62
"""When a Service was made that does not tell: after all others."""


class ServicePort(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One port of a Service, in one address family. All addresses are valid and in canonical text form."""

    name: ServicePortName
    cluster_ip: str
    port: int
    node_port: int = 0
    external_ips: tuple[str, ...] = ()
    load_balancer_vips: tuple[str, ...] = ()
    """Addresses of load balancers that pass packets on unchanged (ipMode VIP)."""
    source_ranges: tuple[str, ...] = ()
    """CIDRs that may use the load balancer's addresses; empty means anyone."""
    internal_local: bool = False
    external_local: bool = False
    affinity_seconds: int = 0
    """How long a client address stays with its endpoint; 0 means no affinity."""
    health_check_node_port: int = 0
    created: int = AGE_UNKNOWN
    """When its Service was made, in Unix time: decides where two Services want the same address."""
    load_balancing: LoadBalancing | None = None
    """None: as the node is configured."""

    @property
    def externally_accessible(self) -> bool:
        """Whether there is any way to it but the ClusterIP."""
        return bool(self.node_port or self.external_ips or self.load_balancer_vips)

    @property
    def uses_cluster_endpoints(self) -> bool:
        """Whether endpoints on other nodes can matter.

        Even where both policies are Local they do for a service open to the outside: pods on this node that use an
        external address are short-cut to all endpoints.
        """
        return not self.internal_local or self.externally_accessible

    @property
    def uses_local_endpoints(self) -> bool:
        """Whether some traffic is confined to endpoints on this node."""
        return self.internal_local or (self.external_local and self.externally_accessible)


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """One place a connection can go: an address and port, and what is known of the pod behind it."""

    ip: str
    port: int
    is_local: bool = False
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zone_hints: tuple[str, ...] = ()
    node_hints: tuple[str, ...] = ()
    is_remote: bool = False
    """Known to be on another node. Hand-written slices often say of no endpoint where it is: then neither this holds
    nor `is_local`."""

    def __str__(self) -> str:
        """``ip:port``, with brackets around an IPv6 address: kube-proxy's spelling, and its sort key."""
        return endpoint_text(self.ip, self.port)


def endpoint_text(ip: str, port: int) -> str:
    """Return address and port as one text, with brackets where they are needed."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
