"""What the page shows of a plan, as data: a row for each route, with its backends. Pure."""

from collections.abc import Iterator, Mapping

import msgspec

from kproxy.ingress.explain.answer import describe
from kproxy.ingress.plan.action import BackendKey, Redirect, Rule
from kproxy.ingress.plan.model import Backend, Frontend, Plan
from kproxy.ingress.report.traffic import Reading, Way

MOST_ROWS = 2000
"""Routes that are shown; beyond that, people search by ``kproxy explain``."""


class Shown(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of what the page is told."""


class Target(Shown, frozen=True, kw_only=True):
    """Where a route leads."""

    service: str
    """``namespace/name:port``; empty where the reference leads nowhere."""
    share: float
    """Its part of the route's requests, 0 to 1."""
    ready: int = 0
    draining: int = 0


class Row(Shown, frozen=True, kw_only=True):
    """A route: what is met, and what is done."""

    host: str
    match: str
    rule: str
    """As metrics name it."""
    ports: tuple[str, ...]
    """Where it is served, as ``443 https``."""
    owners: tuple[str, ...] = ()
    """For an HTTPRoute, the Gateways whose listeners it is behind."""
    does: str = ""
    """What is done beside forwarding, if it is a redirect."""
    state: str = "serving"
    """``serving``, ``no endpoints`` (503), ``invalid`` (500) or ``redirect``; ``partly`` where it depends."""
    targets: tuple[Target, ...] = ()


class Total(Shown, frozen=True, kw_only=True):
    """What went one way since the program started."""

    rule: str
    backend: str
    codes: tuple[int, ...]
    """Answers by class: 1xx to 5xx."""
    errors: int
    """Connections and answers of endpoints that failed."""


def rows(plan: Plan) -> tuple[Row, ...]:
    """Return the routes of a plan, those of the same listener in their order of precedence."""
    found: dict[tuple[str, str, str], Row] = {}
    for frontend in plan.frontends:
        for row in _rows(plan, frontend):
            key = (row.host, row.match, row.rule)
            held = found.get(key)
            if held is not None:
                ports, owners = (*held.ports, *row.ports), (*held.owners, *row.owners)
                row = msgspec.structs.replace(held, ports=_each(ports), owners=_each(owners))
            elif len(found) >= MOST_ROWS:
                continue
            found[key] = row
    return tuple(found.values())


def count(plan: Plan) -> int:
    """Return how many routes there are, each counted once, however many ports it is served at."""
    return len(
        {
            (host.pattern, route.match, route.rule)
            for frontend in plan.frontends
            for listener in frontend.listeners
            for host in listener.hosts
            for route in host.routes
        }
    )


def totals(ways: Mapping[Way, Reading]) -> tuple[Total, ...]:
    """Return what was counted, by route and backend."""
    return tuple(
        Total(rule=way.route, backend=way.backend, codes=reading.codes, errors=sum(reading.errors[:2]))
        for way, reading in sorted(ways.items())
    )


def _each(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _rows(plan: Plan, frontend: Frontend) -> Iterator[Row]:
    port = (f"{frontend.port} {frontend.protocol.value}",)
    for listener in frontend.listeners:
        owners = _each(tuple(f"{owner.namespace}/{owner.name}" for owner in listener.owners if owner.name))
        for host in listener.hosts:
            for route in host.routes:
                rule = plan.rules[route.rule]
                targets = tuple(_targets(rule, plan.backends))
                yield Row(
                    host=str(host.pattern),
                    match=describe(route.match),
                    rule=str(route.rule),
                    ports=port,
                    owners=owners if rule.key.kind == "HTTPRoute" else (),
                    does=_redirects(rule.redirect) if rule.redirect is not None else "",
                    state=_state(rule, targets),
                    targets=targets,
                )


def _targets(rule: Rule, backends: Mapping[BackendKey, Backend]) -> Iterator[Target]:
    weights = sum(choice.weight for choice in rule.backends)
    for choice in rule.backends:
        share = round(choice.weight / weights, 4)
        if choice.backend is None:
            yield Target(service="", share=share)
            continue
        endpoints = backends[choice.backend].endpoints
        draining = sum(one.draining for one in endpoints)
        yield Target(service=str(choice.backend), share=share, ready=len(endpoints) - draining, draining=draining)


def _state(rule: Rule, targets: tuple[Target, ...]) -> str:
    if rule.redirect is not None:
        return "redirect"
    states = {"serving" if one.ready else "no endpoints" if one.service else "invalid" for one in targets}
    return states.pop() if len(states) == 1 else "partly" if states else "invalid"


def _redirects(redirect: Redirect) -> str:
    parts = (redirect.scheme, redirect.host, f"port {redirect.port}" if redirect.port else None)
    where = " ".join(part for part in parts if part) or "another path"
    return f"{redirect.code} to {where}"
