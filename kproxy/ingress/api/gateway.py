"""GatewayClass, Gateway and ReferenceGrant. Source: sigs.k8s.io/gateway-api apis/v1.

Fields whose values may grow in later versions (enumerations above all) are plain text here: an unknown one is for the
plan to refuse, in the object's status.
"""

import msgspec

from kproxy.api.types import ApiObject, ApiStruct
from kproxy.ingress.api.meta import Condition, LabelSelector, RoutedMeta

GROUP = "gateway.networking.k8s.io"


class ParametersReference(ApiStruct, frozen=True, gc=False):
    """A reference to parameters of an implementation; kproxy knows none."""

    group: str = ""
    kind: str = ""
    name: str = ""


class GatewayClassSpec(ApiStruct, frozen=True, gc=False):
    """``spec`` of a GatewayClass."""

    controller_name: str = ""
    parameters_ref: ParametersReference | None = None


class SupportedFeature(ApiStruct, frozen=True, gc=False):
    """The name of a feature that conformance tests know."""

    name: str = ""


class GatewayClassStatus(ApiStruct, frozen=True, gc=False):
    """``status`` of a GatewayClass."""

    conditions: tuple[Condition, ...] | None = None
    supported_features: tuple[SupportedFeature, ...] | None = None


class GatewayClass(ApiObject, frozen=True, gc=False):
    """gateway.networking.k8s.io/v1 GatewayClass."""

    metadata: RoutedMeta = RoutedMeta()
    spec: GatewayClassSpec = GatewayClassSpec()
    status: GatewayClassStatus | None = None


class RouteGroupKind(ApiStruct, frozen=True, gc=False, omit_defaults=False):
    """A kind of routes."""

    group: str = GROUP
    kind: str = ""


class RouteNamespaces(ApiStruct, frozen=True, gc=False):
    """From which namespaces routes may attach."""

    from_: str | None = msgspec.field(default=None, name="from")
    selector: LabelSelector | None = None


class AllowedRoutes(ApiStruct, frozen=True, gc=False):
    """Which routes may attach to a listener."""

    namespaces: RouteNamespaces | None = None
    kinds: tuple[RouteGroupKind, ...] | None = None


class SecretReference(ApiStruct, frozen=True, gc=False):
    """A reference to a certificate."""

    group: str | None = None
    kind: str | None = None
    name: str = ""
    namespace: str | None = None


class ListenerTLS(ApiStruct, frozen=True, gc=False):
    """How a listener speaks TLS."""

    mode: str | None = None
    certificate_refs: tuple[SecretReference, ...] | None = None


class GatewayListener(ApiStruct, frozen=True, gc=False):
    """One entry of a Gateway's ``spec.listeners``."""

    name: str
    port: int
    protocol: str = ""
    hostname: str | None = None
    tls: ListenerTLS | None = None
    allowed_routes: AllowedRoutes | None = None


class GatewayAddress(ApiStruct, frozen=True, gc=False, omit_defaults=False):
    """An address, asked for or assigned."""

    type: str | None = "IPAddress"
    value: str | None = None


class GatewayInfrastructure(ApiStruct, frozen=True, gc=False):
    """What objects made for a Gateway are to carry."""

    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    parameters_ref: ParametersReference | None = None


class FrontendTLS(ApiStruct, frozen=True, gc=False):
    """Client certificates. Nothing of it is supported: that it is there is all there is to know."""


class GatewayTLS(ApiStruct, frozen=True, gc=False):
    """``spec.tls`` of a Gateway."""

    frontend: FrontendTLS | None = None


class GatewaySpec(ApiStruct, frozen=True, gc=False):
    """``spec`` of a Gateway."""

    gateway_class_name: str = ""
    listeners: tuple[GatewayListener, ...] | None = None
    addresses: tuple[GatewayAddress, ...] | None = None
    infrastructure: GatewayInfrastructure | None = None
    tls: GatewayTLS | None = None


class ListenerStatus(ApiStruct, frozen=True, gc=False, omit_defaults=False):
    """What is said of one listener."""

    name: str = ""
    supported_kinds: tuple[RouteGroupKind, ...] | None = None
    attached_routes: int = 0
    conditions: tuple[Condition, ...] | None = None


class GatewayStatus(ApiStruct, frozen=True, gc=False):
    """``status`` of a Gateway."""

    addresses: tuple[GatewayAddress, ...] | None = None
    conditions: tuple[Condition, ...] | None = None
    listeners: tuple[ListenerStatus, ...] | None = None


class Gateway(ApiObject, frozen=True, gc=False):
    """gateway.networking.k8s.io/v1 Gateway."""

    metadata: RoutedMeta = RoutedMeta()
    spec: GatewaySpec = GatewaySpec()
    status: GatewayStatus | None = None


class GrantFrom(ApiStruct, frozen=True, gc=False):
    """Who may refer: objects of a kind in a namespace."""

    group: str = ""
    kind: str = ""
    namespace: str = ""


class GrantTo(ApiStruct, frozen=True, gc=False):
    """What may be referred to: the object of that name, or all of the kind."""

    group: str = ""
    kind: str = ""
    name: str | None = None


class ReferenceGrantSpec(ApiStruct, frozen=True, gc=False):
    """``spec`` of a ReferenceGrant."""

    from_: tuple[GrantFrom, ...] | None = msgspec.field(default=None, name="from")
    to: tuple[GrantTo, ...] | None = None


class ReferenceGrant(ApiObject, frozen=True, gc=False):
    """gateway.networking.k8s.io/v1 ReferenceGrant, and v1beta1, which is the same."""

    metadata: RoutedMeta = RoutedMeta()
    spec: ReferenceGrantSpec = ReferenceGrantSpec()
