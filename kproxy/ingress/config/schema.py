"""IngressConfiguration: every field by its name and type, with its default. The flags are the same by other names."""

import enum
from collections.abc import Mapping

from kproxy.config.schema import LogFormat, Section
from kproxy.config.values import Duration
from kproxy.ingress.plan.settings import GATEWAY_CONTROLLER, INGRESS_CLASS, INGRESS_CONTROLLER

HEALTHZ_PORT = 10254
METRICS_PORT = 10253


class ServiceType(enum.StrEnum):
    """What type Services of Gateways are of."""

    LOAD_BALANCER = "LoadBalancer"
    NODE_PORT = "NodePort"
    CLUSTER_IP = "ClusterIP"


class Logging(Section, frozen=True, kw_only=True):
    """How kproxy logs, and whether HAProxy does."""

    format: LogFormat = LogFormat.TEXT
    verbosity: int = 0
    access: bool = False
    """Whether each request is logged, in HAProxy's HTTP format, on standard output."""


class Timeouts(Section, frozen=True, kw_only=True):
    """How long what may last."""

    client: Duration = Duration(60)
    """A client's silence."""
    server: Duration = Duration(60)
    """An endpoint's silence, where a route says nothing of its own."""
    connect: Duration = Duration(5)
    tunnel: Duration = Duration(3600)
    """Silence on a connection that was upgraded, as to WebSocket."""
    drain: Duration = Duration(3600)
    """How long a process of HAProxy's that a reload has replaced may finish its connections."""
    shutdown: Duration = Duration(30)
    """How long HAProxy may finish its requests when kproxy is told to stop."""
    shutdown_delay: Duration = Duration(0)
    """How long it goes on taking new ones before that, while /readyz says no."""


class IngressConfiguration(Section, frozen=True, kw_only=True):
    """All settings."""

    kubeconfig: str = ""
    master: str = ""
    api_servers: tuple[str, ...] = ()
    manifests: str = ""
    """A folder of manifests, instead of an API server."""
    http_bind_address: tuple[str, ...] = (":80",)
    https_bind_address: tuple[str, ...] = (":443",)
    ingress_class: str = INGRESS_CLASS
    ingress_controller: str = INGRESS_CONTROLLER
    gateway_controller: str = GATEWAY_CONTROLLER
    ingress_without_class: bool = False
    default_certificate: str = ""
    """``NAMESPACE/NAME`` of a Secret."""
    proxy_protocol: bool = False
    trusted_proxies: tuple[str, ...] = ()
    service: str = ""
    """``NAMESPACE/NAME`` of the Service whose endpoints are the pods of this program."""
    publish_address: tuple[str, ...] = ()
    gateway_service_type: ServiceType = ServiceType.LOAD_BALANCER
    node_address: tuple[str, ...] = ()
    write_status: bool = True
    lease: str = ""
    """``NAMESPACE/NAME``; by default kproxy-ingress in the pod's own namespace."""
    state_dir: str = "/run/kproxy-ingress"
    haproxy: str = "haproxy"
    threads: int = 0
    """Of HAProxy; 0 for one for each core."""
    latency_histogram: bool = True
    leave_haproxy: bool = False
    """Whether HAProxy goes on when kproxy is told to stop, for the next kproxy to take over."""
    cpu_share: float = 0.5
    healthz_bind_address: str = f":{HEALTHZ_PORT}"
    metrics_bind_address: str = f"127.0.0.1:{METRICS_PORT}"
    logging: Logging = Logging()
    timeouts: Timeouts = Timeouts()


DOCUMENTS: Mapping[tuple[str, str], type[IngressConfiguration]] = {
    ("kproxy.dev/v1alpha1", "IngressConfiguration"): IngressConfiguration
}
