"""Goes through Gateways and HTTPRoutes once, oldest first, and says what they come to."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from kproxy.api.types import ObjectKey, Problem
from kproxy.ingress.api.gateway import Gateway, GatewayClass
from kproxy.ingress.plan import grammar
from kproxy.ingress.plan.action import Rule, RuleKey
from kproxy.ingress.plan.assemble import Door
from kproxy.ingress.plan.certificates import Certificates
from kproxy.ingress.plan.gateway.grants import Grants
from kproxy.ingress.plan.gateway.listeners import KIND, Judged, judge, served_ports
from kproxy.ingress.plan.gateway.places import Addresses, Places, addresses_of, given_ports
from kproxy.ingress.plan.gateway.routes import Parent, attach, entries
from kproxy.ingress.plan.gateway.rules import KIND as ROUTE
from kproxy.ingress.plan.gateway.rules import References, RouteRules, read_rules
from kproxy.ingress.plan.gateway.verdicts import (
    ACCEPTED,
    FALSE,
    PROGRAMMED,
    RESOLVED_REFS,
    TRUE,
    ClassVerdict,
    GatewayVerdict,
    ListenerVerdict,
    RouteVerdict,
    Verdict,
    Verdicts,
)
from kproxy.ingress.plan.model import Bind, ListenerKey, Protocol, ServerName
from kproxy.ingress.plan.precedence import Entry, Seniority
from kproxy.ingress.plan.settings import GatewayPorts, PlanSettings
from kproxy.ingress.plan.world import World
from kproxy.state.findings import is_label
from kproxy.wording import quote


class Gateways(NamedTuple):
    """What all objects of Gateway API together come to."""

    doors: tuple[Door, ...]
    rules: Mapping[RuleKey, Rule]
    problems: tuple[Problem, ...]
    classes: tuple[ClassVerdict, ...]
    gateways: tuple[GatewayVerdict, ...]
    routes: tuple[RouteVerdict, ...]
    ports: GatewayPorts
    """The engine's ports that are given out; those to come included."""
    services: frozenset[ObjectKey]
    """All Services named, whether there are such or not."""
    secrets: frozenset[ObjectKey]
    """All Secrets named, likewise."""


class _Judgement(NamedTuple):
    """A Gateway, its listeners, and what is to be said of it as a whole."""

    gateway: Gateway
    listeners: tuple[Judged, ...]
    addresses: Addresses
    conditions: Verdicts


def read_gateways(
    world: World, settings: PlanSettings, certificates: Certificates, ingress_binds: Mapping[Bind, Protocol]
) -> Gateways:
    """Return what Gateways and HTTPRoutes come to. ``ingress_binds`` says which ports are somebody else's already."""
    grants = Grants(world.reference_grants.values())
    classes = [found for found in world.gateway_classes.values() if _is_ours(found, settings)]
    problems: list[Problem] = []
    ours = [gateway for gateway in world.gateways.values() if _is_served(gateway, world, settings, problems)]
    ours.sort(key=lambda gateway: gateway.metadata.age_key)
    given = given_ports(ours, world, settings)
    places = Places(ingress_binds, given, settings)
    judged = [_judge(gateway, world, grants, certificates, places) for gateway in ours]
    parents = {one.gateway.metadata.key: Parent(one.gateway, one.listeners) for one in judged}
    attached = _attach_all(world, References(world, grants, settings), parents, problems)
    problems += _listener_problems(judged)
    return Gateways(
        doors=tuple(door for one in judged for door in _doors(one, attached.entries, places)),
        rules=attached.rules,
        problems=tuple(problems),
        classes=tuple(ClassVerdict(found.metadata.key, {ACCEPTED: _class_verdict(found)}) for found in classes),
        gateways=tuple(_verdict(one, attached.counts) for one in judged),
        routes=tuple(attached.verdicts),
        ports=given,
        services=frozenset(attached.services),
        secrets=frozenset(secret for one in judged for listener in one.listeners for secret in listener.secrets),
    )


# --- which are ours --------------------------------------------------------------------------------------------------


def _is_ours(found: GatewayClass, settings: PlanSettings) -> bool:
    return found.spec.controller_name == settings.gateway_controller


def _class_verdict(found: GatewayClass) -> Verdict:
    if found.spec.parameters_ref is not None:
        return Verdict(FALSE, "InvalidParameters", "spec.parametersRef: there are no parameters for this controller")
    return Verdict(TRUE, "Accepted", "the class is served")


def _is_served(gateway: Gateway, world: World, settings: PlanSettings, problems: list[Problem]) -> bool:
    name = gateway.spec.gateway_class_name
    known = world.gateway_classes.get(ObjectKey("", name))
    if known is None:
        ours = settings.gateways_without_class and name == settings.ingress_class
    else:
        ours = _is_ours(known, settings) and _class_verdict(known).holds
    key = gateway.metadata.key
    if ours and not (is_label(key.namespace) and grammar.is_name(key.name)):
        problems.append(Problem(KIND, key, "metadata", f"{quote(str(key))} is no valid name; the Gateway is ignored"))
        return False
    return ours


# --- judgement -------------------------------------------------------------------------------------------------------


def _judge(gateway: Gateway, world: World, grants: Grants, certificates: Certificates, places: Places) -> _Judgement:
    addresses = addresses_of(gateway, world)
    listeners = judge(gateway, world, grants, certificates, places.taken(gateway, addresses))
    accepted = _accepted(gateway, listeners, addresses)
    if not accepted.holds and accepted.reason != "ListenersNotValid":
        listeners = tuple(_not_programmed(one, "the Gateway is not accepted") for one in listeners)
    judgement = _Judgement(
        gateway, listeners, addresses, {ACCEPTED: accepted, PROGRAMMED: _programmed(listeners, addresses)}
    )
    places.take(gateway.metadata.key, listeners, addresses)
    return judgement


def _not_programmed(one: Judged, why: str) -> Judged:
    return one._replace(conditions={**one.conditions, PROGRAMMED: Verdict(FALSE, "Invalid", why)})


def _accepted(gateway: Gateway, listeners: Sequence[Judged], addresses: Addresses) -> Verdict:
    infrastructure = gateway.spec.infrastructure
    if infrastructure is not None and infrastructure.parameters_ref is not None:
        message = "spec.infrastructure.parametersRef: there are no parameters for this controller"
        return Verdict(FALSE, "InvalidParameters", message)
    if addresses.unsupported:
        return Verdict(FALSE, "UnsupportedAddress", f"spec.addresses: {addresses.unsupported}")
    bad = [one.listener.name for one in listeners if not one.conditions[ACCEPTED].holds]
    if not bad and listeners:
        return Verdict(TRUE, "Accepted", "all listeners are valid")
    good = len(bad) < len(listeners)
    message = f"not valid: listener {', '.join(map(quote, bad))}" if bad else "there is no listener"
    return Verdict(TRUE if good else FALSE, "ListenersNotValid", message)


def _programmed(listeners: Sequence[Judged], addresses: Addresses) -> Verdict:
    if addresses.unusable:
        return Verdict(FALSE, "AddressNotUsable", f"spec.addresses: {addresses.unusable}")
    if not any(one.served for one in listeners):
        return Verdict(FALSE, "Invalid", "no listener is part of the configuration")
    return Verdict(TRUE, "Programmed", "the Gateway is part of the configuration")


def _verdict(one: _Judgement, counts: Mapping[tuple[ObjectKey, str], int]) -> GatewayVerdict:
    key = one.gateway.metadata.key
    listeners = tuple(
        ListenerVerdict(
            name=judged.listener.name,
            kinds=judged.kinds,
            attached=counts.get((key, judged.listener.name), 0),
            conditions=judged.conditions,
        )
        for judged in one.listeners
    )
    return GatewayVerdict(key, one.conditions, listeners, one.addresses.usable, tuple(served_ports(one.listeners)))


def _listener_problems(judged: Sequence[_Judgement]) -> Iterator[Problem]:
    """Yield what is wrong with Gateways as problems: in manifests there is no status to read it from."""
    for one in judged:
        key = one.gateway.metadata.key
        for kind in (ACCEPTED, PROGRAMMED):
            verdict = one.conditions[kind]
            if not verdict.holds and verdict.reason not in ("ListenersNotValid", "Invalid"):
                yield Problem(KIND, key, "spec", f"{verdict.reason}: {verdict.message}")
        for index, listener in enumerate(one.listeners):
            for kind in (ACCEPTED, RESOLVED_REFS):
                verdict = listener.conditions[kind]
                if not verdict.holds:
                    yield Problem(KIND, key, f"spec.listeners[{index}]", f"{verdict.reason}: {verdict.message}")


# --- routes ----------------------------------------------------------------------------------------------------------


class _AttachedRoutes(NamedTuple):
    """What became of all routes."""

    entries: Mapping[tuple[ObjectKey, str], Sequence[Entry]]
    """By Gateway and listener."""
    rules: Mapping[RuleKey, Rule]
    counts: Mapping[tuple[ObjectKey, str], int]
    verdicts: Sequence[RouteVerdict]
    services: frozenset[ObjectKey]


def _attach_all(
    world: World, references: References, parents: Mapping[ObjectKey, Parent], problems: list[Problem]
) -> _AttachedRoutes:
    found: dict[tuple[ObjectKey, str], list[Entry]] = {}
    rules: dict[RuleKey, Rule] = {}
    counts: dict[tuple[ObjectKey, str], int] = {}
    verdicts: list[RouteVerdict] = []
    services: set[ObjectKey] = set()
    for route in sorted(world.http_routes.values(), key=lambda route: route.metadata.age_key):
        key = route.metadata.key
        if not (is_label(key.namespace) and grammar.is_name(key.name)):
            problems.append(Problem(ROUTE, key, "metadata", f"{quote(str(key))} is no valid name; it is ignored"))
            continue
        its_rules = read_rules(route, references)
        attachment = attach(route, its_rules, parents, world)
        if not attachment.parents:
            continue  # none of its parents is ours
        services |= its_rules.services
        verdicts.append(RouteVerdict(key, attachment.parents))
        problems += _route_problems(key, its_rules, attachment.parents[0].conditions)
        if attachment.attached:
            rules.update((matched.rule.key, matched.rule) for matched in its_rules.matched)
        for place in attachment.attached:
            at = (place.gateway, place.listener)
            counts[at] = counts.get(at, 0) + 1
            found.setdefault(at, []).extend(entries(route, its_rules, place.hosts))
    return _AttachedRoutes(found, rules, counts, verdicts, frozenset(services))


def _route_problems(key: ObjectKey, rules: RouteRules, conditions: Verdicts) -> Iterator[Problem]:
    accepted = conditions[ACCEPTED]
    if not accepted.holds and not (rules.dropped and not rules.matched):
        yield Problem(ROUTE, key, "spec", f"{accepted.reason}: {accepted.message}")
    for dropped in rules.dropped:
        yield Problem(ROUTE, key, f"spec.rules[{dropped.rule}]", f"{dropped.message}; the rule is left out")
    for broken in rules.broken:
        reason = f"{broken.message}; requests that would go there are answered with 500"
        yield Problem(ROUTE, key, f"spec.rules[{broken.rule}]", reason)


# --- doors -----------------------------------------------------------------------------------------------------------


def _doors(
    one: _Judgement,
    attached: Mapping[tuple[ObjectKey, str], Sequence[Entry]],
    places: Places,
) -> Iterator[Door]:
    key = one.gateway.metadata.key
    created, namespace, name = one.gateway.metadata.age_key
    for index, judged in enumerate(one.listeners):
        binds = places.binds(key, judged.listener.port, one.addresses)
        if not (judged.served and judged.protocol and binds):
            continue
        names = (ServerName(judged.pattern, judged.certificates),) if judged.certificates else ()
        yield Door(
            owner=ListenerKey(KIND, *key, judged.listener.name),
            seniority=Seniority(created, KIND, namespace, name, index),
            binds=binds,
            port=judged.listener.port,
            protocol=judged.protocol,
            pattern=judged.pattern,
            entries=tuple(attached.get((key, judged.listener.name), ())),
            names=names,
        )
