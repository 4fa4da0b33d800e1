"""EndpointSlices → Endpoints of one address family."""

from collections.abc import Mapping
from typing import TypeAlias

from kproxy.api.types import LABEL_SERVICE_NAME, EndpointPort, EndpointSlice, Problem, SliceEndpoint
from kproxy.state.addresses import NotAnAddress, parse_unicast_ip
from kproxy.state.findings import Findings
from kproxy.state.model import Endpoint, IPFamily, Protocol
from kproxy.wording import quote

SlicePorts: TypeAlias = Mapping[tuple[str, Protocol], tuple[Endpoint, ...]]
"""What one slice contributes: its endpoints by name and protocol of the port."""

_ADDRESS_TYPES = {"IPv4": IPFamily.IPV4, "IPv6": IPFamily.IPV6}


def slice_family(endpoint_slice: EndpointSlice) -> IPFamily | None:
    """Return the family of a slice's addresses; None for those a proxy leaves alone: FQDN, or a headless Service's."""
    labels = endpoint_slice.metadata.labels
    if labels is not None and labels.headless is not None:
        return None
    return _ADDRESS_TYPES.get(endpoint_slice.address_type)


def owner_name(endpoint_slice: EndpointSlice) -> str | None:
    """Return the name of the Service whose endpoints these are; the slice's own name says nothing of it."""
    labels = endpoint_slice.metadata.labels
    return labels.service_name or None if labels is not None else None


def why_ignored(endpoint_slice: EndpointSlice) -> tuple[Problem, ...]:
    """Return what is wrong with a slice that no family can use; nothing if it is as it should be."""
    if slice_family(endpoint_slice) and owner_name(endpoint_slice):
        return ()
    findings = Findings("EndpointSlice", endpoint_slice.metadata.key)
    kind = endpoint_slice.address_type
    if kind not in _ADDRESS_TYPES and kind != "FQDN":
        findings.add("addressType", f"{quote(kind)} is not one of IPv4, IPv6, FQDN; the slice is ignored")
    elif slice_family(endpoint_slice) and owner_name(endpoint_slice) is None:
        field = f'metadata.labels["{LABEL_SERVICE_NAME}"]'
        findings.add(field, "missing; it names the Service, and without it the slice is ignored")
    return tuple(findings.problems)


def slice_endpoints(
    endpoint_slice: EndpointSlice, family: IPFamily, node_name: str
) -> tuple[SlicePorts, tuple[Problem, ...]]:
    """Return a slice's endpoints by port, and what was skipped. ``node_name`` decides which of them are local."""
    findings = Findings("EndpointSlice", endpoint_slice.metadata.key)
    places = _sound_places(endpoint_slice, family, findings)
    ports: dict[tuple[str, Protocol], tuple[Endpoint, ...]] = {}
    for index, port in enumerate(endpoint_slice.ports or ()):
        key = _slice_port(f"ports[{index}]", port, findings)
        if key is None or port.port is None:
            continue
        if key in ports:
            findings.add(f"ports[{index}]", f"{quote(key[0])}/{key[1]} is there twice; the first one counts")
            continue
        ports[key] = tuple([_endpoint(ip, port.port, place, node_name) for ip, place in places])
    return ports, tuple(findings.problems)


def _sound_places(
    endpoint_slice: EndpointSlice, family: IPFamily, findings: Findings
) -> list[tuple[str, SliceEndpoint]]:
    """Return the endpoints that can be used, each with its address."""
    found: list[tuple[str, SliceEndpoint]] = []
    for index, place in enumerate(endpoint_slice.endpoints or ()):
        if not place.addresses:
            findings.add(f"endpoints[{index}].addresses", "empty; the endpoint is ignored")
            continue
        text = place.addresses[0]
        try:
            its_family, ip = parse_unicast_ip(text)
        except NotAnAddress as error:
            findings.add(f"endpoints[{index}].addresses[0]", f"{quote(text)}: {error}; the endpoint is ignored")
            continue
        if its_family is family:
            found.append((ip, place))
        else:
            reason = f"{ip} in a slice of type {endpoint_slice.address_type}; it is ignored"
            findings.add(f"endpoints[{index}].addresses[0]", reason)
    return found


def _slice_port(field: str, port: EndpointPort, findings: Findings) -> tuple[str, Protocol] | None:
    """Return name and protocol, or None where the port is unusable. A port without number means "all": not proxied."""
    if port.port is None:
        return None
    protocol = findings.protocol(field, port.protocol) if findings.port(f"{field}.port", port.port) else None
    return (port.name or "", protocol) if protocol else None


def _endpoint(ip: str, port: int, place: SliceEndpoint, node_name: str) -> Endpoint:
    its_node, conditions, hints = place.node_name, place.conditions, place.hints
    is_local = its_node == node_name
    return Endpoint(
        ip,
        port,
        is_local=bool(its_node) and is_local,
        ready=conditions is None or conditions.ready is not False,
        serving=conditions is None or conditions.serving is not False,
        terminating=conditions is not None and conditions.terminating is True,
        zone_hints=tuple(zone.name for zone in (hints.for_zones or ())) if hints else (),
        node_hints=tuple(node.name for node in (hints.for_nodes or ())) if hints else (),
        is_remote=bool(its_node) and not is_local,
    )
