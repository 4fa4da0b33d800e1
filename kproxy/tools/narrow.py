"""Picks the objects that one question is about, so that a large cluster need not be planned to explain one Service."""

from collections.abc import Iterator, Set

from kproxy.api.kinds import Kind
from kproxy.api.types import ApiObject, EndpointSlice, ObjectKey, Service
from kproxy.explain.question import Destination, ToAddress, ToNodePort, ToService
from kproxy.state.slices import owner_name
from kproxy.tools.objects import Objects


def narrowed(objects: Objects, destination: Destination) -> Objects:
    """Return the Services that a destination may mean, with those that want the same addresses, and their slices."""
    services = objects.get(Kind.SERVICE, {})
    kept = {key: obj for key, obj in services.items() if isinstance(obj, Service) and _is_meant(key, obj, destination)}
    addresses = {address for service in kept.values() for address in _addresses(service)}
    kept |= {key: obj for key, obj in services.items() if isinstance(obj, Service) and addresses & set(_addresses(obj))}
    slices = {key: obj for key, obj in objects.get(Kind.ENDPOINT_SLICE, {}).items() if _owner(key, obj) in kept}
    return {**objects, Kind.SERVICE: kept, Kind.ENDPOINT_SLICE: slices}


def _is_meant(key: ObjectKey, service: Service, destination: Destination) -> bool:
    match destination:
        case ToService(namespace, name):
            return key == ObjectKey(namespace, name)
        case ToAddress(ip, port):
            return ip in _addresses(service) or port in _node_ports(service)
        case ToNodePort(port):
            return port in _node_ports(service)


def _addresses(service: Service) -> Iterator[str]:
    spec = service.spec
    yield from spec.cluster_ips or ((spec.cluster_ip,) if spec.cluster_ip else ())
    yield from spec.external_ips or ()
    balancer = service.status.load_balancer if service.status else None
    yield from (entry.ip for entry in (balancer.ingress or ()) if entry.ip) if balancer else ()


def _node_ports(service: Service) -> Set[int]:
    return {port.node_port for port in service.spec.ports or () if port.node_port}


def _owner(key: ObjectKey, obj: ApiObject) -> ObjectKey | None:
    name = owner_name(obj) if isinstance(obj, EndpointSlice) else None
    return ObjectKey(key.namespace, name) if name else None
