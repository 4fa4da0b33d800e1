"""The Kubernetes objects kproxy looks at, cut down to the fields it uses.

A cluster's Services and EndpointSlices are the bulk of what kproxy holds in memory, so these structs are what msgspec
decodes *into*: a field that is not declared here is skipped while parsing and never becomes a Python object. That goes
for managedFields and for labels and annotations too: only the few keys that mean something to a proxy are declared.

Everything is frozen. Defaults are the ones the API server itself would fill in, so that a hand-written manifest means
the same as the stored object. Source: k8s.io/api core/v1 and discovery/v1.
"""

from typing import NamedTuple

import msgspec

from kproxy.wording import printable

LABEL_PROXY_NAME = "service.kubernetes.io/service-proxy-name"
LABEL_HEADLESS = "service.kubernetes.io/headless"
LABEL_SERVICE_NAME = "kubernetes.io/service-name"
LABEL_ZONE = "topology.kubernetes.io/zone"
LABEL_HOSTNAME = "kubernetes.io/hostname"
ANNOTATION_TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
ANNOTATION_LOAD_BALANCING = "kproxy.dev/load-balancing"


class ObjectKey(NamedTuple):
    """Names one object among all those of its kind. ``namespace`` is empty for a Node."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class ApiStruct(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """Base of all API structs: camelCase on the wire, no reference cycles (hence ``gc=False``)."""


class Labels(ApiStruct, frozen=True, gc=False):
    """The labels that steer a service proxy; all others are dropped while decoding."""

    proxy_name: str | None = msgspec.field(default=None, name=LABEL_PROXY_NAME)
    headless: str | None = msgspec.field(default=None, name=LABEL_HEADLESS)
    service_name: str | None = msgspec.field(default=None, name=LABEL_SERVICE_NAME)
    zone: str | None = msgspec.field(default=None, name=LABEL_ZONE)
    hostname: str | None = msgspec.field(default=None, name=LABEL_HOSTNAME)


class Annotations(ApiStruct, frozen=True, gc=False):
    """The annotations used; all others are dropped while decoding."""

    trigger_time: str | None = msgspec.field(default=None, name=ANNOTATION_TRIGGER_TIME)
    """Of a slice: when the change that led to it happened (RFC 3339)."""
    load_balancing: str | None = msgspec.field(default=None, name=ANNOTATION_LOAD_BALANCING)
    """Of a Service: how connections are spread, in place of the configuration's ``loadBalancing``."""


class Meta(ApiStruct, frozen=True, gc=False):
    """What is used of every object's metadata."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    """RFC 3339; the API server's, so nobody can claim to be older than he is."""
    deletion_timestamp: str | None = None

    @property
    def key(self) -> ObjectKey:
        """Name and namespace as one hashable value."""
        return ObjectKey(self.namespace, self.name)


class ObjectMeta(Meta, frozen=True, gc=False):
    """What is used of the metadata of a service proxy's objects."""

    labels: Labels | None = None
    annotations: Annotations | None = None


class ApiObject(ApiStruct, frozen=True, gc=False):
    """Any of the objects that are listed and watched."""

    metadata: Meta = Meta()


class ServicePortSpec(ApiStruct, frozen=True, gc=False):
    """One entry of ``spec.ports``. The target port is not here: endpoint slices carry it resolved."""

    port: int
    name: str | None = None
    protocol: str | None = None
    node_port: int | None = None


class ClientIPConfig(ApiStruct, frozen=True, gc=False):
    """How long, in seconds, a client stays with its endpoint."""

    timeout_seconds: int | None = None


class SessionAffinityConfig(ApiStruct, frozen=True, gc=False):
    """``spec.sessionAffinityConfig``."""

    client_ip: ClientIPConfig | None = msgspec.field(default=None, name="clientIP")


class ServiceSpec(ApiStruct, frozen=True, gc=False):
    """``spec`` of a Service."""

    type: str | None = None
    cluster_ip: str | None = msgspec.field(default=None, name="clusterIP")
    cluster_ips: tuple[str, ...] | None = msgspec.field(default=None, name="clusterIPs")
    ports: tuple[ServicePortSpec, ...] | None = None
    external_ips: tuple[str, ...] | None = msgspec.field(default=None, name="externalIPs")
    load_balancer_source_ranges: tuple[str, ...] | None = None
    internal_traffic_policy: str | None = None
    external_traffic_policy: str | None = None
    health_check_node_port: int | None = None
    session_affinity: str | None = None
    session_affinity_config: SessionAffinityConfig | None = None


class LoadBalancerIngress(ApiStruct, frozen=True, gc=False):
    """One address a cloud's load balancer answers at. ``ip_mode`` is VIP or Proxy (KEP-1860)."""

    ip: str | None = None
    ip_mode: str | None = None


class LoadBalancerStatus(ApiStruct, frozen=True, gc=False):
    """``status.loadBalancer``."""

    ingress: tuple[LoadBalancerIngress, ...] | None = None


class ServiceStatus(ApiStruct, frozen=True, gc=False):
    """``status`` of a Service."""

    load_balancer: LoadBalancerStatus | None = None


class Service(ApiObject, frozen=True, gc=False):
    """core/v1 Service."""

    metadata: ObjectMeta = ObjectMeta()
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus | None = None


class EndpointConditions(ApiStruct, frozen=True, gc=False):
    """Absent conditions have meanings of their own: ready and serving count as true, terminating as false."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Named(ApiStruct, frozen=True, gc=False):
    """A reference by name, as used in hints."""

    name: str = ""


class EndpointHints(ApiStruct, frozen=True, gc=False):
    """Where the control plane wants this endpoint to be used (KEP-2433, KEP-3015)."""

    for_zones: tuple[Named, ...] | None = None
    for_nodes: tuple[Named, ...] | None = None


class SliceEndpoint(ApiStruct, frozen=True, gc=False):
    """One entry of a slice's ``endpoints``. Only the first address counts (discovery/v1 says so since 1.32)."""

    addresses: tuple[str, ...] | None = None
    conditions: EndpointConditions | None = None
    node_name: str | None = None
    hints: EndpointHints | None = None


class EndpointPort(ApiStruct, frozen=True, gc=False):
    """One entry of a slice's ``ports``."""

    name: str | None = None
    protocol: str | None = None
    port: int | None = None


class EndpointSlice(ApiObject, frozen=True, gc=False):
    """discovery.k8s.io/v1 EndpointSlice."""

    metadata: ObjectMeta = ObjectMeta()
    address_type: str = ""
    endpoints: tuple[SliceEndpoint, ...] | None = None
    ports: tuple[EndpointPort, ...] | None = None


class Taint(ApiStruct, frozen=True, gc=False):
    """Only the key is of interest: the cluster autoscaler's mark on a node it will delete."""

    key: str = ""


class NodeSpec(ApiStruct, frozen=True, gc=False):
    """``spec`` of a Node."""

    pod_cidr: str | None = msgspec.field(default=None, name="podCIDR")
    pod_cidrs: tuple[str, ...] | None = msgspec.field(default=None, name="podCIDRs")
    taints: tuple[Taint, ...] | None = None


class NodeAddress(ApiStruct, frozen=True, gc=False):
    """One of the addresses the node reports of itself."""

    type: str = ""
    address: str = ""


class NodeStatus(ApiStruct, frozen=True, gc=False):
    """``status`` of a Node."""

    addresses: tuple[NodeAddress, ...] | None = None


class Node(ApiObject, frozen=True, gc=False):
    """core/v1 Node."""

    metadata: ObjectMeta = ObjectMeta()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus | None = None


class ServiceCIDRSpec(ApiStruct, frozen=True, gc=False):
    """``spec`` of a ServiceCIDR."""

    cidrs: tuple[str, ...] | None = None


class ServiceCIDR(ApiObject, frozen=True, gc=False):
    """networking.k8s.io/v1 ServiceCIDR: a range that ClusterIPs are taken from."""

    metadata: ObjectMeta = ObjectMeta()
    spec: ServiceCIDRSpec = ServiceCIDRSpec()


class Problem(NamedTuple):
    """Something wrong with one object, said in one line: the part named was skipped, everything else is in force.

    ``field`` is a JSON path into the object (``spec.ports[1].nodePort``); ``reason`` says what is wrong and what would
    be right. Values quoted in it are shortened and have control characters escaped: they may come from anybody.
    """

    kind: str
    key: ObjectKey
    field: str
    reason: str

    def __str__(self) -> str:
        """Say it all on one line, whatever the object calls itself."""
        return printable(f"{self.kind} {self.key}: {self.field}: {self.reason}", limit=1000)
