"""Services → ServicePorts of one address family."""

import datetime
from collections.abc import Iterator

import msgspec

from kproxy.api.types import ANNOTATION_LOAD_BALANCING, Problem, Service, ServicePortSpec
from kproxy.state.addresses import parse_cidr, parse_ip, parse_unicast_ip
from kproxy.state.findings import Findings, is_label
from kproxy.state.model import AGE_UNKNOWN, IPFamily, LoadBalancing, Protocol, ServicePort, ServicePortName
from kproxy.wording import quote

DEFAULT_AFFINITY_SECONDS = 10_800
MAX_AFFINITY_SECONDS = 86_400

_POLICIES = ("Cluster", "Local")
_NOBODY = {IPFamily.IPV4: "0.0.0.0/32", IPFamily.IPV6: "::/128"}


def is_proxied(service: Service) -> bool:
    """Tell whether a Service is a proxy's business at all."""
    return why_not_proxied(service) is None


def why_not_proxied(service: Service) -> str | None:
    """Return why a Service is none of a proxy's business; None if it is.

    Headless services have no address to proxy, ExternalName is DNS's business, and a proxy-name label says that another
    proxy takes care (KEP-2447).
    """
    labels = service.metadata.labels
    if labels is not None and labels.proxy_name is not None:
        return "another proxy takes care of it, as its label service.kubernetes.io/service-proxy-name says"
    spec = service.spec
    if spec.type == "ExternalName":
        return "it is of type ExternalName, a name that DNS alone knows"
    if spec.cluster_ip == "None" or "None" in (spec.cluster_ips or ()):
        return "it is headless: DNS gives its pods' own addresses, and no proxy is on the way"
    return None


def service_ports(service: Service, family: IPFamily) -> tuple[tuple[ServicePort, ...], tuple[Problem, ...]]:
    """Return the service ports of a Service in one family, and what was skipped."""
    if not is_proxied(service):
        return (), ()
    key = service.metadata.key
    findings = Findings("Service", key)
    if not (is_label(key.namespace) and is_label(key.name)):
        findings.add("metadata", f"{quote(str(key))} is no valid name; the Service is ignored")
        return (), tuple(findings.problems)
    cluster_ip = _cluster_ip(service, family, findings)
    if cluster_ip is None:
        return (), tuple(findings.problems)
    template = _template(service, family, cluster_ip, findings)
    ports = tuple(
        msgspec.structs.replace(template, name=name, port=port, node_port=node_port)
        for name, port, node_port in _sound_ports(service, findings)
    )
    return ports, tuple(findings.problems)


def _cluster_ip(service: Service, family: IPFamily, findings: Findings) -> str | None:
    spec = service.spec
    texts = spec.cluster_ips or ((spec.cluster_ip,) if spec.cluster_ip else ())
    if not texts:
        findings.add("spec.clusterIP", "missing; only an API server can allocate one, so give an address")
    found = findings.addresses("spec.clusterIPs", texts, parse_ip, family)
    return found[0] if found else None


def _template(service: Service, family: IPFamily, cluster_ip: str, findings: Findings) -> ServicePort:
    """Return what all ports of a Service share; name and numbers are filled in for each."""
    spec = service.spec
    kind = _choice("spec.type", spec.type, ("ClusterIP", "NodePort", "LoadBalancer"), "ClusterIP", findings)
    internal = _choice("spec.internalTrafficPolicy", spec.internal_traffic_policy, _POLICIES, "Cluster", findings)
    external = _choice("spec.externalTrafficPolicy", spec.external_traffic_policy, _POLICIES, "Cluster", findings)
    # As the API server does: the policy means nothing for a Service that nobody outside can reach.
    external_local = external == "Local" and (kind != "ClusterIP" or bool(spec.external_ips))
    key = findings.key
    return ServicePort(
        name=ServicePortName(key.namespace, key.name, "", Protocol.TCP),
        cluster_ip=cluster_ip,
        port=0,
        external_ips=findings.addresses("spec.externalIPs", spec.external_ips, parse_unicast_ip, family),
        load_balancer_vips=_load_balancer_vips(service, family, findings),
        source_ranges=_source_ranges(service, family, findings),
        internal_local=internal == "Local",
        external_local=external_local,
        affinity_seconds=_affinity_seconds(service, findings),
        load_balancing=_load_balancing(service, findings),
        health_check_node_port=_health_check_port(service, findings)
        if external_local and kind == "LoadBalancer"
        else 0,
        created=_created(service, findings),
    )


def _created(service: Service, findings: Findings) -> int:
    text = service.metadata.creation_timestamp
    if not text:
        return AGE_UNKNOWN
    try:
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        return int(moment.timestamp())
    except (ValueError, OverflowError):
        findings.add("metadata.creationTimestamp", f"{quote(text)} is no time such as 2026-01-31T12:00:00Z; left out")
        return AGE_UNKNOWN


def _load_balancer_vips(service: Service, family: IPFamily, findings: Findings) -> tuple[str, ...]:
    """Return the addresses of load balancers that leave the destination as it is.

    One in mode Proxy has put the node's address there, and must see connections to its own address itself (KEP-1860).
    So must one in a mode nobody knows: better a detour than to cut it out of the way.
    """
    balancer = service.status.load_balancer if service.status else None
    if balancer is None or not balancer.ingress:
        return ()
    found: dict[str | None, None] = {}
    for index, entry in enumerate(balancer.ingress):
        field = f"status.loadBalancer.ingress[{index}]"
        if entry.ip_mode not in (None, "", "VIP", "Proxy"):
            findings.add(f"{field}.ipMode", f"{quote(entry.ip_mode)} is not one of VIP, Proxy; taken as Proxy")
        elif entry.ip and entry.ip_mode != "Proxy":
            found[findings.address(f"{field}.ip", entry.ip, parse_ip, family)] = None
    return tuple(address for address in found if address)


def _load_balancing(service: Service, findings: Findings) -> LoadBalancing | None:
    wanted = service.metadata.annotations.load_balancing if service.metadata.annotations else None
    if wanted is None:
        return None
    field = f"metadata.annotations[{ANNOTATION_LOAD_BALANCING}]"
    return LoadBalancing(_choice(field, wanted, tuple(LoadBalancing), LoadBalancing.RANDOM, findings))


def _choice(field: str, value: str | None, allowed: tuple[str, ...], default: str, findings: Findings) -> str:
    if not value:
        return default
    if value not in allowed:
        findings.add(field, f"{quote(value)} is not one of {', '.join(allowed)}; taken as {default}")
        return default
    return value


def _source_ranges(service: Service, family: IPFamily, findings: Findings) -> tuple[str, ...]:
    """Return who may use the load balancer.

    Where all ranges given are unusable in this family, nobody may: an empty result would mean "anyone", and a typing
    error must not open a service to the world. (kube-proxy opens it.)
    """
    texts = service.spec.load_balancer_source_ranges
    if not texts:
        return ()
    found = findings.addresses("spec.loadBalancerSourceRanges", texts, parse_cidr, family)
    bad = any(problem.field.startswith("spec.loadBalancerSourceRanges") for problem in findings.problems)
    if not found and bad:
        return (_NOBODY[family],)
    return found


def _affinity_seconds(service: Service, findings: Findings) -> int:
    spec = service.spec
    if _choice("spec.sessionAffinity", spec.session_affinity, ("None", "ClientIP"), "None", findings) == "None":
        return 0
    config = spec.session_affinity_config.client_ip if spec.session_affinity_config else None
    seconds = config.timeout_seconds if config else None
    if seconds is None:
        return DEFAULT_AFFINITY_SECONDS
    if not 1 <= seconds <= MAX_AFFINITY_SECONDS:
        findings.add(
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            f"{seconds} is not in 1-{MAX_AFFINITY_SECONDS}; taken as {DEFAULT_AFFINITY_SECONDS}",
        )
        return DEFAULT_AFFINITY_SECONDS
    return seconds


def _health_check_port(service: Service, findings: Findings) -> int:
    port = service.spec.health_check_node_port or 0
    return port if port and findings.port("spec.healthCheckNodePort", port) else 0


def _sound_ports(service: Service, findings: Findings) -> Iterator[tuple[ServicePortName, int, int]]:
    """Yield name, port and node port (0 for none) of each entry of ``spec.ports`` that can be used."""
    names: set[tuple[str, Protocol]] = set()
    numbers: set[tuple[int, Protocol]] = set()
    node_ports: set[tuple[int, Protocol]] = set()
    key = findings.key
    for index, spec in enumerate(service.spec.ports or ()):
        field = f"spec.ports[{index}]"
        protocol = _port_protocol(field, spec, findings)
        if protocol is None:
            continue
        name = spec.name or ""
        if (name, protocol) in names or (spec.port, protocol) in numbers:
            findings.add(field, f"port {quote(name)} {spec.port}/{protocol} is there twice; the first one counts")
            continue
        names.add((name, protocol))
        numbers.add((spec.port, protocol))
        node_port = _node_port(field, spec, service.spec.type, findings)
        if node_port and (node_port, protocol) in node_ports:
            findings.add(f"{field}.nodePort", f"{node_port}/{protocol} is there twice; the first one counts")
            node_port = 0
        node_ports.add((node_port, protocol))
        yield ServicePortName(key.namespace, key.name, name, protocol), spec.port, node_port


def _port_protocol(field: str, spec: ServicePortSpec, findings: Findings) -> Protocol | None:
    """Return the protocol of a port, or None where the port can't be used."""
    if spec.name and not is_label(spec.name):
        findings.add(f"{field}.name", f"{quote(spec.name)} is no valid port name; the port is ignored")
        return None
    if not findings.port(f"{field}.port", spec.port):
        return None
    return findings.protocol(field, spec.protocol)


def _node_port(field: str, spec: ServicePortSpec, kind: str | None, findings: Findings) -> int:
    port = spec.node_port or 0
    if not port or not findings.port(f"{field}.nodePort", port):
        return 0
    if kind not in ("NodePort", "LoadBalancer"):
        findings.add(f"{field}.nodePort", "only Services of type NodePort or LoadBalancer have one; it is ignored")
        return 0
    return port
