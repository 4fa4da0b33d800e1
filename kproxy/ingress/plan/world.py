"""Everything the HTTP plan is made of: objects, by kind and name, as a source delivered them last.

A plain store with one owner. It is kept by `kproxy.ingress.plan.planner` and only read by the rest of the package.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kproxy.api.kinds import ObjectKind
from kproxy.api.types import ApiObject, EndpointSlice, ObjectKey
from kproxy.ingress.api.core import BackendService, Namespace, Secret
from kproxy.ingress.api.gateway import Gateway, GatewayClass, ReferenceGrant
from kproxy.ingress.api.httproute import HTTPRoute
from kproxy.ingress.api.kinds import IngressKind
from kproxy.ingress.api.networking import Ingress, IngressClass

FIELDS: Mapping[ObjectKind, str] = {
    IngressKind.INGRESS: "ingresses",
    IngressKind.INGRESS_CLASS: "ingress_classes",
    IngressKind.GATEWAY_CLASS: "gateway_classes",
    IngressKind.GATEWAY: "gateways",
    IngressKind.HTTP_ROUTE: "http_routes",
    IngressKind.REFERENCE_GRANT: "reference_grants",
    IngressKind.SERVICE: "services",
    IngressKind.SECRET: "secrets",
    IngressKind.NAMESPACE: "namespaces",
}
"""Where objects of a kind are; slices are by their Service."""


@dataclass(slots=True)
class World:
    """The objects, and what the engine's surroundings have been told."""

    ingresses: dict[ObjectKey, Ingress] = field(default_factory=dict)
    ingress_classes: dict[ObjectKey, IngressClass] = field(default_factory=dict)
    gateway_classes: dict[ObjectKey, GatewayClass] = field(default_factory=dict)
    gateways: dict[ObjectKey, Gateway] = field(default_factory=dict)
    http_routes: dict[ObjectKey, HTTPRoute] = field(default_factory=dict)
    reference_grants: dict[ObjectKey, ReferenceGrant] = field(default_factory=dict)
    services: dict[ObjectKey, BackendService] = field(default_factory=dict)
    slices: dict[ObjectKey, dict[str, EndpointSlice]] = field(default_factory=dict)
    """By Service, then by their own names."""
    secrets: dict[ObjectKey, Secret] = field(default_factory=dict)
    namespaces: dict[ObjectKey, Namespace] = field(default_factory=dict)
    usable_addresses: frozenset[str] | None = None
    """The addresses, in canonical form, that a Gateway may name; None for any, where others see to them."""

    def get(self, kind: ObjectKind, key: ObjectKey) -> ApiObject | None:
        """Return an object by its name; None where there is none, or of slices, which are kept otherwise."""
        name = FIELDS.get(kind)
        held: Mapping[ObjectKey, ApiObject] = getattr(self, name) if name is not None else {}
        return held.get(key)

    def labels_of(self, namespace: str) -> Mapping[str, str]:
        """Return a namespace's labels: for one without an object, as in manifests, its name alone (KEP-2161)."""
        known = self.namespaces.get(ObjectKey("", namespace))
        return {"kubernetes.io/metadata.name": namespace} | dict((known.metadata.labels if known else None) or {})
