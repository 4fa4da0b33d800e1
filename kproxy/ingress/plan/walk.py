"""What becomes of one request, step by step, as the plan says: its definition, for ``explain`` and for tests."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from kproxy.ingress.plan.action import Rule, WeightedBackend
from kproxy.ingress.plan.matching import Match, PathKind, PathMatch, ValueKind, ValueMatch
from kproxy.ingress.plan.model import Frontend, Host, Listener, Plan, Protocol, Route

NOT_FOUND = 404
MISDIRECTED = 421
NO_BACKEND = 500
NO_ENDPOINT = 503


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What of a request decides where it goes."""

    host: str = ""
    """As in the Host header; a port in it means nothing."""
    path: str = "/"
    method: str = "GET"
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    """Percent-decoded, the first of each name."""
    server_name: str | None = None
    """What TLS was told (SNI); None where that is the host, too."""


class Found(NamedTuple):
    """Where a request ended up."""

    listener: Listener | None = None
    host: Host | None = None
    route: Route | None = None
    rule: Rule | None = None
    status: int = 0
    """The code of the answer, if the engine gives it by itself; 0 where the rule redirects or backends answer."""


def find(plan: Plan, frontend: Frontend, request: Request) -> Found:
    """Return what the plan says of a request that came in at a frontend."""
    host = plain_host(request.host)
    listener = _first(frontend.listeners, host)
    if listener is None:
        return Found(status=NOT_FOUND)
    if frontend.protocol is Protocol.HTTPS and request.server_name is not None:
        chosen = _first(frontend.listeners, request.server_name.lower())
        if chosen is not None and chosen != listener:
            return Found(listener, status=MISDIRECTED)
    headers = {name.lower(): value for name, value in request.headers.items()}
    for candidate in listener.hosts:
        if candidate.pattern.matches(host):
            for route in candidate.routes:
                if fulfils(request, headers, route.match):
                    rule = plan.rules[route.rule]
                    return Found(listener, candidate, route, rule, _status(plan, rule))
    return Found(listener, status=NOT_FOUND)


def plain_host(text: str) -> str:
    """Return the host of a Host header: in lower case, without port and final dot."""
    host = text.lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].removesuffix(".")


def fulfils(request: Request, headers: Mapping[str, str], match: Match) -> bool:
    """Tell whether a request fulfils all conditions of a match; the names of ``headers`` are in lower case."""
    return (
        _path_fulfils(request.path, match.path)
        and match.method in (None, request.method)
        and all(_value_fulfils(headers.get(one.name), one) for one in match.headers)
        and all(_value_fulfils(request.query.get(one.name), one) for one in match.query)
    )


def _path_fulfils(path: str, match: PathMatch) -> bool:
    match match.kind:
        case PathKind.EXACT:
            return path == match.value
        case PathKind.PREFIX:
            return path == match.value or path.startswith(f"{match.value}/")
        case PathKind.REGEX:
            return re.search(match.value, path) is not None


def _value_fulfils(value: str | None, match: ValueMatch) -> bool:
    if value is None:
        return False
    return value == match.value if match.kind is ValueKind.EXACT else re.search(match.value, value) is not None


def _status(plan: Plan, rule: Rule) -> int:
    """Return the code that every request of a rule is answered with; 0 where it depends, or others answer."""
    if rule.redirect is not None:
        return 0
    answers = {_choice_status(plan, choice) for choice in rule.backends} or {NO_BACKEND}
    return answers.pop() if len(answers) == 1 else 0


def _choice_status(plan: Plan, choice: WeightedBackend) -> int:
    if choice.backend is None:
        return NO_BACKEND
    if choice.redirect is not None:
        return 0
    backend = plan.backends[choice.backend]
    return 0 if any(not endpoint.draining for endpoint in backend.endpoints) else NO_ENDPOINT


def _first(listeners: tuple[Listener, ...], host: str) -> Listener | None:
    return next((one for one in listeners if one.pattern.matches(host)), None)
