"""What the rules of an HTTPRoute match and do. Source: HTTPRouteRule.

A rule that cannot be done as it stands is dropped as a whole, and named; the route's other rules hold. A reference that
leads nowhere drops nothing: the requests that would have gone there are answered with 500, as the API demands.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from kproxy.api.types import ObjectKey
from kproxy.ingress.api.httproute import (
    BackendReference,
    HTTPBackendReference,
    HTTPRoute,
    HTTPRouteMatch,
    HTTPRouteRetry,
    HTTPRouteRule,
    HTTPRouteTimeouts,
    PathMatch,
    ValueMatch,
)
from kproxy.ingress.plan import grammar, matching, regex
from kproxy.ingress.plan.action import (
    NO_TIMEOUTS,
    BackendKey,
    Mirror,
    Retry,
    Rule,
    RuleKey,
    Timeouts,
    WeightedBackend,
)
from kproxy.ingress.plan.gateway.filters import Actions, Unsupported, mirrored_part, read_filters, redirect, rewrite
from kproxy.ingress.plan.gateway.grants import Grants, Referrer
from kproxy.ingress.plan.grammar import NotUsable
from kproxy.ingress.plan.matching import Match, PathKind
from kproxy.ingress.plan.services import Unresolved, resolve
from kproxy.ingress.plan.settings import PlanSettings
from kproxy.ingress.plan.world import World
from kproxy.wording import quote

KIND = "HTTPRoute"
MOST_WEIGHT = 1_000_000
_SERVICE = "Service"
_RETRIED_CODES = frozenset({401, 403, 404, 408, 425, 500, 501, 502, 503, 504})
_USUAL_ATTEMPTS, _MOST_ATTEMPTS = 3, 20
_VALUE_KINDS = {"Exact": matching.ValueKind.EXACT, "RegularExpression": matching.ValueKind.REGEX}


class Matched(NamedTuple):
    """A match, by its number in its rule, and the rule for the requests that fulfil it."""

    match: Match
    number: int
    rule: Rule


class Dropped(NamedTuple):
    """A rule that is left out."""

    rule: int
    reason: str
    message: str


class Broken(NamedTuple):
    """A reference that leads nowhere."""

    rule: int
    reason: str
    message: str


class RouteRules(NamedTuple):
    """All that the rules of a route come to."""

    matched: tuple[Matched, ...]
    dropped: tuple[Dropped, ...]
    broken: tuple[Broken, ...]
    services: frozenset[ObjectKey]
    """All Services named, whether there are such or not."""


class References(NamedTuple):
    """What references are followed by."""

    world: World
    grants: Grants
    settings: PlanSettings


def read_rules(route: HTTPRoute, references: References) -> RouteRules:
    """Return what the rules of a route match and do. Without any, there is one for all requests."""
    reader = _RuleReader(route, references)
    rules = route.spec.rules if route.spec.rules is not None else (HTTPRouteRule(),)
    matched: list[Matched] = []
    dropped: list[Dropped] = []
    for number, rule in enumerate(rules):
        try:
            matched += reader.read(number, rule)
        except Unsupported as error:
            dropped.append(Dropped(number, error.reason, str(error)))
    return RouteRules(tuple(matched), tuple(dropped), tuple(reader.broken), frozenset(reader.services))


class _RuleReader:
    """Reads the rules of one route, and gathers the references that lead nowhere."""

    def __init__(self, route: HTTPRoute, references: References) -> None:
        self._key = route.metadata.key
        self._world, self._grants, self._settings = references
        self.broken: list[Broken] = []
        self.services: set[ObjectKey] = set()

    def read(self, number: int, rule: HTTPRouteRule) -> list[Matched]:
        """Return the matches of a rule, each with what is to be done. Raises `Unsupported`."""
        matches = [read_match(match) for match in rule.matches or (HTTPRouteMatch(),)]
        actions = read_filters(rule.filters or ())
        if actions.mirrors and not self._settings.mirrors:
            raise Unsupported("filter 'RequestMirror' is not supported by this engine")
        if rule.session_persistence is not None:
            raise Unsupported("sessionPersistence is not supported")
        limits = _timeouts(rule.timeouts), _retry(rule.retry)
        choices = [found for ref in rule.backend_refs or () if (found := self._choice(number, ref)) is not None]
        of_match = actions.replaces_prefix or any(done.replaces_prefix for _, done in choices)
        if actions.fails:
            self.broken.append(Broken(number, "InvalidKind", actions.fails))
        mirrors = tuple(self._mirrors(number, actions))
        made: list[Matched] = []
        for index, match in enumerate(matches):
            variant = index if of_match else 0
            key = RuleKey(KIND, self._key.namespace, self._key.name, number, variant)
            done = _rule(key, match, actions, *limits)
            if done.redirect is None and not actions.fails:
                backends = tuple(_for_match(choice, found, match) for choice, found in choices)
                done = msgspec.structs.replace(done, backends=backends, mirrors=mirrors)
            made.append(Matched(match, index, done))
        return made

    def _choice(self, number: int, ref: HTTPBackendReference) -> tuple[WeightedBackend, Actions] | None:
        """Return a choice of where requests go, and what is done with those that do.

        None for one of weight 0, which is followed to be judged only.
        """
        weight = 1 if ref.weight is None else ref.weight
        if not 0 <= weight <= MOST_WEIGHT:
            raise Unsupported(f"weight {weight} is not in 0-{MOST_WEIGHT}")
        actions = read_filters(ref.filters or (), of_backend=True)
        target = self._follow(number, ref)
        if weight == 0:
            return None
        choice = WeightedBackend(
            backend=target,
            weight=weight,
            request_headers=actions.request_headers,
            response_headers=actions.response_headers,
        )
        return choice, actions

    def _mirrors(self, number: int, actions: Actions) -> Iterator[Mirror]:
        for mirror in actions.mirrors:
            target = self._follow(number, mirror.backend_ref)
            numerator, denominator = mirrored_part(mirror)
            if target is not None and numerator:
                yield Mirror(backend=target, numerator=numerator, denominator=denominator)

    def _follow(self, number: int, ref: BackendReference) -> BackendKey | None:
        """Return the backend that is referred to; None, which is noted, where the reference leads nowhere."""
        try:
            return self._resolve(ref)
        except Unresolved as error:
            self.broken.append(Broken(number, error.reason, str(error)))
            return None

    def _resolve(self, ref: BackendReference) -> BackendKey:
        kind = _SERVICE if ref.kind is None else ref.kind
        if kind != _SERVICE or ref.group:
            name = f"{ref.group}/{kind}" if ref.group else kind
            raise Unresolved("InvalidKind", f"{quote(name)} cannot be a backend; refer to a Service")
        target = ObjectKey(ref.namespace or self._key.namespace, ref.name)
        if not self._grants.allow(Referrer(KIND, self._key.namespace), _SERVICE, target):
            raise Unresolved("RefNotPermitted", f"no ReferenceGrant lets {KIND}s here refer to Service {target}")
        self.services.add(target)
        if ref.port is None:
            raise Unresolved("BackendNotFound", f"the reference to Service {target} names no port")
        return resolve(self._world.services, target, number=ref.port)


def read_match(match: HTTPRouteMatch) -> Match:
    """Return a match in the plan's terms. Raises `Unsupported`."""
    try:
        return Match(
            path=_path(match.path or PathMatch()),
            method=None if match.method is None else grammar.method(match.method),
            headers=_values(match.headers or (), str.lower),
            query=_values(match.query_params or (), str),
        )
    except NotUsable as error:
        raise Unsupported(str(error)) from error


def _path(match: PathMatch) -> matching.PathMatch:
    value = "/" if match.value is None else match.value
    match match.type:
        case None | "PathPrefix":
            return matching.PathMatch(PathKind.PREFIX, grammar.prefix(value))
        case "Exact":
            return matching.PathMatch(PathKind.EXACT, grammar.path(value))
        case "RegularExpression":
            return matching.PathMatch(PathKind.REGEX, regex.whole(value))
    raise Unsupported(f"path type {quote(match.type)} is not one of Exact, PathPrefix, RegularExpression")


def _values(matches: Sequence[ValueMatch], fold: Callable[[str], str]) -> tuple[matching.ValueMatch, ...]:
    """Read conditions on headers or query parameters: of several with one name the first holds."""
    found: dict[str, matching.ValueMatch] = {}
    for match in matches:
        kind = _VALUE_KINDS.get(match.type or "Exact")
        if kind is None:
            raise Unsupported(f"type {quote(match.type or '')} is not one of {', '.join(_VALUE_KINDS)}")
        name = fold(grammar.header_name(match.name))
        value = grammar.value(match.value) if kind is matching.ValueKind.EXACT else regex.whole(match.value)
        found.setdefault(name, matching.ValueMatch(name, kind, value))
    return tuple(found[name] for name in sorted(found))


def _for_match(choice: WeightedBackend, actions: Actions, match: Match) -> WeightedBackend:
    """Add to a choice what depends on the match."""
    prefix = match.path.value if match.path.kind is PathKind.PREFIX else None
    return msgspec.structs.replace(
        choice,
        redirect=redirect(actions.redirect, prefix) if actions.redirect is not None else None,
        rewrite=rewrite(actions.rewrite, prefix) if actions.rewrite is not None else None,
    )


def _rule(key: RuleKey, match: Match, actions: Actions, timeouts: Timeouts, retry: Retry | None) -> Rule:
    prefix = match.path.value if match.path.kind is PathKind.PREFIX else None
    if actions.redirect is not None:
        return Rule(key=key, redirect=redirect(actions.redirect, prefix), response_headers=actions.response_headers)
    return Rule(
        key=key,
        rewrite=rewrite(actions.rewrite, prefix) if actions.rewrite is not None else None,
        request_headers=actions.request_headers,
        response_headers=actions.response_headers,
        cors=actions.cors,
        timeouts=timeouts,
        retry=retry,
    )


def _timeouts(timeouts: HTTPRouteTimeouts | None) -> Timeouts:
    if timeouts is None:
        return NO_TIMEOUTS
    request, backend_request = _milliseconds(timeouts.request), _milliseconds(timeouts.backend_request)
    if request and backend_request and backend_request > request:
        raise Unsupported(f"timeout backendRequest ({backend_request} ms) is longer than request ({request} ms)")
    return Timeouts(request=request, backend_request=backend_request)


def _retry(retry: HTTPRouteRetry | None) -> Retry | None:
    if retry is None:
        return None
    if retry.backoff is not None:
        raise Unsupported("retry.backoff is not supported: another endpoint is tried at once")
    attempts = _USUAL_ATTEMPTS if retry.attempts is None else retry.attempts
    if not 0 <= attempts <= _MOST_ATTEMPTS:
        raise Unsupported(f"retry.attempts {attempts} is not in 0-{_MOST_ATTEMPTS}")
    codes = sorted(set(retry.codes or ()))
    other = [code for code in codes if code not in _RETRIED_CODES]
    if other:
        supported = ", ".join(map(str, sorted(_RETRIED_CODES)))
        raise Unsupported(f"retry.codes: {', '.join(map(str, other))} cannot be tried again, only {supported}")
    return Retry(attempts=attempts, codes=tuple(codes))


def _milliseconds(text: str | None) -> int | None:
    try:
        return None if text is None else grammar.duration(text)
    except NotUsable as error:
        raise Unsupported(str(error)) from error
