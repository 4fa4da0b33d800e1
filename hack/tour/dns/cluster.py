"""Which records a cluster's objects have: Kubernetes DNS-Based Service Discovery, version 1.1.0, section by section.

Source: docs/specification.md of kubernetes/dns. What it leaves open is as with CoreDNS: an endpoint without a hostname
is called by its address (10-244-0-11), and the weights of a name's SRV records add up to 100.
"""

import ipaddress
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import dns.exception
import dns.name
import dns.rdatatype
import dns.reversename
from dns.name import Name
from dns.rdatatype import AAAA, CNAME, NS, PTR, SOA, SRV, TXT, A, RdataType

from hack.tour.dns.objects import LABEL_SERVICE_NAME, Endpoint, EndpointSlice, Objects, Service
from hack.tour.dns.zone import NOTHING_OF_ITS_OWN, TTL, Node, Record, Zone, record

SCHEMA_VERSION = "1.1.0"
ALL_WEIGHT = 100  # of the SRV records of one name, together
DEFAULT_ZONE = "cluster.local"
DNS_SERVICE = ("kube-system", "kube-dns")
PARTS_OF_A_POD = 2  # its address and its namespace


class ClusterZone(Zone):
    """A cluster's zone. Names of pods are made as they are asked for: there is one for each address there may be."""

    def __init__(self, domain: Name, objects: Objects) -> None:
        self._pods = dns.name.from_text("pod", domain)
        super().__init__(domain, (*_own(domain), *_all(domain, objects)))

    def node(self, name: Name) -> Node | None:
        """See `Zone.node`. 2.6: ``<a>-<b>-<c>-<d>.<ns>.pod.<zone>`` is the address a.b.c.d, whatever there is."""
        if not name.is_subdomain(self._pods):
            return super().node(name)
        labels = name.relativize(self._pods).labels
        if len(labels) < PARTS_OF_A_POD:
            return NOTHING_OF_ITS_OWN
        address = _dashed(labels[0].decode(errors="replace")) if len(labels) == PARTS_OF_A_POD else None
        return None if address is None else {_kind(address): (record(name, _kind(address), address).data,)}


class Served(NamedTuple):
    """A ready endpoint of a headless Service: its address, its own name, and the ports of its slice."""

    address: str
    name: Name
    ports: tuple[tuple[str, str, int], ...]  # name, protocol, number


def _own(domain: Name) -> Iterator[Record]:
    """2.2, and what every zone has: who is in charge, who serves it, and which version of the schema it follows."""
    server = dns.name.from_text("ns.dns", domain)
    yield record(domain, SOA, f"{server} {dns.name.from_text('hostmaster', domain)} 1 7200 1800 86400 {TTL}")
    yield record(domain, NS, str(server))
    yield record(dns.name.from_text("dns-version", domain), TXT, f'"{SCHEMA_VERSION}"')


def _all(domain: Name, objects: Objects) -> Iterator[Record]:
    slices: defaultdict[tuple[str, str], list[EndpointSlice]] = defaultdict(list)
    for one in objects.slices:
        slices[one.metadata.namespace, (one.metadata.labels or {}).get(LABEL_SERVICE_NAME, "")].append(one)
    for service in objects.services:
        meta = service.metadata
        try:
            yield from [*_of_service(domain, service, slices[meta.namespace, meta.name])]
        except (dns.exception.DNSException, ValueError, UnicodeError) as error:
            _complain(f"Service {meta.namespace}/{meta.name}: {error}; it has no name")


def _of_service(domain: Name, service: Service, slices: Iterable[EndpointSlice]) -> Iterator[Record]:
    meta = service.metadata
    name = _below(dns.name.from_text("svc", domain), meta.namespace, meta.name)
    if service.spec.type == "ExternalName":
        yield from _external_name(name, service)
    elif service.is_headless:
        yield from _headless(name, service, slices)
    else:
        yield from _with_cluster_ip(name, service)
        if (meta.namespace, meta.name) == DNS_SERVICE:
            server = dns.name.from_text("ns.dns", domain)
            yield from (record(server, _kind(address), address) for address in service.addresses)


def _with_cluster_ip(name: Name, service: Service) -> Iterator[Record]:
    """2.3: an address for each family, an SRV record for each named port, and the way back from the address."""
    for address in service.addresses:
        yield record(name, _kind(address), address)  # 2.3.1
        yield record(dns.reversename.from_address(address), PTR, str(name))  # 2.3.3
    if service.addresses:
        for port in service.spec.ports or ():
            if port.name and port.port:  # 2.3.2
                at = _service_port(name, port.name, port.protocol)
                yield record(at, SRV, f"0 {ALL_WEIGHT} {port.port} {name}")


def _headless(name: Name, service: Service, slices: Iterable[EndpointSlice]) -> Iterator[Record]:
    """2.4: the same for each ready endpoint, under the Service's name and under its own."""
    endpoints = list(_ready(name, service, slices))
    targets: defaultdict[Name, set[Name]] = defaultdict(set)  # an endpoint of both families is one
    for endpoint in endpoints:
        for port, protocol, _number in endpoint.ports:
            targets[_service_port(name, port, protocol)].add(endpoint.name)
    for endpoint in endpoints:
        kind = _kind(endpoint.address)
        yield record(name, kind, endpoint.address)  # 2.4.1
        yield record(endpoint.name, kind, endpoint.address)
        yield record(dns.reversename.from_address(endpoint.address), PTR, str(endpoint.name))  # 2.4.3
        for port, protocol, number in endpoint.ports:  # 2.4.2
            at = _service_port(name, port, protocol)
            weight = max(ALL_WEIGHT // len(targets[at]), 1)
            yield record(at, SRV, f"0 {weight} {number} {endpoint.name}")


def _ready(name: Name, service: Service, slices: Iterable[EndpointSlice]) -> Iterator[Served]:
    """2.1: ready is what says so, and all endpoints of a Service that publishes those that are not ready."""
    for one in slices:
        if one.address_type == "FQDN":
            continue
        named = (port for port in one.ports or () if port.name)
        ports = tuple((port.name or "", port.protocol or "TCP", port.port) for port in named if port.port)
        for endpoint in one.endpoints or ():
            if endpoint.conditions.ready is False and not service.publishes_not_ready:
                continue
            for address in endpoint.addresses:
                try:
                    _kind(address)
                    yield Served(address, _below(name, _hostname(endpoint, address)), ports)
                except (dns.exception.DNSException, ValueError) as error:
                    _complain(f"EndpointSlice {one.metadata.namespace}/{one.metadata.name}: {error}; left out")


def _hostname(endpoint: Endpoint, address: str) -> str:
    """2.1: the endpoint's own, or one that is made from its address."""
    return endpoint.hostname or address.replace(".", "-").replace(":", "-")


def _external_name(name: Name, service: Service) -> Iterator[Record]:
    """2.5: another name."""
    if service.spec.external_name:
        yield record(name, CNAME, str(dns.name.from_text(service.spec.external_name)))


def _service_port(name: Name, port: str, protocol: str | None) -> Name:
    return _below(name, f"_{(protocol or 'TCP').lower()}", f"_{port.lower()}")


def _below(name: Name, *labels: str) -> Name:
    """Names below names: each label is one label, whatever dots it has in it."""
    for label in labels:
        name = Name((label.encode("ascii"), *name.labels))
    return name


def _kind(address: str) -> RdataType:
    return A if isinstance(ipaddress.ip_address(address), ipaddress.IPv4Address) else AAAA


def _complain(text: str) -> None:
    print(f"dns: {text}", file=sys.stderr, flush=True)


def _dashed(label: str) -> str | None:
    """The address that a pod's name spells, if it does."""
    for text in (label.replace("-", "."), label.replace("-", ":")):
        try:
            return str(ipaddress.ip_address(text))
        except ValueError:
            continue
    return None
