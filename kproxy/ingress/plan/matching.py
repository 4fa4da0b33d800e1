"""How a request is recognised: by its host, path, method, headers and query. See `kproxy.ingress.plan.model`."""

import enum
from typing import NamedTuple

import msgspec

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
