"""What is done with a request once it is recognised: the `Rule`, and what it is made of.

See `kproxy.ingress.plan.model` for how a request finds its rule.
"""

from typing import NamedTuple

import msgspec

from kproxy.api.types import ObjectKey


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


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """When a request is sent to another endpoint, or once more to the only one.

    That is where the connection fails or ends without an answer, where the answer takes longer than
    `Timeouts.backend_request`, and where the answer has one of the codes.
    """

    attempts: int
    """How often at most, beyond the first time."""
    codes: tuple[int, ...] = ()
    """Sorted."""


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
    redirect: Redirect | None = None
    """Where it is set, it is the answer for this share of the requests, and nothing is sent to the backend."""
    rewrite: Rewrite | None = None
    """Done instead of the rule's own."""
    request_headers: HeaderChanges = NO_CHANGES
    """Done to requests that go here, after the rule's own changes."""
    response_headers: HeaderChanges = NO_CHANGES
    """Done to answers that come from here, before the rule's own changes."""


class Mirror(msgspec.Struct, frozen=True, kw_only=True):
    """Where a copy of requests goes; answers to it are thrown away. In `numerator` of `denominator` cases."""

    backend: BackendKey
    numerator: int = 100
    denominator: int = 100


ANYTHING = "*"


class Cors(msgspec.Struct, frozen=True, kw_only=True):
    """Which pages of other origins may read the answers (Fetch standard, "CORS protocol").

    Preflights (OPTIONS with Origin and Access-Control-Request-Method) are answered 204 by the engine. What backends say
    in headers ``Access-Control-*`` themselves is removed. Answers to origins that are not allowed have no such header.
    """

    origins: str
    """A regular expression that is found in the origins allowed, whatever their case."""
    methods: tuple[str, ...] = ()
    """`ANYTHING` alone: the one that is asked for."""
    headers: tuple[str, ...] = ()
    """`ANYTHING` alone: those that are asked for."""
    exposed: tuple[str, ...] = ()
    credentials: bool = False
    max_age: int = 5
    """Seconds."""


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
    cors: Cors | None = None
    timeouts: Timeouts = NO_TIMEOUTS
    retry: Retry | None = None
    """None where nothing is said: what cannot be connected to is tried elsewhere, as the engine is used to."""
    backends: tuple[WeightedBackend, ...] = ()
    """Empty, and no redirect: the answer is 500."""
