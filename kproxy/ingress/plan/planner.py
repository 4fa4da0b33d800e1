"""Keeps the HTTP plan up to date, planning again only what may have changed.

What comes most often, by far, are changes of endpoints: they touch the backends of one Service and nothing else. All
else (an Ingress, a Secret that somebody names, a Service that somebody refers to) has everything planned anew, which is
a matter of milliseconds for hundreds of objects, because what was read of an object is kept as long as it is the same.
Objects that differ in their status alone, as after every report of our own, change nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from kproxy.api.kinds import ObjectKind
from kproxy.api.types import ApiObject, EndpointSlice, ObjectKey, Problem
from kproxy.ingress.api.core import BackendService
from kproxy.ingress.api.kinds import IngressKind
from kproxy.ingress.plan.action import BackendKey, Rule, RuleKey
from kproxy.ingress.plan.assemble import assemble
from kproxy.ingress.plan.certificates import Certificates
from kproxy.ingress.plan.gateway.ports import is_door
from kproxy.ingress.plan.gateway.reader import Gateways, read_gateways
from kproxy.ingress.plan.ingress import Ingresses, IngressReader, shadow_problems
from kproxy.ingress.plan.model import Backend, Bind, Frontend, Host, Plan, Protocol
from kproxy.ingress.plan.services import backend, slice_problems
from kproxy.ingress.plan.settings import PlanSettings
from kproxy.ingress.plan.world import FIELDS, World
from kproxy.state.slices import owner_name


class Planned(NamedTuple):
    """The plan, and what there is to say of the objects that it was made of."""

    plan: Plan
    problems: tuple[Problem, ...]
    ingresses: Ingresses
    gateways: Gateways


class HttpPlanner:
    """The HTTP plan of all objects it is told of. It has one owner; objects may come in any order."""

    def __init__(self, settings: PlanSettings) -> None:
        self.world = World()
        self._settings = settings
        self._certificates = Certificates()
        self._reader = IngressReader(settings)
        self._owners: dict[ObjectKey, ObjectKey] = {}
        self._slice_problems: dict[ObjectKey, tuple[Problem, ...]] = {}
        self._planned: Planned | None = None
        self._all_stale = True
        self._stale_services: set[ObjectKey] = set()

    # --- taking in objects -------------------------------------------------------------------------------------------

    def replace(self, kind: ObjectKind, objects: Mapping[ObjectKey, ApiObject]) -> None:
        """Take ``objects`` for all that exist of a kind."""
        for key in [key for key in self._held(kind) if key not in objects]:
            self.delete(kind, key)
        for obj in objects.values():
            self.update(kind, obj)

    def update(self, kind: ObjectKind, obj: ApiObject) -> None:
        """Take in an object that is new or was changed."""
        key = obj.metadata.key
        if isinstance(obj, EndpointSlice):
            self._set_slice(key, obj)
            return
        held = self._held(kind)
        before = held.get(key)
        held[key] = obj
        if before is None or _means_another(before, obj):
            self._note(kind, key, before, obj)

    def delete(self, kind: ObjectKind, key: ObjectKey) -> None:
        """Forget an object."""
        if kind is IngressKind.ENDPOINT_SLICE:
            self._set_slice(key, None)
        elif (gone := self._held(kind).pop(key, None)) is not None:
            self._note(kind, key, gone)

    def set_usable_addresses(self, addresses: frozenset[str] | None) -> None:
        """Take note of the addresses that Gateways may name."""
        if addresses != self.world.usable_addresses:
            self.world.usable_addresses = addresses
            self._all_stale = True

    def _held(self, kind: ObjectKind) -> dict[ObjectKey, Any]:
        if kind is IngressKind.ENDPOINT_SLICE:
            return dict(self._owners)
        held: dict[ObjectKey, Any] = getattr(self.world, FIELDS[kind])
        return held

    def _set_slice(self, key: ObjectKey, obj: EndpointSlice | None) -> None:
        owner = self._owners.pop(key, None)
        if owner is not None:
            self.world.slices[owner].pop(key.name)
            self._stale_services.add(owner)
        self._slice_problems.pop(key, None)
        name = owner_name(obj) if obj is not None else None
        if obj is None or name is None:
            return
        owner = self._owners[key] = ObjectKey(key.namespace, name)
        self.world.slices.setdefault(owner, {})[key.name] = obj
        self._stale_services.add(owner)
        problems = slice_problems(obj)
        if problems:
            self._slice_problems[key] = problems

    def _note(self, kind: ObjectKind, key: ObjectKey, *objects: ApiObject | None) -> None:
        """Note what has to be planned anew because an object changed, of which these are the states."""
        if kind is IngressKind.SERVICE:
            self._stale_services.add(key)
        planned = self._planned
        if planned is None or self._all_stale:
            return
        if kind is IngressKind.SECRET:
            self._all_stale = key in self.secrets
        elif kind is IngressKind.SERVICE:
            named = key in planned.ingresses.services or key in planned.gateways.services
            self._all_stale = named or any(isinstance(obj, BackendService) and is_door(obj) for obj in objects)
        else:
            self._all_stale = True

    # --- planning ----------------------------------------------------------------------------------------------------

    @property
    def secrets(self) -> frozenset[ObjectKey]:
        """The Secrets that are named by anything, whether they exist or not: no others are of any use."""
        if self._planned is None:
            return frozenset()
        return self._planned.ingresses.secrets | self._planned.gateways.secrets

    def refresh(self) -> Planned:
        """Return the plan of what is held now."""
        if self._planned is None or self._all_stale:
            self._planned = self._plan_all()
        elif self._stale_services:
            self._planned = self._plan_backends(self._planned)
        self._all_stale = False
        self._stale_services.clear()
        return self._planned

    def _plan_all(self) -> Planned:
        settings, world = self._settings, self.world
        ingresses = self._reader.read(world, self._certificates)
        gateways = read_gateways(world, settings, self._certificates, _ingress_binds(settings))
        self._certificates.forget_all_but(ingresses.secrets | gateways.secrets)
        frontends, shadowed = assemble((*ingresses.doors, *gateways.doors))
        rules = _used_rules(frontends, {**ingresses.rules, **gateways.rules})
        keys = dict.fromkeys(key for rule in rules.values() for key in _backends_of(rule))
        shown = {key for frontend in frontends if frontend.tls for key in _certificates_of(frontend)}
        plan = Plan(
            frontends=frontends,
            rules=rules,
            backends={key: self._backend(key) for key in keys},
            certificates={key: self._certificates.get(world.secrets, key) for key in sorted(shown)},
        )
        problems = (
            *ingresses.problems,
            *shadow_problems(shadowed),
            *gateways.problems,
            *self._problems_of_slices(plan),
        )
        return Planned(plan, problems, ingresses, gateways)

    def _backend(self, key: BackendKey) -> Backend:
        """Return a backend, as it was planned already where nothing of its Service has changed."""
        if self._planned is not None and key.key not in self._stale_services:
            known = self._planned.plan.backends.get(key)
            if known is not None:
                return known
        return backend(self.world.services, self.world.slices, key)

    def _plan_backends(self, planned: Planned) -> Planned:
        """Plan the backends anew whose endpoints may have changed."""
        stale = [key for key in planned.plan.backends if key.key in self._stale_services]
        new = {key: self._backend(key) for key in stale}
        changed = {key: one for key, one in new.items() if one != planned.plan.backends[key]}
        if not changed:
            return planned
        return planned._replace(
            plan=msgspec.structs.replace(planned.plan, backends={**planned.plan.backends, **changed})
        )

    def _problems_of_slices(self, plan: Plan) -> Iterator[Problem]:
        wanted = {key.key for key in plan.backends}
        for key, problems in self._slice_problems.items():
            if self._owners[key] in wanted:
                yield from problems


def _means_another(before: ApiObject, after: ApiObject) -> bool:
    """Tell whether an object has become another one, but for its status and the count of its versions."""
    return _meaning(before) != _meaning(after)


def _meaning(obj: ApiObject) -> tuple[object, ...]:
    metadata = msgspec.structs.replace(obj.metadata, resource_version="")
    return metadata, *(getattr(obj, name) for name in obj.__struct_fields__ if name not in ("metadata", "status"))


def _ingress_binds(settings: PlanSettings) -> dict[Bind, Protocol]:
    binds = dict.fromkeys(settings.http_binds, Protocol.HTTP)
    return binds | dict.fromkeys(settings.https_binds, Protocol.HTTPS)


def _used_rules(frontends: Iterable[Frontend], rules: Mapping[RuleKey, Rule]) -> dict[RuleKey, Rule]:
    """Return the rules that some route leads to; those whose matches are all somebody else's are of no use."""
    seen: set[int] = set()
    used: set[RuleKey] = set()
    for host in _hosts(frontends):
        if id(host) not in seen:
            seen.add(id(host))
            used.update(route.rule for route in host.routes)
    return {key: rules[key] for key in sorted(used)}


def _hosts(frontends: Iterable[Frontend]) -> Iterator[Host]:
    for frontend in frontends:
        for listener in frontend.listeners:
            yield from listener.hosts


def _backends_of(rule: Rule) -> Iterator[BackendKey]:
    for choice in rule.backends:
        if choice.backend is not None:
            yield choice.backend
    for mirror in rule.mirrors:
        yield mirror.backend


def _certificates_of(frontend: Frontend) -> Iterator[ObjectKey]:
    if frontend.tls is not None:
        for name in frontend.tls.names:
            yield from name.certificates
        if frontend.tls.fallback is not None:
            yield frontend.tls.fallback
