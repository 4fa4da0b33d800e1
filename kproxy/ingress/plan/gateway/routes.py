"""Which listeners an HTTPRoute attaches to, by which host names, and what each of its parents has to say of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from kproxy.api.types import ObjectKey
from kproxy.ingress.api.gateway import GROUP, Gateway
from kproxy.ingress.api.httproute import HTTPRoute, ParentReference
from kproxy.ingress.plan import grammar
from kproxy.ingress.plan.gateway.hosts import intersection
from kproxy.ingress.plan.gateway.listeners import KIND as GATEWAY
from kproxy.ingress.plan.gateway.listeners import Judged
from kproxy.ingress.plan.gateway.rules import KIND, RouteRules
from kproxy.ingress.plan.gateway.verdicts import (
    ACCEPTED,
    FALSE,
    PARTIALLY_INVALID,
    RESOLVED_REFS,
    TRUE,
    ParentVerdict,
    Verdict,
)
from kproxy.ingress.plan.grammar import NotUsable
from kproxy.ingress.plan.matching import HostKind, HostPattern
from kproxy.ingress.plan.precedence import Entry, Seniority
from kproxy.ingress.plan.world import World
from kproxy.wording import quote


class Parent(NamedTuple):
    """A Gateway of ours with its listeners."""

    gateway: Gateway
    listeners: tuple[Judged, ...]


class Attached(NamedTuple):
    """A listener that a route has attached to, and the host names they have in common."""

    gateway: ObjectKey
    listener: str
    hosts: tuple[HostPattern, ...]


class Attachment(NamedTuple):
    """What became of one route."""

    attached: tuple[Attached, ...]
    parents: tuple[ParentVerdict, ...]


class _Refused(Exception):  # noqa: N818 - it is no error of the program's
    """The parent does not take the route."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.verdict = Verdict(FALSE, reason, message)


def attach(route: HTTPRoute, rules: RouteRules, parents: Mapping[ObjectKey, Parent], world: World) -> Attachment:
    """Attach a route to those of its parents that are ours."""
    attached: dict[tuple[ObjectKey, str], Attached] = {}
    verdicts: dict[ParentReference, ParentVerdict] = {}
    shared = dict(_shared_verdicts(rules))
    for reference in route.spec.parent_refs or ():
        parent = parents.get(_target(route, reference)) if _is_gateway(reference) else None
        if parent is None or reference in verdicts:
            continue
        conditions = {RESOLVED_REFS: _resolved(rules)}
        try:
            found = _attach(route, reference, parent, world)
            _check_rules(rules)
        except _Refused as refused:
            conditions[ACCEPTED] = refused.verdict
        else:
            attached.update(((one.gateway, one.listener), one) for one in found)
            conditions[ACCEPTED] = Verdict(TRUE, "Accepted", "the route is attached")
            conditions.update(shared)
        verdicts[reference] = ParentVerdict(reference, conditions)
    return Attachment(tuple(attached.values()), tuple(verdicts.values()))


def entries(route: HTTPRoute, rules: RouteRules, hosts: Sequence[HostPattern]) -> Iterator[Entry]:
    """Yield what a route wants of a listener that it has attached to by ``hosts``."""
    created, namespace, name = route.metadata.age_key
    for match, number, rule in rules.matched:
        seniority = Seniority(created, KIND, namespace, name, rule.key.rule, number)
        for host in hosts:
            yield Entry(host, match, rule.key, seniority)


def _is_gateway(reference: ParentReference) -> bool:
    return reference.group in (None, GROUP) and reference.kind in (None, GATEWAY)


def _target(route: HTTPRoute, reference: ParentReference) -> ObjectKey:
    return ObjectKey(reference.namespace or route.metadata.namespace, reference.name)


def _attach(route: HTTPRoute, reference: ParentReference, parent: Parent, world: World) -> list[Attached]:
    """Return what a reference attaches a route to. Raises `_Refused`, with the reason that comes first."""
    gateway = parent.gateway
    meant = [
        one
        for one in parent.listeners
        if reference.section_name in (None, "", one.listener.name) and reference.port in (None, one.listener.port)
    ]
    if not meant:
        raise _Refused("NoMatchingParent", f"Gateway {gateway.metadata.key} has no listener of that name and port")
    allowed = [one for one in meant if one.allows(world, gateway, route.metadata.namespace)]
    if not allowed:
        message = f"no listener meant lets {KIND}s of namespace {quote(route.metadata.namespace)} attach"
        raise _Refused("NotAllowedByListeners", message)
    wanted = _hostnames(route)
    found = [
        Attached(gateway.metadata.key, one.listener.name, hosts) for one in allowed if (hosts := _common(one, wanted))
    ]
    if not found:
        message = "no listener that is meant, and would take the route, has a hostname in common with it"
        raise _Refused("NoMatchingListenerHostname", message)
    return found


def _hostnames(route: HTTPRoute) -> tuple[HostPattern, ...] | None:
    """Return the host names that a route names, as far as they are any; None where it names none, and means all."""
    if not route.spec.hostnames:
        return None
    found: dict[HostPattern, None] = {}
    bad: list[str] = []
    for text in route.spec.hostnames:
        try:
            found[grammar.host(text, HostKind.WILDCARD)] = None
        except NotUsable as error:
            bad.append(str(error))
    if not found:
        raise _Refused("UnsupportedValue", f"spec.hostnames: {'; '.join(bad)}")
    return tuple(found)


def _common(one: Judged, wanted: tuple[HostPattern, ...] | None) -> tuple[HostPattern, ...]:
    if wanted is None:
        return (one.pattern,)
    common = (intersection(one.pattern, pattern) for pattern in wanted)
    return tuple(dict.fromkeys(pattern for pattern in common if pattern is not None))


def _check_rules(rules: RouteRules) -> None:
    """Raise `_Refused` where not one rule of a route is left."""
    if rules.dropped and not rules.matched:
        first = rules.dropped[0]
        raise _Refused(first.reason, f"rule {first.rule}: {first.message}")


def _resolved(rules: RouteRules) -> Verdict:
    if not rules.broken:
        return Verdict(TRUE, "ResolvedRefs", "all references lead to something")
    first = rules.broken[0]
    messages = dict.fromkeys(f"rule {broken.rule}: {broken.message}" for broken in rules.broken)
    return Verdict(FALSE, first.reason, "; ".join(messages))


def _shared_verdicts(rules: RouteRules) -> Iterator[tuple[str, Verdict]]:
    """Yield what is said of a route by all parents that accept it."""
    if rules.dropped and rules.matched:
        messages = "; ".join(f"{dropped.rule} ({dropped.message})" for dropped in rules.dropped)
        yield PARTIALLY_INVALID, Verdict(TRUE, "UnsupportedValue", f"Dropped Rule {messages}")
