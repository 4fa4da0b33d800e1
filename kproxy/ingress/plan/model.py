"""The HTTP plan: what becomes of every request, said without a word of HAProxy, Ingress or HTTPRoute.

A translator reads a `Plan` from the top down and only spells it out:

    Plan ─► Frontend (a TCP port)  ─► Listener (by host name) ─► Host ─► Route (a match) ─► Rule ─► Backend ─► Endpoint

**How a request finds its rule.** It came in at a `Frontend`. Its host is the Host header (``:authority``) in lower
case, without port and without a final dot. Of the frontend's listeners it belongs to the *first* whose pattern matches
the host; no other is asked (Gateway API: listeners are isolated from each other). Where none matches the answer is 404,
and on an https frontend 421 where TLS had chosen another listener by SNI. In that listener the hosts are gone through
in order, and in each host that matches the routes in order; the first route that matches says the `Rule`. Where no
route matches in any of them, the answer is 404. So everything stands in its order of precedence already: there
is nothing to sort and nothing to weigh. Tables built from it (maps of exact paths, of longest prefixes) must only come
to the same result.

**What a rule does**: with a redirect, it answers itself. Else one of its backends is picked by weight, the request is
changed and sent to one of the backend's endpoints, each with the same chance, within the timeouts. A choice without a
backend is answered 500, a backend without endpoints 503.

All text in here has been checked: hosts and names by their grammar, no control characters anywhere, regular expressions
in the dialect said below. It may hold every other special character, so that quoting it is the translator's business.
All values are immutable and compare by content: comparing two plans, or any parts of them, shows what has changed.
"""

import enum
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from kproxy.api.types import ObjectKey

# --- hosts -----------------------------------------------------------------------------------------------------------


class HostKind(enum.Enum):
    """How a host pattern matches. Declared in the order of precedence."""

    EXACT = "exact"
    """The host is `HostPattern.name`."""
    WILDCARD_ONE = "wildcard for one label"
    """The host is one label, a dot and `HostPattern.name`: Ingress' ``*.example.com`` matches a.example.com only."""
    WILDCARD = "wildcard"
    """The host is one or more labels, a dot and `HostPattern.name`: Gateway API's ``*.example.com`` matches
    a.b.example.com, too."""
    ANY = "any"
    """Every host matches, and so does a request that names none."""


class HostPattern(NamedTuple):
    """Which hosts are meant. ``name`` is in lower case, and empty for `HostKind.ANY`."""

    kind: HostKind
    name: str = ""

    def matches(self, host: str) -> bool:
        """Tell whether a host (in lower case, without port) is meant: the definition, for tests and for explaining."""
        match self.kind:
            case HostKind.EXACT:
                return host == self.name
            case HostKind.WILDCARD_ONE:
                label, dot, rest = host.partition(".")
                return bool(label and dot) and rest == self.name
            case HostKind.WILDCARD:
                return host.endswith(f".{self.name}") and len(host) > len(self.name) + 1
            case HostKind.ANY:
                return True

    def __str__(self) -> str:
        """As people write it: ``a.example.com``, ``*.example.com``, ``*``."""
        match self.kind:
            case HostKind.EXACT:
                return self.name
            case HostKind.ANY:
                return "*"
        return f"*.{self.name}"


ANY_HOST = HostPattern(HostKind.ANY)

# --- matches ---------------------------------------------------------------------------------------------------------


class PathKind(enum.Enum):
    """How a path is compared. The path is the request's as it came, without the query; letter case counts."""

    EXACT = "exact"
    """The path is the value."""
    PREFIX = "prefix"
    """Element by element: the path is the value, or begins with the value and a slash. The value has no trailing slash:
    ``/a`` matches /a, /a/ and /a/b but not /ab, and the empty value matches every path."""
    REGEX = "regex"
    """See `Match`."""


class PathMatch(NamedTuple):
    """A condition on the path."""

    kind: PathKind
    value: str


ANY_PATH = PathMatch(PathKind.PREFIX, "")


class ValueKind(enum.Enum):
    """How the value of a header or of a query parameter is compared."""

    EXACT = "exact"
    """Octet by octet: letter case counts."""
    REGEX = "regex"
    """See `Match`."""


class ValueMatch(NamedTuple):
    """A condition on one header or query parameter.

    A header's ``name`` is in lower case and compared without regard to case; its value is the whole field value, commas
    and all, without white space around it. A query parameter's ``name`` is compared as it is, against the parameter's
    first occurrence; both name and value are compared with what is left after percent-decoding.
    """

    name: str
    kind: ValueKind
    value: str


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """A request matches if it fulfils all the conditions.

    Regular expressions are of the dialect that PCRE2 and Python's ``re`` have in common, and are *searched* for: where
    the whole has to match, they bring their own anchors along.
    """

    path: PathMatch = ANY_PATH
    method: str | None = None
    """GET, POST …; None for every method."""
    headers: tuple[ValueMatch, ...] = ()
    """By name, each name once."""
    query: tuple[ValueMatch, ...] = ()
    """By name, each name once."""

    @property
    def path_only(self) -> bool:
        """Whether the path alone decides, so that a table of paths can stand for the route."""
        return self.method is None and not self.headers and not self.query


# --- rules -----------------------------------------------------------------------------------------------------------


class RuleKey(NamedTuple):
    """Names a rule, in metrics, in logs and for ``explain``. Unique in a plan and stable while the object is unchanged.

    ``rule`` counts the object's rules from 0. For an Ingress that is its paths, in the order they are written
    across all its ``spec.rules``, and -1 is its default backend. ``variant`` is 0 but where a rule replaces the prefix
    that matched: that depends on the match, so there is a rule for each of them.
    """

    kind: str
    """``Ingress`` or ``HTTPRoute``."""
    namespace: str
    name: str
    rule: int
    variant: int = 0

    def __str__(self) -> str:
        """``HTTPRoute/namespace/name/rule``, with ``.variant`` where that is not 0."""
        base = f"{self.kind}/{self.namespace}/{self.name}/{self.rule}"
        return f"{base}.{self.variant}" if self.variant else base


class Header(NamedTuple):
    """One header to set or to add. The name is spelled as the object spells it."""

    name: str
    value: str


class HeaderChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What is done to headers. No name is in it twice, whatever its case, so that the order does not matter."""

    set: tuple[Header, ...] = ()
    """Replaces all headers of the name."""
    add: tuple[Header, ...] = ()
    """Stands beside the headers of the name that there are."""
    remove: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.set or self.add or self.remove)


NO_CHANGES = HeaderChanges()


class ReplaceFullPath(NamedTuple):
    """The path becomes ``path`` (which begins with a slash); the query stays."""

    path: str


class ReplacePrefix(NamedTuple):
    """The path's first ``len(prefix)`` characters are replaced; where nothing is left, by ``/``. The query stays.

    Neither value has a trailing slash, and both may be empty: the route's match made sure that the path is ``prefix``,
    or begins with it and a slash. (Gateway API's table for ReplacePrefixMatch comes out of this; its spelling, HTTP
    path modifier.)
    """

    prefix: str
    replacement: str

    def apply(self, path: str) -> str:
        """Return the new path: the definition, for tests and for explaining."""
        return f"{self.replacement}{path[len(self.prefix) :]}" or "/"


PathChange = ReplaceFullPath | ReplacePrefix


class Redirect(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that sends the client elsewhere: what is None is taken from the request, and so is the query.

    The port is left out of the Location where it is the scheme's own (http 80, https 443).
    """

    scheme: str | None = None
    """``http`` or ``https``; None for the frontend's."""
    host: str | None = None
    """None for the request's host, without its port."""
    port: int | None = None
    """None for the frontend's public port."""
    path: PathChange | None = None
    code: int = 302
    """301, 302, 303, 307 or 308."""


class Rewrite(msgspec.Struct, frozen=True, kw_only=True):
    """How the request is changed before it goes to a backend. Headers are changed after this."""

    host: str | None = None
    """The new Host header; X-Forwarded-Host keeps the old one."""
    path: PathChange | None = None


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """In milliseconds; None where nothing is said and the engine's default holds, 0 for no timeout at all."""

    request: int | None = None
    """From the request's arrival until the answer is complete; then 504, if the answer has not begun."""
    backend_request: int | None = None
    """From sending the request to an endpoint until its answer is complete, for each attempt; then 504."""


NO_TIMEOUTS = Timeouts()


class BackendKey(NamedTuple):
    """Names a backend: one port of a Service, by number."""

    namespace: str
    service: str
    port: int

    @property
    def key(self) -> ObjectKey:
        """The Service."""
        return ObjectKey(self.namespace, self.service)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.service}:{self.port}"


class WeightedBackend(msgspec.Struct, frozen=True, kw_only=True):
    """A choice of where a request goes. Its chance is its weight by the sum of the rule's weights."""

    backend: BackendKey | None
    """Into `Plan.backends`; None where the reference is not valid: such a choice is answered with 500."""
    weight: int = 1
    """From 1 to 1,000,000: choices of weight 0 are not in the plan."""
    request_headers: HeaderChanges = NO_CHANGES
    """Done to requests that go here, after the rule's own changes."""
    response_headers: HeaderChanges = NO_CHANGES
    """Done to answers that come from here, before the rule's own changes."""


class Mirror(msgspec.Struct, frozen=True, kw_only=True):
    """Where a copy of requests goes; answers to it are thrown away. In `numerator` of `denominator` cases."""

    backend: BackendKey
    numerator: int = 100
    denominator: int = 100


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What is done with the requests of a route."""

    key: RuleKey
    redirect: Redirect | None = None
    """Where it is set, it is the answer, with `response_headers` applied, and everything else here is empty."""
    rewrite: Rewrite | None = None
    request_headers: HeaderChanges = NO_CHANGES
    response_headers: HeaderChanges = NO_CHANGES
    """Done to backends' answers and to redirects, not to the engine's own errors."""
    mirrors: tuple[Mirror, ...] = ()
    timeouts: Timeouts = NO_TIMEOUTS
    backends: tuple[WeightedBackend, ...] = ()
    """Empty, and no redirect: the answer is 500."""


class Route(msgspec.Struct, frozen=True):
    """A match, and the rule of requests that fulfil it."""

    match: Match
    rule: RuleKey
    """Into `Plan.rules`. One rule may have several matches, and stand in several hosts and listeners."""


# --- listeners -------------------------------------------------------------------------------------------------------


class Host(msgspec.Struct, frozen=True):
    """The routes of the requests for some host names, in order of precedence: the first that matches holds.

    There are no two routes with equal matches.
    """

    pattern: HostPattern
    routes: tuple[Route, ...]


class ListenerKey(NamedTuple):
    """Names a listener: of a Gateway, or (with everything but ``kind`` empty) that of all Ingresses."""

    kind: str
    """``Gateway`` or ``Ingress``."""
    namespace: str = ""
    name: str = ""
    section: str = ""
    """The listener's name in its Gateway."""

    def __str__(self) -> str:
        """``Gateway/namespace/name/section``."""
        return "/".join(part for part in self if part)


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """What answers for some host names at a frontend."""

    pattern: HostPattern
    """Unique in its frontend."""
    owners: tuple[ListenerKey, ...]
    """Whose it is, oldest first: several where those who share a port want the same host names."""
    hosts: tuple[Host, ...] = ()
    """Each pattern once, most specific first: exact ones, wildcards by falling length, any."""


class Bind(NamedTuple):
    """Where connections are accepted. ``address`` is an IP address, or empty for every address of both families."""

    address: str
    port: int

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{address}:{self.port}"


class Protocol(enum.Enum):
    """What is spoken with clients."""

    HTTP = "http"
    """HTTP/1.1, and HTTP/2 with prior knowledge."""
    HTTPS = "https"
    """TLS, with HTTP/2 or HTTP/1.1 by ALPN."""


class ServerName(msgspec.Struct, frozen=True):
    """Which certificates are shown to clients that ask for a name (SNI): the first that suits the client's TLS."""

    pattern: HostPattern
    certificates: tuple[ObjectKey, ...]
    """Into `Plan.certificates`; at least one."""


class Tls(msgspec.Struct, frozen=True):
    """Certificates of an https frontend. The first server name whose pattern matches holds."""

    names: tuple[ServerName, ...]
    """Each pattern once, most specific first. The last may be for any name: its first certificate is the `fallback`,
    unless another one was asked for."""
    fallback: ObjectKey | None = None
    """Into `Plan.certificates`: for clients that ask for no name, or for one that is not here. None where nobody has
    asked for one: such clients are refused, in the handshake. With no names either, every client is."""


class Frontend(msgspec.Struct, frozen=True, kw_only=True):
    """A TCP port that clients connect to, at one or more addresses. No two frontends share a bind."""

    binds: tuple[Bind, ...]
    """Sorted; at least one. It is the frontend's identity: the same binds are the same sockets."""
    port: int
    """The port as clients know it, which differs from the bind's where a Service or a node port is in front."""
    protocol: Protocol
    listeners: tuple[Listener, ...] = ()
    """Most specific first."""
    tls: Tls | None = None
    """Set for https, and only then."""


# --- backends and certificates ---------------------------------------------------------------------------------------


class BackendProtocol(enum.Enum):
    """What endpoints speak, by the Service port's appProtocol (KEP-3726)."""

    HTTP = "http"
    """HTTP/1.1, upgrades included."""
    H2C = "h2c"
    """HTTP/2 in clear text with prior knowledge, gRPC above all."""
    WEBSOCKET = "ws"
    """HTTP/1.1 that is going to be upgraded: a client's WebSocket over HTTP/2 is translated."""


class Endpoint(NamedTuple):
    """A pod's address."""

    ip: str
    port: int
    draining: bool = False
    """No new requests, but those under way are finished. Endpoints that terminate while nothing is ready are not
    draining: a request to a pod on its way out is better than none (KEP-1669), and the plan has decided so."""


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """What is behind one port of a Service. Only the endpoints change often, and they are values of their own."""

    key: BackendKey
    protocol: BackendProtocol = BackendProtocol.HTTP
    endpoints: tuple[Endpoint, ...] = ()
    """Sorted by address and port, each once, of both families. With none that takes new requests the answer is 503."""


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """A server's certificate and key, known to be well-formed and to belong together."""

    key: ObjectKey
    """The Secret."""
    chain_pem: str
    """The certificate, then the rest of the chain."""
    key_pem: str

    def __repr__(self) -> str:
        """Say which one it is, and nothing of the key."""
        return f"Certificate({self.key})"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an engine is told. What frontends refer to is here, and nothing here is without a reference."""

    frontends: tuple[Frontend, ...] = ()
    """Sorted by their binds."""
    rules: Mapping[RuleKey, Rule] = {}
    backends: Mapping[BackendKey, Backend] = {}
    certificates: Mapping[ObjectKey, Certificate] = {}
