"""Views of fixed sets of objects, for the tests of explanations."""

from typing import Any

from kproxy.api.decode import convert_object
from kproxy.api.kinds import Kind, ObjectKind
from kproxy.api.types import ApiObject, EndpointSlice, ObjectKey, Service
from kproxy.explain.view import View
from kproxy.plan.planner import Planner
from kproxy.plan.settings import NodeFacts, ProxySettings
from kproxy.state.model import IPFamily
from kproxy.state.tracker import Tracker
from kproxy.tools.render import Objects


def view_of(
    objects: Objects,
    family: IPFamily,
    settings: ProxySettings,
    facts: NodeFacts,
    addresses: frozenset[str],
    mode: str = "iptables",
) -> View:
    """Plan objects and keep what the plan was made of."""
    tracker = Tracker(family, facts.name)
    for kind in objects.values():
        for obj in kind.values():
            if isinstance(obj, Service):
                tracker.update_service(obj)
            elif isinstance(obj, EndpointSlice):
                tracker.update_slice(obj)
    planner = Planner(settings, facts, tracker)
    planner.update(tracker.pending)
    return View(planner.plan, tracker, facts, addresses, planner.losses, mode)


_IN_TURN = {"turning": {"kproxy.dev/load-balancing": "round-robin"}}


def shop_view(family: IPFamily, mode: str = "iptables") -> View:
    """A shop: web with three endpoints and a node port, sticky with affinity, turning in turn, and empty."""
    six = family is IPFamily.IPV6

    def ip(v4: str, v6: str) -> str:
        return v6 if six else v4

    services = {
        "web": {"clusterIP": ip("10.96.0.80", "fd00:96::80"), "type": "NodePort",
                "ports": [{"name": "http", "port": 80, "nodePort": 30080}]},
        "sticky": {"clusterIP": ip("10.96.0.81", "fd00:96::81"), "sessionAffinity": "ClientIP",
                   "ports": [{"name": "http", "port": 80}]},
        "turning": {"clusterIP": ip("10.96.0.83", "fd00:96::83"), "ports": [{"name": "http", "port": 80}]},
        "empty": {"clusterIP": ip("10.96.0.82", "fd00:96::82"), "ports": [{"name": "http", "port": 80}]},
    }  # fmt: skip
    pods = [ip("10.244.0.11", "fd00:244::11"), ip("10.244.0.12", "fd00:244::12"), ip("10.244.1.13", "fd00:244:0:1::13")]
    endpoints = [
        {"addresses": [pod], "nodeName": "node-b" if number == 2 else "node-a", "conditions": {"ready": True}}
        for number, pod in enumerate(pods)
    ]
    manifests: list[tuple[Kind, dict[str, Any]]] = [
        (
            Kind.SERVICE,
            {"metadata": {"name": name, "namespace": "shop", "annotations": _IN_TURN.get(name)}, "spec": spec},
        )
        for name, spec in services.items()
    ]
    manifests += [
        (
            Kind.ENDPOINT_SLICE,
            {
                "metadata": {
                    "name": f"{name}-1",
                    "namespace": "shop",
                    "labels": {"kubernetes.io/service-name": name},
                },
                "addressType": "IPv6" if six else "IPv4",
                "ports": [{"name": "http", "port": 8080}],
                "endpoints": endpoints,
            },
        )
        for name in ("web", "sticky", "turning")
    ]
    objects: dict[ObjectKind, dict[ObjectKey, ApiObject]] = {}
    for kind, manifest in manifests:
        decoded = convert_object(kind, manifest)
        assert decoded.object is not None, decoded.problems
        objects.setdefault(kind, {})[decoded.object.metadata.key] = decoded.object
    node = ip("10.0.0.1", "fd00:a::1")
    cidr = ip("10.244.0.0/16", "fd00:244::/56")
    facts = NodeFacts(name="node-a", ips={family: node}, pod_cidrs={family: ip("10.244.0.0/24", "fd00:244::/64")},
                      interface_addresses=(node,))  # fmt: skip
    settings = ProxySettings(
        cluster_cidrs={family: cidr}, node_port_addresses=("primary",) if mode == "nftables" else ()
    )
    return view_of(objects, family, settings, facts, frozenset({node}), mode)
