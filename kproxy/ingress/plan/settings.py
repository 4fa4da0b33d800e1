"""What an administrator has decided, and what surrounds the program: the part that steers the HTTP plan."""

from collections.abc import Mapping

import msgspec

from kproxy.api.types import ObjectKey
from kproxy.ingress.plan.model import Bind

INGRESS_CONTROLLER = "kproxy.dev/ingress"
GATEWAY_CONTROLLER = "kproxy.dev/gateway"
INGRESS_CLASS = "kproxy"


class PlanSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The administrator's settings, validated."""

    http_binds: tuple[Bind, ...] = (Bind("", 80),)
    """Where Ingresses are served in clear text; empty for nowhere."""
    https_binds: tuple[Bind, ...] = (Bind("", 443),)
    """Where Ingresses are served by TLS; empty for nowhere."""
    ingress_class: str = INGRESS_CLASS
    """The class of Ingresses served, beside classes whose controller is `ingress_controller`. It is what the old
    annotation has to say, and needs no IngressClass object."""
    ingress_controller: str = INGRESS_CONTROLLER
    gateway_controller: str = GATEWAY_CONTROLLER
    without_class: bool = False
    """Serve Ingresses that name no class, too, though no IngressClass of ours is the default one."""
    gateways_without_class: bool = False
    """Serve Gateways whose GatewayClass does not exist, if it is called like `ingress_class`: for manifests, which need
    no such object."""
    default_certificate: ObjectKey | None = None
    """The Secret whose certificate Ingress' clients get that ask for no name, or for one nobody has."""
    in_cluster: bool = True
    """Gateways are reached through Services, whose ports lead to ports of the engine (see
    `kproxy.ingress.plan.gateway.ports`). Otherwise their listeners are bound at the addresses they name, or at all."""
    mirrors: bool = False
    """Whether the engine can copy requests."""


class GatewayPort(msgspec.Struct, frozen=True, order=True):
    """One port of a Gateway."""

    namespace: str
    gateway: str
    port: int


GatewayPorts = Mapping[GatewayPort, int]
"""The engine's port for each port of a Gateway, where Services are in front."""
