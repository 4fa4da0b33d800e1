"""The Service that stands in front of each Gateway in a cluster, with the slices that lead to the engine: as data.

A Gateway has addresses of its own, and its Service gives it them: those the Gateway names as external IPs, else what
the cluster assigns to a Service of the type that the administrator chose. The Service is in the Gateway's namespace,
where no selector reaches the engine's pods, so it has none; slices made here list the engine's pods, at the ports that
are this Gateway's alone. Service and slices belong to the Gateway, and are deleted with it (GEP-1762).
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from kproxy.api.decode import convert_object
from kproxy.api.kinds import ObjectKind
from kproxy.api.types import EndpointSlice, ObjectKey
from kproxy.ingress.api.core import BackendService
from kproxy.ingress.api.gateway import Gateway
from kproxy.ingress.api.kinds import IngressKind
from kproxy.ingress.plan.gateway.ports import GATEWAY_LABEL, MANAGED_LABEL, MANAGER, gateway_of
from kproxy.ingress.plan.gateway.verdicts import ACCEPTED, GatewayVerdict
from kproxy.ingress.plan.planner import Planned
from kproxy.ingress.plan.settings import GatewayPort
from kproxy.ingress.plan.world import World

ANNOTATIONS_LABEL = "kproxy.dev/annotations"
"""A digest of the annotations: they themselves are not kept in memory, of all Services there are."""
MOST_NAME = 63
_SUFFIX = "-kproxy"
_FAMILIES = ("IPv4", "IPv6")


class DoorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the administrator says of these Services."""

    service_type: str = "LoadBalancer"
    """ClusterIP, NodePort or LoadBalancer."""
    engine: ObjectKey | None = None
    """The Service whose endpoints are the engine's pods, this one and its like."""
    node_addresses: tuple[str, ...] = ()
    """With type NodePort: where nodes can be reached, which are the Gateways' addresses then."""


class Door(NamedTuple):
    """An object to be there: as it is to be created, and as a merge patch for one that is there."""

    kind: ObjectKind
    key: ObjectKey
    body: Mapping[str, Any]
    gateway: ObjectKey

    @property
    def path(self) -> str:
        """Where the object is, or will be."""
        return f"{self.kind.path_in(self.key.namespace)}/{self.key.name}"


def doors(world: World, planned: Planned, settings: DoorSettings) -> Iterator[Door]:
    """Yield the Services and slices that the Gateways of a plan need, oldest Gateway first."""
    engine = _engine(world, settings)
    for verdict in planned.gateways.gateways:
        gateway = world.gateways.get(verdict.key)
        if gateway is None or not verdict.conditions[ACCEPTED].holds or not verdict.ports:
            continue
        ports = {port: planned.gateways.ports[GatewayPort(*verdict.key, port)] for port in verdict.ports}
        yield _service(gateway, verdict, ports, settings)
        for family in _FAMILIES:
            yield _slice(gateway, family, engine[family], ports)


def pending(world: World, planned: Planned, settings: DoorSettings) -> Iterator[Door]:
    """Yield those of `doors` that are not there, or are not as they should be."""
    for door in doors(world, planned, settings):
        wanted = convert_object(door.kind, door.body).object
        if door.kind is IngressKind.SERVICE:
            present: object = world.services.get(door.key)
        else:
            owner = ObjectKey(door.key.namespace, door.body["metadata"]["labels"]["kubernetes.io/service-name"])
            present = world.slices.get(owner, {}).get(door.key.name)
        if not _serves(present, wanted):
            yield door


def _serves(present: object, wanted: object) -> bool:
    """Tell whether an object says all that it should, whatever a server or somebody else has added."""
    if isinstance(present, BackendService) and isinstance(wanted, BackendService):
        labels, asked = present.metadata.labels or {}, wanted.metadata.labels or {}
        return labels.items() >= asked.items() and _said(present) == _said(wanted)
    if isinstance(present, EndpointSlice) and isinstance(wanted, EndpointSlice):
        return (present.ports, present.endpoints or ()) == (wanted.ports, wanted.endpoints or ())
    return False


def _said(service: BackendService) -> tuple[object, ...]:
    """Return what a Service says, whose it is included: one of a Gateway made anew would be deleted with the old."""
    spec = service.spec
    ports = [(port.name, port.port, port.target_port) for port in spec.ports or ()]
    owners = [owner.uid for owner in service.metadata.owner_references or ()]
    return spec.type, ports, spec.external_ips or (), owners


def denied(doors: Iterable[Door], refusals: Mapping[str, str]) -> dict[ObjectKey, str]:
    """Return which Gateways lack something that may not be written, with the reason; ``refusals`` are by path."""
    return {
        door.gateway: f"{door.kind.value} {door.key} cannot be written: {refusals[door.path]}"
        for door in reversed(list(doors))
        if door.path in refusals
    }


def superfluous(world: World, planned: Planned) -> Iterator[ObjectKey]:
    """Yield the Services made for Gateways that are none of ours any more, but are still there."""
    wanted = {verdict.key for verdict in planned.gateways.gateways if verdict.conditions[ACCEPTED].holds}
    for key, service in world.services.items():
        gateway = gateway_of(service)
        if gateway is not None and gateway in world.gateways and gateway not in wanted:
            yield key


def gateway_addresses(world: World, settings: DoorSettings) -> dict[ObjectKey, tuple[str, ...]]:
    """Return where each Gateway can be reached, as its Service says."""
    found: dict[ObjectKey, tuple[str, ...]] = {}
    for key in sorted(world.services):
        gateway = gateway_of(world.services[key])
        if gateway is not None:
            found[gateway] = addresses_of(world.services[key], settings)
    return found


def service_name(gateway: str) -> str:
    """Return the name of a Gateway's Service: its own with a suffix, shortened where that is too long for a Service."""
    name = f"{gateway.replace('.', '-')}{_SUFFIX}"
    if len(name) <= MOST_NAME and "." not in gateway:
        return name
    digest = _digest(gateway)
    return f"{name[: MOST_NAME - 9 - len(_SUFFIX)].rstrip('-')}-{digest}{_SUFFIX}"


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:8]


def addresses_of(service: BackendService, settings: DoorSettings) -> tuple[str, ...]:
    """Return where a Service can be reached from outside the cluster, as far as its type allows."""
    if service.spec.external_ips:
        return service.spec.external_ips
    match service.spec.type:
        case "LoadBalancer":
            ingress = service.load_balancer.ingress or ()
            return tuple(entry.ip or entry.hostname or "" for entry in ingress if entry.ip or entry.hostname)
        case "NodePort":
            return settings.node_addresses
    cluster_ips = service.spec.cluster_ips or ((service.spec.cluster_ip,) if service.spec.cluster_ip else ())
    return tuple(address for address in cluster_ips if address != "None")


def _service(gateway: Gateway, verdict: GatewayVerdict, ports: Mapping[int, int], settings: DoorSettings) -> Door:
    spec: dict[str, Any] = {
        "type": settings.service_type,
        "ports": [
            {"name": f"p{port}", "port": port, "targetPort": target, "protocol": "TCP"}
            for port, target in sorted(ports.items())
        ],
    }
    if verdict.addresses:
        # These addresses are brought here by whoever asked for them: no load balancer has to.
        spec |= {"type": "ClusterIP", "externalIPs": list(verdict.addresses)}
    else:
        spec["externalIPs"] = None  # in a merge patch: away with those there were
    name = service_name(gateway.metadata.name)
    return _door(IngressKind.SERVICE, "v1", gateway, name, {}, {"spec": spec})


def _slice(gateway: Gateway, family: str, endpoints: Sequence[Mapping[str, Any]], ports: Mapping[int, int]) -> Door:
    service = service_name(gateway.metadata.name)
    content = {
        "addressType": family,
        "ports": [{"name": f"p{port}", "port": target, "protocol": "TCP"} for port, target in sorted(ports.items())],
        "endpoints": list(endpoints),
    }
    labels = {"kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": MANAGER}
    name = f"{service}-{family.lower()}"
    return _door(IngressKind.ENDPOINT_SLICE, "discovery.k8s.io/v1", gateway, name, labels, content)


def _door(
    kind: ObjectKind,
    api_version: str,
    gateway: Gateway,
    name: str,
    labels: Mapping[str, str],
    content: Mapping[str, Any],
) -> Door:
    infrastructure = gateway.spec.infrastructure
    asked = (infrastructure.labels if infrastructure else None) or {}
    annotations = (infrastructure.annotations if infrastructure else None) or {}
    own = {MANAGED_LABEL: MANAGER, ANNOTATIONS_LABEL: _digest(annotations)}
    if len(gateway.metadata.name) <= MOST_NAME:  # no label can be longer
        own[GATEWAY_LABEL] = gateway.metadata.name
    owner = {
        "apiVersion": IngressKind.GATEWAY.api_version,
        "kind": "Gateway",
        "name": gateway.metadata.name,
        "uid": gateway.metadata.uid,
        "controller": True,
    }
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": gateway.metadata.namespace,
        "labels": {**asked, **own, **labels},
        "ownerReferences": [owner],
    }
    if annotations:
        metadata["annotations"] = dict(annotations)
    key = ObjectKey(gateway.metadata.namespace, name)
    body = {"apiVersion": api_version, "kind": kind.value, "metadata": metadata, **content}
    return Door(kind, key, body, gateway.metadata.key)


def _engine(world: World, settings: DoorSettings) -> dict[str, list[dict[str, Any]]]:
    """Return the engine's pods, by family, as endpoints of a slice."""
    found: dict[str, list[dict[str, Any]]] = {family: [] for family in _FAMILIES}
    slices = world.slices.get(settings.engine, {}) if settings.engine is not None else {}
    for name in sorted(slices):
        if slices[name].address_type in found:
            found[slices[name].address_type] += _endpoints(slices[name])
    return found


def _endpoints(endpoint_slice: EndpointSlice) -> Iterator[dict[str, Any]]:
    for endpoint in endpoint_slice.endpoints or ():
        if endpoint.addresses:
            yield {
                "addresses": list(endpoint.addresses[:1]),
                "conditions": msgspec.to_builtins(endpoint.conditions) if endpoint.conditions else {},
            } | ({"nodeName": endpoint.node_name} if endpoint.node_name else {})
