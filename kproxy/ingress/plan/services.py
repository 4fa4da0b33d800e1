"""From references to Services' ports to backends, and from EndpointSlices to the endpoints behind them.

A request goes to a pod's address, not through the ClusterIP, so any Service with slices will do: headless ones, those
with hand-written slices, and those that another service proxy looks after. An ExternalName Service has nothing but a
name that DNS would have to resolve, to an address that nobody here can vouch for; it is refused.
"""

from collections.abc import Iterable, Iterator, Mapping

from kproxy.api.types import EndpointSlice, ObjectKey, Problem
from kproxy.ingress.api.core import BackendPort, BackendService
from kproxy.ingress.plan.action import BackendKey
from kproxy.ingress.plan.model import Backend, BackendProtocol, Endpoint
from kproxy.state.findings import is_label, is_port
from kproxy.state.model import Endpoint as StateEndpoint
from kproxy.state.model import IPFamily, Protocol
from kproxy.state.slices import slice_endpoints
from kproxy.wording import quote

_PROTOCOLS = {
    None: BackendProtocol.HTTP,
    "": BackendProtocol.HTTP,
    "http": BackendProtocol.HTTP,
    "kubernetes.io/h2c": BackendProtocol.H2C,
    "h2c": BackendProtocol.H2C,
    "grpc": BackendProtocol.H2C,
    "kubernetes.io/ws": BackendProtocol.WEBSOCKET,
    "ws": BackendProtocol.WEBSOCKET,
}
_ENCRYPTED = frozenset({"https", "kubernetes.io/wss", "wss", "tls", "grpcs"})
_FAMILIES = {"IPv4": IPFamily.IPV4, "IPv6": IPFamily.IPV6}


class Unresolved(ValueError):  # noqa: N818 - it reads better where it is raised
    """A reference that leads nowhere; ``reason`` is Gateway API's word for why."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def resolve(
    services: Mapping[ObjectKey, BackendService], key: ObjectKey, *, number: int | None = None, name: str | None = None
) -> BackendKey:
    """Return the backend that a port of a Service is, by number or by name. Raises `Unresolved`."""
    service = services.get(key)
    if service is None:
        raise Unresolved("BackendNotFound", f"there is no Service {quote(str(key))}")
    if not (is_label(key.namespace) and is_label(key.name)):
        raise Unresolved("BackendNotFound", f"{quote(str(key))} is no valid name of a Service")
    if service.spec.type == "ExternalName":
        raise Unresolved(
            "UnsupportedProtocol", f"Service {key} is of type ExternalName; it has no endpoints to send requests to"
        )
    port = _port(service, number, name)
    if port is None:
        wanted = number if name is None else quote(name)
        raise Unresolved("BackendNotFound", f"Service {key} has no TCP port {wanted}; it has {_ports_of(service)}")
    if port.app_protocol is not None and port.app_protocol.lower() in _ENCRYPTED:
        raise Unresolved(
            "UnsupportedProtocol",
            f"port {port.port} of Service {key} has appProtocol {quote(port.app_protocol)};"
            " endpoints are spoken to in clear text",
        )
    return BackendKey(key.namespace, key.name, port.port)


def backend(
    services: Mapping[ObjectKey, BackendService],
    slices: Mapping[ObjectKey, Mapping[str, EndpointSlice]],
    key: BackendKey,
) -> Backend:
    """Return what is behind a port of a Service; without endpoints where `resolve` finds no place for requests."""
    try:
        resolve(services, key.key, number=key.port)
    except Unresolved:
        return Backend(key=key)
    port = _port(services[key.key], key.port, None)
    assert port is not None  # noqa: S101 - resolve has just found it
    protocol = _PROTOCOLS.get(port.app_protocol.lower() if port.app_protocol else None, BackendProtocol.HTTP)
    return Backend(key=key, protocol=protocol, endpoints=_endpoints(slices.get(key.key, {}), port.name or ""))


def slice_problems(endpoint_slice: EndpointSlice) -> tuple[Problem, ...]:
    """Return what is wrong with a slice."""
    family = _FAMILIES.get(endpoint_slice.address_type)
    return slice_endpoints(endpoint_slice, family, "")[1] if family else ()


def _ports(service: BackendService) -> Iterator[BackendPort]:
    for port in service.spec.ports or ():
        if port.protocol in (None, "", "TCP") and is_port(port.port):
            yield port


def _port(service: BackendService, number: int | None, name: str | None) -> BackendPort | None:
    if name is not None:
        return next((port for port in _ports(service) if port.name == name), None)
    return next((port for port in _ports(service) if port.port == number), None)


def _ports_of(service: BackendService) -> str:
    ports = [f"{port.port} ({quote(port.name)})" if port.name else str(port.port) for port in _ports(service)]
    return ", ".join(ports) or "none"


def _endpoints(slices: Mapping[str, EndpointSlice], port: str) -> tuple[Endpoint, ...]:
    """Return the endpoints of a named port: ready ones for requests, terminating ones that still serve to drain.

    Where nothing is ready, those that terminate but still serve take requests, as kube-proxy has it (KEP-1669). An
    address that two slices speak of, while it moves from one to the other, is taken by the better word.
    """
    found: dict[tuple[str, int], StateEndpoint] = {}
    for name in sorted(slices):
        for endpoint in _slice_port(slices[name], port):
            place = (endpoint.ip, endpoint.port)
            if place not in found or _rank(endpoint) > _rank(found[place]):
                found[place] = endpoint
    any_ready = any(endpoint.ready for endpoint in found.values())
    return tuple(
        Endpoint(ip, number, draining=any_ready and not endpoint.ready)
        for (ip, number), endpoint in sorted(found.items())
        if endpoint.ready or (endpoint.serving and endpoint.terminating)
    )


def _slice_port(endpoint_slice: EndpointSlice, port: str) -> Iterable[StateEndpoint]:
    family = _FAMILIES.get(endpoint_slice.address_type)
    if family is None:
        return ()
    return slice_endpoints(endpoint_slice, family, "")[0].get((port, Protocol.TCP), ())


def _rank(endpoint: StateEndpoint) -> tuple[bool, bool]:
    return endpoint.ready, endpoint.serving
