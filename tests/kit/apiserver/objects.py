"""API objects as plain dicts, for tests, the lab and the benchmarks.

The defaults are what the API server itself would have filled in, so that an object made here looks like a stored one.
Whatever is not covered by an argument goes in through ``spec=…`` or by changing the dict afterwards.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from tests.kit.apiserver.kinds import Json

LABEL_SERVICE_NAME = "kubernetes.io/service-name"


def service_port(
    port: int,
    *,
    name: str | None = None,
    protocol: str = "TCP",
    target_port: int | str | None = None,
    node_port: int | None = None,
) -> Json:
    """One entry of a Service's ``spec.ports``; the target port defaults to the port."""
    result: Json = {} if name is None else {"name": name}
    result |= {"protocol": protocol, "port": port, "targetPort": port if target_port is None else target_port}
    if node_port is not None:
        result["nodePort"] = node_port
    return result


def make_service(
    name: str,
    namespace: str = "default",
    *,
    cluster_ip: str | Sequence[str] = "10.96.0.10",
    ports: Iterable[int | Json] = (80,),
    type: str = "ClusterIP",  # noqa: A002 - the field's own name
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    spec: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
) -> Json:
    """A Service. ``cluster_ip`` may be two addresses (dual stack) or "None" (headless); ``spec`` overrides fields."""
    addresses = [cluster_ip] if isinstance(cluster_ip, str) else list(cluster_ip)
    families = [f"IPv{ip_address(address).version}" for address in addresses if address not in ("", "None")]
    whole: Json = {
        "ports": [service_port(port) if isinstance(port, int) else dict(port) for port in ports],
        "clusterIP": addresses[0],
        "clusterIPs": addresses,
        "type": type,
        "sessionAffinity": "None",
        "ipFamilies": families or ["IPv4"],
        "ipFamilyPolicy": "RequireDualStack" if len(addresses) > 1 else "SingleStack",
        "internalTrafficPolicy": "Cluster",
    }
    if type in ("NodePort", "LoadBalancer"):
        whole["externalTrafficPolicy"] = "Cluster"
    return {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": _metadata(name, namespace, labels, annotations),
        "spec": whole | dict(spec or {}),
        "status": dict(status or {"loadBalancer": {}}),
    }


def endpoint(
    address: str,
    *,
    ready: bool | None = True,
    serving: bool | None = True,
    terminating: bool | None = False,
    node: str | None = None,
    zone: str | None = None,
    hint_zones: Sequence[str] = (),
    hint_nodes: Sequence[str] = (),
) -> Json:
    """One entry of a slice's ``endpoints``; a condition given as None is left out."""
    conditions = {"ready": ready, "serving": serving, "terminating": terminating}
    result: Json = {
        "addresses": [address],
        "conditions": {key: value for key, value in conditions.items() if value is not None},
    }
    if node is not None:
        result["nodeName"] = node
    if zone is not None:
        result["zone"] = zone
    hints = {"forZones": [{"name": zone} for zone in hint_zones], "forNodes": [{"name": node} for node in hint_nodes]}
    if any(hints.values()):
        result["hints"] = {key: value for key, value in hints.items() if value}
    return result


def slice_port(port: int | None, *, name: str = "", protocol: str = "TCP") -> Json:
    """One entry of a slice's ``ports``."""
    result: Json = {"name": name, "protocol": protocol}
    return result if port is None else result | {"port": port}


def make_slice(
    service: str,
    namespace: str = "default",
    *,
    endpoints: Iterable[str | Json] = (),
    ports: Iterable[int | Json] = (80,),
    name: str | None = None,
    address_type: str | None = None,
    node: str | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Json:
    """An EndpointSlice of ``service``. Endpoints are addresses (then on ``node``) or made by `endpoint`.

    The slice's name defaults to the service's plus "-1", the address type to that of the first endpoint.
    """
    entries = [endpoint(one, node=node) if isinstance(one, str) else dict(one) for one in endpoints]
    if address_type is None:
        address_type = f"IPv{ip_address(entries[0]['addresses'][0]).version}" if entries else "IPv4"
    return {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": _metadata(
            name or f"{service}-1", namespace, {LABEL_SERVICE_NAME: service, **(labels or {})}, annotations
        ),
        "addressType": address_type,
        "endpoints": entries,
        "ports": [slice_port(port) if isinstance(port, int) else dict(port) for port in ports],
    }


def make_node(
    name: str,
    *,
    addresses: Iterable[str] = (),
    pod_cidrs: Sequence[str] = (),
    zone: str | None = None,
    labels: Mapping[str, str] | None = None,
    taints: Sequence[Json] = (),
) -> Json:
    """A Node with its internal addresses, pod ranges and zone."""
    all_labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    if zone is not None:
        all_labels["topology.kubernetes.io/zone"] = zone
    spec: Json = {}
    if pod_cidrs:
        spec |= {"podCIDR": pod_cidrs[0], "podCIDRs": list(pod_cidrs)}
    if taints:
        spec["taints"] = list(taints)
    reported = [{"type": "InternalIP", "address": address} for address in addresses]
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": _metadata(name, None, all_labels | dict(labels or {}), None),
        "spec": spec,
        "status": {"addresses": [*reported, {"type": "Hostname", "address": name}]},
    }


def make_service_cidr(name: str, *cidrs: str) -> Json:
    """A ServiceCIDR: ranges that ClusterIPs are taken from."""
    return {
        "kind": "ServiceCIDR",
        "apiVersion": "networking.k8s.io/v1",
        "metadata": _metadata(name, None, None, None),
        "spec": {"cidrs": list(cidrs)},
        "status": {},
    }


def make_cluster(
    services: int,
    endpoints_each: int,
    *,
    namespace: str = "bench",
    first_service_ip: str = "10.96.0.1",
    first_endpoint_ip: str = "10.128.0.1",
    nodes: int = 100,
) -> Iterator[Json]:
    """Each of ``services`` Services with its slice of ``endpoints_each`` endpoints, all addresses distinct.

    Names are svc-00000, svc-00001, …; endpoints are spread over nodes node-0 … and listen on 8080.
    """
    service_ip, endpoint_ip = int(ip_address(first_service_ip)), int(ip_address(first_endpoint_ip))
    for number in range(services):
        name = f"svc-{number:05}"
        yield make_service(
            name,
            namespace,
            cluster_ip=str(ip_address(service_ip + number)),
            ports=[service_port(80, name="http", target_port=8080)],
        )
        first = number * endpoints_each
        yield make_slice(
            name,
            namespace,
            endpoints=[
                endpoint(str(ip_address(endpoint_ip + index)), node=f"node-{index % nodes}")
                for index in range(first, first + endpoints_each)
            ],
            ports=[slice_port(8080, name="http")],
        )


def _metadata(
    name: str, namespace: str | None, labels: Mapping[str, str] | None, annotations: Mapping[str, str] | None
) -> Json:
    metadata: Json = {"name": name}
    if namespace is not None:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = dict(labels)
    if annotations:
        metadata["annotations"] = dict(annotations)
    return metadata
