"""Ingress and IngressClass. Source: k8s.io/api networking/v1."""

from kproxy.api.types import ApiObject, ApiStruct
from kproxy.ingress.api.meta import RoutedMeta


class ServiceBackendPort(ApiStruct, frozen=True, gc=False):
    """A Service's port, by name or by number."""

    name: str | None = None
    number: int | None = None


class IngressServiceBackend(ApiStruct, frozen=True, gc=False):
    """A Service in the Ingress' own namespace."""

    name: str = ""
    port: ServiceBackendPort | None = None


class TypedReference(ApiStruct, frozen=True, gc=False):
    """A reference to an object of any kind; only used to say that it is not supported."""

    kind: str = ""
    name: str = ""
    api_group: str | None = None


class IngressBackend(ApiStruct, frozen=True, gc=False):
    """Where requests go."""

    service: IngressServiceBackend | None = None
    resource: TypedReference | None = None


class HTTPIngressPath(ApiStruct, frozen=True, gc=False):
    """One of a rule's paths."""

    path: str | None = None
    path_type: str | None = None
    backend: IngressBackend | None = None


class HTTPIngressRuleValue(ApiStruct, frozen=True, gc=False):
    """The paths of a rule."""

    paths: tuple[HTTPIngressPath, ...] | None = None


class IngressRule(ApiStruct, frozen=True, gc=False):
    """The paths of one host; of all hosts where none is given."""

    host: str | None = None
    http: HTTPIngressRuleValue | None = None


class IngressTLS(ApiStruct, frozen=True, gc=False):
    """The certificate for some hosts."""

    hosts: tuple[str, ...] | None = None
    secret_name: str | None = None


class IngressSpec(ApiStruct, frozen=True, gc=False):
    """``spec`` of an Ingress."""

    ingress_class_name: str | None = None
    default_backend: IngressBackend | None = None
    tls: tuple[IngressTLS, ...] | None = None
    rules: tuple[IngressRule, ...] | None = None


class IngressAddress(ApiStruct, frozen=True, gc=False):
    """Where an Ingress can be reached."""

    ip: str | None = None
    hostname: str | None = None


class IngressLoadBalancer(ApiStruct, frozen=True, gc=False):
    """``status.loadBalancer`` of an Ingress."""

    ingress: tuple[IngressAddress, ...] | None = None


class IngressStatus(ApiStruct, frozen=True, gc=False):
    """``status`` of an Ingress."""

    load_balancer: IngressLoadBalancer | None = None


class Ingress(ApiObject, frozen=True, gc=False):
    """networking.k8s.io/v1 Ingress."""

    metadata: RoutedMeta = RoutedMeta()
    spec: IngressSpec = IngressSpec()
    status: IngressStatus | None = None


class IngressClassSpec(ApiStruct, frozen=True, gc=False):
    """``spec`` of an IngressClass."""

    controller: str = ""


class IngressClass(ApiObject, frozen=True, gc=False):
    """networking.k8s.io/v1 IngressClass."""

    metadata: RoutedMeta = RoutedMeta()
    spec: IngressClassSpec = IngressClassSpec()
