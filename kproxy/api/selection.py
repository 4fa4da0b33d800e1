"""Which objects concern this proxy.

It is said twice, side by side: as selectors, so that the API server sends nothing else, and as a predicate, for
manifests and for servers that do not know a selector. The rules are kube-proxy's (pkg/proxy/config and cmd/kube-proxy):
Services that name another proxy and headless ones are left alone, likewise slices of headless Services, and of all
Nodes only the one kproxy runs on counts.
"""

from kproxy.api.kinds import Kind, ObjectKind
from kproxy.api.types import LABEL_HEADLESS, LABEL_PROXY_NAME, ApiObject, EndpointSlice, Node, Service

HEADLESS_CLUSTER_IP = "None"


def label_selector(kind: ObjectKind) -> str:
    """Return the labelSelector for lists and watches; empty for none."""
    if kind is Kind.SERVICE:
        return f"!{LABEL_PROXY_NAME}"
    if kind is Kind.ENDPOINT_SLICE:
        return f"!{LABEL_HEADLESS}"
    return ""


def field_selector(kind: ObjectKind, node_name: str) -> str:
    """Return the fieldSelector for lists and watches; empty for none.

    Servers before v1.31 answer 400 to the one for Services: leave it out there and rely on `wanted`.
    """
    if kind is Kind.SERVICE:
        return f"spec.clusterIP!={HEADLESS_CLUSTER_IP}"
    if kind is Kind.NODE:
        return f"metadata.name={node_name}"
    return kind.selector


def wanted(kind: ObjectKind, obj: ApiObject, node_name: str | None) -> bool:
    """Tell whether ``obj`` is one that the selectors let through; with None for ``node_name``, every Node is.

    What is none of a service proxy's kinds is always wanted.
    """
    if kind is Kind.SERVICE and isinstance(obj, Service):
        labels = obj.metadata.labels
        return (labels is None or labels.proxy_name is None) and obj.spec.cluster_ip != HEADLESS_CLUSTER_IP
    if kind is Kind.ENDPOINT_SLICE and isinstance(obj, EndpointSlice):
        labels = obj.metadata.labels
        return labels is None or labels.headless is None
    if isinstance(obj, Node):
        return node_name is None or obj.metadata.name == node_name
    return True
