"""Services as backends, the Secrets with certificates, and Namespaces. Source: k8s.io/api core/v1."""

import msgspec

from kproxy.api.types import ApiObject, ApiStruct
from kproxy.ingress.api.meta import LabelledMeta
from kproxy.ingress.api.networking import IngressLoadBalancer, IngressStatus

TLS_SECRET_TYPE = "kubernetes.io/tls"  # noqa: S105 - a type's name


class BackendPort(ApiStruct, frozen=True, gc=False):
    """One entry of a Service's ``spec.ports``."""

    port: int
    name: str | None = None
    protocol: str | None = None
    app_protocol: str | None = None
    """What is spoken there (KEP-3726)."""
    target_port: int | str | None = None
    """Used of the Services that this program makes for Gateways; endpoint slices carry it resolved."""


class BackendSpec(ApiStruct, frozen=True, gc=False):
    """``spec`` of a Service, as far as it is a backend or a Gateway's door."""

    type: str | None = None
    cluster_ip: str | None = msgspec.field(default=None, name="clusterIP")
    cluster_ips: tuple[str, ...] | None = msgspec.field(default=None, name="clusterIPs")
    external_ips: tuple[str, ...] | None = msgspec.field(default=None, name="externalIPs")
    ports: tuple[BackendPort, ...] | None = None
    external_name: str | None = None


class BackendService(ApiObject, frozen=True, gc=False):
    """core/v1 Service, headless ones and those of other service proxies included."""

    metadata: LabelledMeta = LabelledMeta()
    spec: BackendSpec = BackendSpec()
    status: IngressStatus | None = None

    @property
    def load_balancer(self) -> IngressLoadBalancer:
        """``status.loadBalancer``, which is the same for Services and for Ingresses."""
        return (self.status.load_balancer if self.status else None) or IngressLoadBalancer()


class SecretData(ApiStruct, frozen=True, gc=False):
    """The two entries of a TLS Secret, base64."""

    certificate: str | None = msgspec.field(default=None, name="tls.crt")
    key: str | None = msgspec.field(default=None, name="tls.key")


class Secret(ApiObject, frozen=True, gc=False):
    """core/v1 Secret of type kubernetes.io/tls."""

    metadata: LabelledMeta = LabelledMeta()
    type: str = ""
    data: SecretData | None = None
    string_data: SecretData | None = None
    """As manifests may have it: plain text, which the API server would move to ``data``."""

    def __repr__(self) -> str:
        """Say which one it is, and nothing of the key."""
        return f"Secret({self.metadata.key})"


class Namespace(ApiObject, frozen=True, gc=False):
    """core/v1 Namespace, for its labels."""

    metadata: LabelledMeta = LabelledMeta()
