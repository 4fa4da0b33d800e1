"""What comes first: host patterns by how much they say, routes by how much they ask, and the older before the younger.

Sources: HTTPRouteRule.matches and HTTPRouteSpec.hostnames of Gateway API; "Multiple matches" of the Ingress page. The
two agree, as far as Ingress goes: an exact path before a prefix, a longer prefix before a shorter one. Where Gateway
API leaves it open, regular expressions stand between exact paths and prefixes, longer ones first.
"""

from typing import NamedTuple, TypeAlias

from kproxy.ingress.plan.action import RuleKey
from kproxy.ingress.plan.matching import HostKind, HostPattern, Match, PathKind

_KINDS = {kind: rank for rank, kind in enumerate(HostKind)}
_PATHS = {PathKind.EXACT: 0, PathKind.REGEX: 1, PathKind.PREFIX: 2}

HostRank: TypeAlias = tuple[int, int, int, str]
RouteRank: TypeAlias = tuple[object, ...]


class Seniority(NamedTuple):
    """What decides between matches that ask equally much: the oldest object, then by name, then as it is written."""

    created: str
    """RFC 3339."""
    kind: str
    namespace: str
    name: str
    rule: int = 0
    match: int = 0


class Entry(NamedTuple):
    """A match of a rule that wants to become a route of some host."""

    host: HostPattern
    match: Match
    rule: RuleKey
    seniority: Seniority
    is_default: bool = False
    """It takes what no other entry of the host wants (an Ingress' default backend)."""


def host_rank(pattern: HostPattern) -> HostRank:
    """Return what sorts patterns: exact ones, then wildcards by falling length, then any."""
    if pattern.kind is HostKind.EXACT:
        return 0, 0, 0, pattern.name
    if pattern.kind is HostKind.ANY:
        return 2, 0, 0, ""
    return 1, -len(pattern.name), _KINDS[pattern.kind], pattern.name


def route_rank(entry: Entry) -> RouteRank:
    """Return what sorts the entries of one host. No two entries of different matches have the same."""
    match = entry.match
    return (
        entry.is_default,
        _PATHS[match.path.kind],
        0 if match.path.kind is PathKind.EXACT else -len(match.path.value),
        match.method is None,
        -len(match.headers),
        -len(match.query),
        entry.seniority,
    )
