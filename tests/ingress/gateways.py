"""Gateways and HTTPRoutes for tests, from what matters of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.kit.yaml_text import to_yaml


def gateway(
    *listeners: Mapping[str, Any], name: str = "gw", namespace: str = "default", created: str = "", **spec: Any
) -> str:
    """Return a Gateway; a listener needs a name only, and is HTTP at port 80 then, for routes from everywhere."""
    whole = [
        {"port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}, **listener}
        for listener in listeners
    ]
    metadata = {"name": name, "namespace": namespace} | ({"creationTimestamp": created} if created else {})
    raw = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": metadata,
        "spec": {"gatewayClassName": "kproxy", "listeners": whole} | spec,
    }
    return to_yaml(raw)


def route(
    *rules: Mapping[str, Any],
    name: str = "route",
    namespace: str = "default",
    parents: Sequence[Mapping[str, Any]] = ({"name": "gw"},),
    hostnames: Sequence[str] = (),
    created: str = "",
) -> str:
    """Return an HTTPRoute."""
    spec: dict[str, Any] = {"parentRefs": [dict(parent) for parent in parents]}
    if rules:
        spec["rules"] = [dict(rule) for rule in rules]
    if hostnames:
        spec["hostnames"] = list(hostnames)
    metadata = {"name": name, "namespace": namespace} | ({"creationTimestamp": created} if created else {})
    return to_yaml(
        {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata, "spec": spec}
    )


def to(*names: str, path: str = "", **rule: Any) -> dict[str, Any]:
    """Return a rule that sends requests to port 80 of Services, by prefix of the path if one is given."""
    whole: dict[str, Any] = {"backendRefs": [{"name": name, "port": 80} for name in names]} | rule
    if path:
        whole["matches"] = [{"path": {"type": "PathPrefix", "value": path}}]
    return whole


def grant(
    *, of: str, kind: str, to_kind: str, namespace: str, name: str = "", version: str = "v1beta1", group: str = ""
) -> str:
    """Return a ReferenceGrant in ``namespace`` for objects of ``kind`` in namespace ``of``."""
    target = {"group": group, "kind": to_kind} | ({"name": name} if name else {})
    origin = {"group": "gateway.networking.k8s.io", "kind": kind, "namespace": of}
    return to_yaml(
        {
            "apiVersion": f"gateway.networking.k8s.io/{version}",
            "kind": "ReferenceGrant",
            "metadata": {"name": "grant", "namespace": namespace},
            "spec": {"from": [origin], "to": [target]},
        }
    )
