"""What the API server fills into a Service that somebody creates: types, policies, addresses and node ports.

Only for objects that come over HTTP (kubectl, the kubernetes package); what a test puts into the store directly is
kept as it is, odd or not. Source: k8s.io/kubernetes' defaults for core/v1 and its allocators' observable behaviour.
"""

from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from itertools import count

from tests.kit.apiserver.kinds import Json

RANGES = {"IPv4": "10.96.0.0/16", "IPv6": "fd00:10:96::/112"}
_FIRST_NODE_PORT = 30_000
_ALLOCATED_KEPT_ON_UPDATE = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort")


def default_service(service: Json, old: Json | None, others: Iterable[Json]) -> Json:
    """Return the service with all defaults; ``old`` is its state so far, ``others`` are all services there are."""
    spec = dict(service.get("spec") or {})
    if spec.get("type") == "ExternalName":
        return service
    if old is not None:
        spec = {name: old["spec"][name] for name in _ALLOCATED_KEPT_ON_UPDATE if name in old["spec"]} | spec
    taken = [dict(other.get("spec") or {}) for other in others]
    spec["ports"] = [_default_port(port) for port in spec.get("ports") or []]
    spec.setdefault("type", "ClusterIP")
    _give_addresses(spec, {address for other in taken for address in other.get("clusterIPs") or []})
    spec.setdefault("sessionAffinity", "None")
    if spec["sessionAffinity"] == "ClientIP":
        spec.setdefault("sessionAffinityConfig", {"clientIP": {"timeoutSeconds": 10_800}})
    spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] != "ClusterIP":
        _give_node_ports(spec, old, {port.get("nodePort") for other in taken for port in other.get("ports") or []})
    return {**service, "spec": spec, "status": service.get("status") or {"loadBalancer": {}}}


def _default_port(port: Json) -> Json:
    result = {"protocol": "TCP", **port}
    return {**result, "targetPort": port.get("targetPort", port.get("port"))}


def _give_addresses(spec: Json, taken: set[str]) -> None:
    several = len(spec.get("clusterIPs") or []) > 1
    policy = spec.setdefault("ipFamilyPolicy", "RequireDualStack" if several else "SingleStack")
    if "clusterIP" not in spec and spec.get("clusterIPs"):
        spec["clusterIP"] = spec["clusterIPs"][0]
    first = "IPv6" if ":" in (spec.get("clusterIP") or "") else "IPv4"
    second = "IPv4" if first == "IPv6" else "IPv6"
    families = spec.setdefault("ipFamilies", [first] if policy == "SingleStack" else [first, second])
    if policy != "SingleStack" and len(families) == 1:
        families = spec["ipFamilies"] = [*families, "IPv4" if families == ["IPv6"] else "IPv6"]
    addresses = list(spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else []))
    if addresses != ["None"]:
        addresses += [_free_address(family, taken) for family in families[len(addresses) :]]
    spec["clusterIP"], spec["clusterIPs"] = addresses[0], addresses


def _free_address(family: str, taken: set[str]) -> str:
    return next(str(address) for address in ip_network(RANGES[family]).hosts() if str(address) not in taken)


def _give_node_ports(spec: Json, old: Json | None, taken: set[int | None]) -> None:
    spec.setdefault("externalTrafficPolicy", "Cluster")
    free = _free_ports(taken)
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
        if spec["externalTrafficPolicy"] == "Local" and "healthCheckNodePort" not in spec:
            spec["healthCheckNodePort"] = next(free)
    if not spec.get("allocateLoadBalancerNodePorts", True):
        return
    before = {
        (port.get("port"), port.get("protocol")): port["nodePort"]
        for port in (old["spec"].get("ports") or [] if old is not None else [])
        if "nodePort" in port
    }
    for port in spec["ports"]:
        if not port.get("nodePort"):
            port["nodePort"] = before.get((port.get("port"), port["protocol"])) or next(free)


def _free_ports(taken: set[int | None]) -> Iterator[int]:
    return (port for port in count(_FIRST_NODE_PORT) if port not in taken)
