"""The kinds of objects that the ingress program watches: the table of `kproxy.api.kinds`, for this program."""

from kproxy.api.decode import prepare
from kproxy.api.kinds import ObjectKind
from kproxy.api.types import EndpointSlice
from kproxy.ingress.api.core import TLS_SECRET_TYPE, BackendService, Namespace, Secret
from kproxy.ingress.api.gateway import Gateway, GatewayClass, ReferenceGrant
from kproxy.ingress.api.httproute import HTTPRoute
from kproxy.ingress.api.networking import Ingress, IngressClass

_NETWORKING = "networking.k8s.io/v1"
_GATEWAY = "gateway.networking.k8s.io/v1"
_OLDER = ("gateway.networking.k8s.io/v1beta1",)


class IngressKind(ObjectKind):
    """What concerns the ingress program. Services are all there are: a headless one is as good a backend as any."""

    INGRESS = "Ingress", _NETWORKING, "ingresses", True, Ingress
    INGRESS_CLASS = "IngressClass", _NETWORKING, "ingressclasses", False, IngressClass
    GATEWAY_CLASS = "GatewayClass", _GATEWAY, "gatewayclasses", False, GatewayClass, _OLDER
    GATEWAY = "Gateway", _GATEWAY, "gateways", True, Gateway, _OLDER
    HTTP_ROUTE = "HTTPRoute", _GATEWAY, "httproutes", True, HTTPRoute, _OLDER
    REFERENCE_GRANT = "ReferenceGrant", _OLDER[0], "referencegrants", True, ReferenceGrant, (_GATEWAY,)
    SERVICE = "Service", "v1", "services", True, BackendService
    ENDPOINT_SLICE = "EndpointSlice", "discovery.k8s.io/v1", "endpointslices", True, EndpointSlice
    SECRET = "Secret", "v1", "secrets", True, Secret, (), f"type={TLS_SECRET_TYPE}"
    NAMESPACE = "Namespace", "v1", "namespaces", False, Namespace


NEEDED = (IngressKind.SERVICE, IngressKind.ENDPOINT_SLICE)
"""Without these there is nothing to serve."""
OPTIONAL = tuple(kind for kind in IngressKind if kind not in NEEDED)
"""The server may not know them (Gateway API is no part of Kubernetes), or not let this program see them."""

prepare(IngressKind)
