"""What somebody may have meant who asked about an address or a name that no Service has."""

import difflib
import functools
from collections.abc import Callable, Iterable, Iterator

from kproxy.api.types import ObjectKey
from kproxy.explain.question import ToAddress, ToService
from kproxy.explain.view import Met, View
from kproxy.plan.model import FrontendKind
from kproxy.state.model import Protocol, ServicePort, endpoint_text
from kproxy.wording import quote

_MOST = 5
"""How many near misses are worth reading."""
_ALIKE = 0.65
"""How alike names have to be, as `difflib` measures it, for one to be taken for the other."""


def near_address(view: View, to: ToAddress, protocol: Protocol) -> tuple[str, ...]:
    """Return what is near an address and port that no frontend is for."""
    lines = [
        *_same_address(view, to, protocol),
        *_node_ports(view, to, protocol),
        *_endpoints(view, to),
        *_checks(view, to),
    ]
    return tuple(dict.fromkeys(lines))[:_MOST]


def near_name(views: Iterable[View], to: ToService) -> tuple[str, ...]:
    """Return what is near the name of a Service that there is not."""
    key = ObjectKey(to.namespace, to.name)
    names: set[ObjectKey] = set()
    for view in views:
        why = view.tracker.unproxied.get(key)
        if why is not None:
            return (f"{to} is there, but no business of kproxy's: {why}",)
        names |= {name.service for name in view.plan.services} | set(dict(view.tracker.unproxied))
    there = sorted(str(other) for other in names if other.name == to.name) or _alike(key, names)
    return tuple(f"there is {other}" for other in there[:_MOST])


def _alike(key: ObjectKey, names: Iterable[ObjectKey]) -> list[str]:
    """Return the Services with a name that is spelt nearly like it: in its namespace, or in one spelt nearly so."""
    of_namespace, of_name = _likeness(key.namespace), _likeness(key.name)
    likeness = ((of_namespace(other.namespace) * of_name(other.name), str(other)) for other in names)
    found = sorted((-value, name) for value, name in likeness if value)
    return [name for _, name in found[:3]]


def _likeness(name: str) -> Callable[[str], float]:
    """Return what tells how alike others are to a name, 0 to 1; 0 at once for most that are not."""
    matcher = difflib.SequenceMatcher(None, "", name, autojunk=False)

    @functools.cache
    def likeness(other: str) -> float:
        if other == name:
            return 1.0
        matcher.set_seq1(other)
        if matcher.real_quick_ratio() < _ALIKE or matcher.quick_ratio() < _ALIKE:
            return 0.0
        return matcher.ratio()

    return likeness


def near_port(ports: Iterable[ServicePort], to: ToService) -> tuple[str, ...]:
    """Return what ports a Service has that has not the one asked for."""
    lacks = f"{to} has no port {quote(to.port)}; it has" if to.port else f"{to} has"
    return (f"{lacks} {_listed(ports)}",)


def _same_address(view: View, to: ToAddress, protocol: Protocol) -> Iterator[str]:
    at: dict[ObjectKey, list[Met]] = {}
    for met in view.frontends():
        if met.frontend.ip == to.ip:
            at.setdefault(met.service.name.service, []).append(met)
    for service, several in sorted(at.items()):
        kind = several[0].frontend.kind
        what = f"{to.ip} is {service}"
        if kind is not FrontendKind.CLUSTER_IP:
            what += f" ({kind.value})"
        several.sort(key=lambda met: met.service.name)
        has = ", ".join(_port(met.frontend.port, met.service.name.protocol, met.service.name.port) for met in several)
        only_protocol = [met for met in several if met.frontend.port == to.port]
        wanted = f"{to.port}/{protocol.upper()}" if only_protocol else str(to.port)
        remedy = f" (--protocol {only_protocol[0].service.name.protocol})" if only_protocol else ""
        yield f"{what}, which has no port {wanted}; it has {has}{remedy}"


def _node_ports(view: View, to: ToAddress, protocol: Protocol) -> Iterator[str]:
    for met in view.frontends():
        frontend, name = met.frontend, met.service.name
        if frontend.ip is None and frontend.port == to.port:
            remedy = f" (--protocol {name.protocol})" if name.protocol is not protocol else ""
            yield (
                f"{to.port}/{name.protocol.upper()} is the node port of {name}; "
                f"node ports answer at {_node_port_addresses(view)}{remedy}"
            )


def _node_port_addresses(view: View) -> str:
    ips = view.plan.node.node_port_ips
    if ips is None:
        return "all addresses of this node"
    return ", ".join(ips) or "no address of this node (nodePortAddresses)"


def _endpoints(view: View, to: ToAddress) -> Iterator[str]:
    behind = {
        name: [endpoint for endpoint in service.reachable_endpoints if endpoint.ip == to.ip]
        for name, service in view.plan.services.items()
    }
    found = sorted((endpoint.port != to.port, name, endpoint.port) for name, its in behind.items() for endpoint in its)
    for elsewhere, name, port in found:
        if elsewhere:
            yield f"{to.ip} is an endpoint of {name}, at port {port}"
        else:
            at = endpoint_text(to.ip, port)
            yield f"{at} is an endpoint of {name}: who connects to it directly passes no Service"


def _checks(view: View, to: ToAddress) -> Iterator[str]:
    if to.ip in view.addresses:
        for service in view.plan.services.values():
            if service.health_check_node_port == to.port:
                yield f"{to.port} is the health-check node port of {service.name.service}, which kproxy itself answers"


def _listed(ports: Iterable[ServicePort]) -> str:
    return ", ".join(_port(port.port, port.name.protocol, port.name.port) for port in ports)


def _port(number: int, protocol: Protocol, name: str) -> str:
    return f"{number}/{protocol.upper()}" + (f" {name}" if name else "")
