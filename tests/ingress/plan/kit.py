"""What tests of Gateways share: settings, a listener, and what is said of one."""

from typing import Any

from kproxy.ingress.plan.gateway.verdicts import ACCEPTED, CONFLICTED, PROGRAMMED, RESOLVED_REFS
from kproxy.ingress.plan.planner import Planned
from kproxy.ingress.plan.settings import PlanSettings
from tests.ingress.kit import listener_conditions

ALONE = PlanSettings(in_cluster=False, http_binds=(), https_binds=())


def https(name: str = "https", *refs: dict[str, Any], **listener: Any) -> dict[str, Any]:
    """Return a listener for HTTPS, with the Secret ``cert`` unless other references are given."""
    tls = {"certificateRefs": list(refs or ({"name": "cert"},))}
    return {"name": name, "port": 443, "protocol": "HTTPS", "tls": tls} | listener


def said(of: Planned, listener: str, gateway: str = "gw") -> dict[str, str]:
    """Return the conditions of a listener as ``status reason``."""
    return {kind: f"{one.status} {one.reason}" for kind, one in listener_conditions(of, gateway, listener).items()}


GOOD = {
    ACCEPTED: "True Accepted",
    PROGRAMMED: "True Programmed",
    RESOLVED_REFS: "True ResolvedRefs",
    CONFLICTED: "False NoConflicts",
}
