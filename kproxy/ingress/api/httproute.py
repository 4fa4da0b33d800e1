"""HTTPRoute. Source: sigs.k8s.io/gateway-api apis/v1, whose comments say what the fields mean."""

from kproxy.api.types import ApiObject, ApiStruct
from kproxy.ingress.api.meta import Condition, RoutedMeta


class ParentReference(ApiStruct, frozen=True, gc=False):
    """What a route wants to be attached to. None stands for a field that was not given, for the status repeats it."""

    group: str | None = None
    kind: str | None = None
    namespace: str | None = None
    name: str = ""
    section_name: str | None = None
    port: int | None = None


class BackendReference(ApiStruct, frozen=True, gc=False):
    """A reference to a Service's port."""

    group: str | None = None
    kind: str | None = None
    name: str = ""
    namespace: str | None = None
    port: int | None = None


class PathMatch(ApiStruct, frozen=True, gc=False):
    """A condition on the path."""

    type: str | None = None
    value: str | None = None


class ValueMatch(ApiStruct, frozen=True, gc=False):
    """A condition on a header or query parameter."""

    name: str
    value: str
    type: str | None = None


class HTTPRouteMatch(ApiStruct, frozen=True, gc=False):
    """All conditions have to be fulfilled."""

    path: PathMatch | None = None
    headers: tuple[ValueMatch, ...] | None = None
    query_params: tuple[ValueMatch, ...] | None = None
    method: str | None = None


class HTTPHeader(ApiStruct, frozen=True, gc=False):
    """A header to set or add."""

    name: str
    value: str


class HeaderFilter(ApiStruct, frozen=True, gc=False):
    """Changes to headers."""

    set: tuple[HTTPHeader, ...] | None = None
    add: tuple[HTTPHeader, ...] | None = None
    remove: tuple[str, ...] | None = None


class PathModifier(ApiStruct, frozen=True, gc=False):
    """What becomes of the path."""

    type: str = ""
    replace_full_path: str | None = None
    replace_prefix_match: str | None = None


class RedirectFilter(ApiStruct, frozen=True, gc=False):
    """An answer that sends the client elsewhere."""

    scheme: str | None = None
    hostname: str | None = None
    path: PathModifier | None = None
    port: int | None = None
    status_code: int | None = None


class RewriteFilter(ApiStruct, frozen=True, gc=False):
    """How the request is changed before it is sent on."""

    hostname: str | None = None
    path: PathModifier | None = None


class Fraction(ApiStruct, frozen=True, gc=False):
    """A part of all requests."""

    numerator: int
    denominator: int | None = None


class MirrorFilter(ApiStruct, frozen=True, gc=False):
    """Where copies of requests go."""

    backend_ref: BackendReference
    percent: int | None = None
    fraction: Fraction | None = None


class CorsFilter(ApiStruct, frozen=True, gc=False):
    """Which pages of other origins may read the answers."""

    allow_origins: tuple[str, ...] | None = None
    allow_credentials: bool | None = None
    allow_methods: tuple[str, ...] | None = None
    allow_headers: tuple[str, ...] | None = None
    expose_headers: tuple[str, ...] | None = None
    max_age: int | None = None


class HTTPRouteFilter(ApiStruct, frozen=True, gc=False):
    """One step of what is done with a request or its answer."""

    type: str = ""
    request_header_modifier: HeaderFilter | None = None
    response_header_modifier: HeaderFilter | None = None
    request_redirect: RedirectFilter | None = None
    url_rewrite: RewriteFilter | None = None
    request_mirror: MirrorFilter | None = None
    cors: CorsFilter | None = None


class HTTPBackendReference(BackendReference, frozen=True, gc=False):
    """A choice of where requests go."""

    weight: int | None = None
    filters: tuple[HTTPRouteFilter, ...] | None = None


class HTTPRouteTimeouts(ApiStruct, frozen=True, gc=False):
    """Durations as GEP-2257 writes them."""

    request: str | None = None
    backend_request: str | None = None


class HTTPRouteRetry(ApiStruct, frozen=True, gc=False):
    """When a request is tried again."""

    codes: tuple[int, ...] | None = None
    attempts: int | None = None
    backoff: str | None = None


class SessionPersistence(ApiStruct, frozen=True, gc=False):
    """Which requests belong together. Nothing of it is supported: that it is there is all there is to know."""


class HTTPRouteRule(ApiStruct, frozen=True, gc=False):
    """Matches, and what is done with the requests that fulfil one of them."""

    name: str | None = None
    matches: tuple[HTTPRouteMatch, ...] | None = None
    filters: tuple[HTTPRouteFilter, ...] | None = None
    backend_refs: tuple[HTTPBackendReference, ...] | None = None
    timeouts: HTTPRouteTimeouts | None = None
    retry: HTTPRouteRetry | None = None
    session_persistence: SessionPersistence | None = None


class HTTPRouteSpec(ApiStruct, frozen=True, gc=False):
    """``spec`` of an HTTPRoute."""

    parent_refs: tuple[ParentReference, ...] | None = None
    hostnames: tuple[str, ...] | None = None
    rules: tuple[HTTPRouteRule, ...] | None = None


class RouteParentStatus(ApiStruct, frozen=True, gc=False):
    """What one controller says of one parent."""

    parent_ref: ParentReference = ParentReference()
    controller_name: str = ""
    conditions: tuple[Condition, ...] | None = None


class HTTPRouteStatus(ApiStruct, frozen=True, gc=False):
    """``status`` of an HTTPRoute, shared among the controllers of all its parents."""

    parents: tuple[RouteParentStatus, ...] | None = None


class HTTPRoute(ApiObject, frozen=True, gc=False):
    """gateway.networking.k8s.io/v1 HTTPRoute."""

    metadata: RoutedMeta = RoutedMeta()
    spec: HTTPRouteSpec = HTTPRouteSpec()
    status: HTTPRouteStatus | None = None
