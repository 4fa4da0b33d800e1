"""Walks the plan with one request, and says what it meets."""

from collections.abc import Iterator

from kproxy.ingress.explain.model import Answer, Choice, Endpoint, Verdict, Way
from kproxy.ingress.explain.question import Asked, Question, read
from kproxy.ingress.plan.action import (
    HeaderChanges,
    PathChange,
    Redirect,
    ReplaceFullPath,
    Rewrite,
    Rule,
    Timeouts,
    WeightedBackend,
)
from kproxy.ingress.plan.matching import Match, PathKind, ValueKind
from kproxy.ingress.plan.model import Frontend, Host, Listener, Plan
from kproxy.ingress.plan.walk import MISDIRECTED, NO_BACKEND, NO_ENDPOINT, Found, find, plain_host

_MOST_NEAR = 12
_OWN_PORT = {"http": 80, "https": 443}


def explain(plan: Plan, question: Question) -> Answer:
    """Say what becomes of a request. Raises QuestionError."""
    asked = read(question)
    frontends = [one for one in plan.frontends if one.port == asked.port and one.protocol is asked.protocol]
    notes: tuple[str, ...] = ()
    if not frontends:
        served = ", ".join(sorted({f"{one.port} ({one.protocol.value})" for one in plan.frontends})) or "none"
        notes = (f"nothing is served at port {asked.port} by {asked.protocol.value}; ports served: {served}",)
    ways = tuple(_way(plan, frontend, asked) for frontend in frontends)
    return Answer(url=question.url, method=question.method, ways=ways, notes=notes)


def _way(plan: Plan, frontend: Frontend, asked: Asked) -> Way:
    found = find(plan, frontend, asked.request)
    binds, protocol = tuple(map(str, frontend.binds)), frontend.protocol.value
    owners = tuple(map(_owner, found.listener.owners)) if found.listener is not None else ()
    if found.rule is None or found.route is None or found.host is None:
        misdirected = found.status == MISDIRECTED
        return Way(
            binds=binds,
            protocol=protocol,
            verdict=Verdict.REFUSE if misdirected else Verdict.NONE,
            status=found.status,
            owners=owners,
            near=tuple(_near(frontend, found.listener, asked)),
        )
    rule = found.rule
    choices = tuple(_choices(plan, rule, frontend, asked))
    return Way(
        binds=binds,
        protocol=protocol,
        verdict=_verdict(found, choices),
        status=rule.redirect.code if rule.redirect is not None else found.status,
        owners=owners,
        host=str(found.host.pattern),
        match=describe(found.route.match),
        kind=rule.key.kind,
        object=f"{rule.key.namespace}/{rule.key.name}",
        rule=rule.key.rule,
        location=_location(rule.redirect, frontend, asked) if rule.redirect is not None else "",
        changes=tuple(_changes(rule, asked.request.path)),
        choices=choices,
    )


def _owner(key: object) -> str:
    text = str(key)
    return "all Ingresses" if text == "Ingress" else text


def _verdict(found: Found, choices: tuple[Choice, ...]) -> Verdict:
    if found.rule is not None and found.rule.redirect is not None:
        return Verdict.REDIRECT
    return Verdict.FORWARD if any(not choice.status for choice in choices) else Verdict.REFUSE


def describe(match: Match) -> str:
    """Return a match in a few words."""
    path = {
        PathKind.EXACT: f"path {match.path.value}",
        PathKind.PREFIX: f"path {match.path.value}/…" if match.path.value else "every path",
        PathKind.REGEX: f"path like {match.path.value}",
    }[match.path.kind]
    parts = [path, *([f"method {match.method}"] if match.method else [])]
    for what, values in (("header", match.headers), ("query parameter", match.query)):
        parts += [f"{what} {one.name} {'=' if one.kind is ValueKind.EXACT else 'like'} {one.value}" for one in values]
    return ", ".join(parts)


# --- what a rule does ------------------------------------------------------------------------------------------------


def _choices(plan: Plan, rule: Rule, frontend: Frontend, asked: Asked) -> Iterator[Choice]:
    total = sum(choice.weight for choice in rule.backends)
    for choice in rule.backends:
        share = round(choice.weight / total, 9)
        if choice.redirect is not None and choice.backend is not None:
            sent = f"answered {choice.redirect.code}: go to {_location(choice.redirect, frontend, asked)}"
            yield Choice(service=str(choice.backend), share=share, changes=(sent,))
        else:
            yield _choice(plan, choice, share, asked.request.path)


def _choice(plan: Plan, choice: WeightedBackend, share: float, path: str) -> Choice:
    if choice.backend is None:
        return Choice(service="", share=share, status=NO_BACKEND)
    backend = plan.backends[choice.backend]
    ready = sum(not endpoint.draining for endpoint in backend.endpoints)
    return Choice(
        service=str(choice.backend),
        share=share,
        protocol=backend.protocol.value,
        status=0 if ready else NO_ENDPOINT,
        changes=(
            *_rewritten(choice.rewrite, path),
            *_header_changes("request", choice.request_headers),
            *_header_changes("answer", choice.response_headers),
        ),
        endpoints=tuple(
            Endpoint(
                address=f"[{one.ip}]:{one.port}" if ":" in one.ip else f"{one.ip}:{one.port}",
                share=0.0 if one.draining else round(1 / ready, 9),
                draining=one.draining,
            )
            for one in backend.endpoints
        ),
    )


def _changes(rule: Rule, path: str) -> Iterator[str]:
    yield from _rewritten(rule.rewrite, path)
    yield from _header_changes("request", rule.request_headers)
    yield from _header_changes("answer", rule.response_headers)
    if rule.cors is not None:
        yield f"other origins may read the answer if they are like {rule.cors.origins}"
    for mirror in rule.mirrors:
        part = "" if mirror.numerator == mirror.denominator else f" of {mirror.numerator}/{mirror.denominator}"
        yield f"a copy{part} goes to {mirror.backend}"
    yield from _timeouts(rule.timeouts)
    if rule.retry is not None:
        codes = "".join(f", {code}" for code in rule.retry.codes)
        yield f"tried again up to {rule.retry.attempts} times after: no connection, no answer{codes}"


def _rewritten(rewrite: Rewrite | None, path: str) -> Iterator[str]:
    if rewrite is not None and rewrite.host is not None:
        yield f"Host becomes {rewrite.host}"
    if rewrite is not None and rewrite.path is not None:
        yield f"the path becomes {_changed(rewrite.path, path)}"


def _header_changes(of: str, changes: HeaderChanges) -> Iterator[str]:
    for name, value in changes.set:
        yield f"{of} header {name} is set to {value}"
    for name, value in changes.add:
        yield f"{of} header {name} is added: {value}"
    for name in changes.remove:
        yield f"{of} header {name} is removed"


def _timeouts(timeouts: Timeouts) -> Iterator[str]:
    for what, limit in (("the whole request", timeouts.request), ("each attempt", timeouts.backend_request)):
        if limit is not None:
            yield f"{what} may take {limit / 1000:g} s" if limit else f"{what} may take any time"


def _changed(change: PathChange, path: str) -> str:
    return change.path if isinstance(change, ReplaceFullPath) else change.apply(path)


def _location(redirect: Redirect, frontend: Frontend, asked: Asked) -> str:
    scheme = redirect.scheme or frontend.protocol.value
    host = redirect.host or plain_host(asked.request.host)
    port = redirect.port or frontend.port
    path = asked.request.path if redirect.path is None else _changed(redirect.path, asked.request.path)
    query = f"?{asked.raw_query}" if asked.raw_query else ""
    return f"{scheme}://{host}{'' if port == _OWN_PORT[scheme] else f':{port}'}{path}{query}"


# --- where nothing is met --------------------------------------------------------------------------------------------


def _near(frontend: Frontend, listener: Listener | None, asked: Asked) -> Iterator[str]:
    host = plain_host(asked.request.host)
    if listener is None:
        patterns = [str(one.pattern) for one in frontend.listeners]
        yield f"no listener is for host {host}; there are {_some(patterns)}" if patterns else "there are no listeners"
        return
    met = [one for one in listener.hosts if one.pattern.matches(host)]
    if not met:
        yield f"no rule is for host {host}; there are rules for {_some([str(one.pattern) for one in listener.hosts])}"
    for one in met:
        yield f"no rule of host {one.pattern} is met; there are {_some(_matches(one))}"


def _matches(host: Host) -> list[str]:
    return [f"{describe(route.match)} ({route.rule})" for route in host.routes]


def _some(texts: list[str]) -> str:
    if not texts:
        return "none"
    more = f" and {len(texts) - _MOST_NEAR} more" if len(texts) > _MOST_NEAR else ""
    return "; ".join(texts[:_MOST_NEAR]) + more
