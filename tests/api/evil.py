"""Good objects, and what a stranger may put into any part of them."""

import copy
from collections.abc import Iterator
from typing import Any, TypeAlias

from hypothesis import strategies as st

Raw: TypeAlias = dict[str, Any]
Way: TypeAlias = tuple[str | int, ...]


SERVICE: Raw = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {
        "name": "web",
        "namespace": "shop",
        "uid": "4d3c",
        "resourceVersion": "7",
        "labels": {"app": "web", "service.kubernetes.io/headless": ""},
        "annotations": {"note": "hello"},
    },
    "spec": {
        "type": "LoadBalancer",
        "clusterIP": "10.96.0.10",
        "clusterIPs": ["10.96.0.10", "fd00:10:96::10"],
        "ports": [
            {"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080},
            {"name": "admin", "port": 9000, "protocol": "TCP", "nodePort": 30090},
        ],
        "externalIPs": ["198.51.100.1", "198.51.100.2"],
        "loadBalancerSourceRanges": ["192.0.2.0/24", "10.0.0.0/8"],
        "internalTrafficPolicy": "Cluster",
        "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 32000,
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
    },
    "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1", "ipMode": "VIP"}, {"ip": "203.0.113.2"}]}},
}
SLICE: Raw = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "endpoints": [
        {
            "addresses": ["10.244.0.11"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "node-a",
            "hints": {"forZones": [{"name": "zone-a"}], "forNodes": [{"name": "node-a"}]},
        },
        {"addresses": ["10.244.0.12"], "nodeName": "node-a"},
    ],
    "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "admin", "port": 9090, "protocol": "TCP"}],
}
OTHER: Raw = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "other", "namespace": "shop"},
    "spec": {"type": "NodePort", "clusterIP": "10.96.0.99", "ports": [{"port": 443, "nodePort": 30443}]},
}
OTHER_SLICE: Raw = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "other-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "other"}},
    "addressType": "IPv4",
    "endpoints": [{"addresses": ["10.244.0.99"], "nodeName": "node-a"}],
    "ports": [{"name": "", "port": 8443}],
}

EVIL_TEXTS = [
    "",
    " ",
    "a b",
    "UPPER",
    "x\n-A KUBE-SERVICES -j ACCEPT",
    "x\r\nCOMMIT\n*nat\n",
    'x" -j ACCEPT -m comment --comment "',
    "x' -j DROP",
    "x\\",
    "-j",
    "--to-destination",
    "x;reboot",
    "$(reboot)",
    "\0",
    "\x1b[2J\x1b]0;owned\x07",
    "\u202e\u2028\u2029\x85",
    "é",
    "\ud800",
    "1.2.3.4\n",
    "1.2.3.4 -j ACCEPT",
    "1.2.3.4/32/8",
    "0.0.0.0",
    "::",
    "::1",
    "127.0.0.1",
    "fe80::1%eth0",
    "ff02::1",
    "224.0.0.1",
    "169.254.169.254",
    "999.999.999.999",
    "0" * 10_000 + "10.0.0.1",
    "x" * 100_000,
    "None",
    "Local\n",
]
EVIL_NUMBERS = [-1, 0, 65_536, 2**31, 2**63, 2**64, -(2**63), 10**400, 1.5, 1e308]
EVIL_VALUES: list[Any] = [*EVIL_TEXTS, *EVIL_NUMBERS, None, True, [], {}, [None], {"x": "\n"}, [[[[]]]]]

evil = st.sampled_from(EVIL_VALUES) | st.text(max_size=20) | st.integers()


def ways(value: object, so_far: Way = ()) -> Iterator[Way]:
    if so_far:
        yield so_far
    pairs: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from ways(inner, (*so_far, key))


PARTS = [(whole, way) for whole in (SERVICE, SLICE) for way in ways(whole) if way[0] not in ("apiVersion", "kind")]


def replaced(whole: Raw, way: Way, value: object) -> Raw:
    result = copy.deepcopy(whole)
    parent: Any = result
    for step in way[:-1]:
        parent = parent[step]
    parent[way[-1]] = value
    return result
