"""Which features of Gateway API there are here, by the names that conformance tests know (pkg/features, v1.4)."""

from collections.abc import Iterator

from kproxy.ingress.plan.settings import PlanSettings

_ALWAYS = (
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    "GatewayPort8080",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendRequestRedirect",
    "HTTPRouteBackendTimeout",
    "HTTPRouteBackendURLRewrite",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteRetry",
    "HTTPRouteRetryConnectionError",
    "HTTPRouteSchemeRedirect",
    "ReferenceGrant",
)
_IN_CLUSTER = ("GatewayInfrastructurePropagation",)
_WITH_MIRRORS = ("HTTPRouteRequestMirror", "HTTPRouteRequestMultipleMirrors", "HTTPRouteRequestPercentageMirror")


def supported_features(settings: PlanSettings) -> tuple[str, ...]:
    """Return the names, sorted, as the API wants them."""
    return tuple(sorted(_features(settings)))


def _features(settings: PlanSettings) -> Iterator[str]:
    yield from _ALWAYS
    if settings.in_cluster:
        yield from _IN_CLUSTER
    if settings.mirrors:
        yield from _WITH_MIRRORS
