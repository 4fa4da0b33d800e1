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
from kproxy.ingress.plan.action import BackendKey, Rule, RuleKey
from kproxy.ingress.plan.matching import HostPattern, Match

# --- listeners -------------------------------------------------------------------------------------------------------


class Route(msgspec.Struct, frozen=True):
    """A match, and the rule of requests that fulfil it."""

    match: Match
    rule: RuleKey
    """Into `Plan.rules`. One rule may have several matches, and stand in several hosts and listeners."""


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
