"""What the status of every object should be, and the patches that make it so where it is not.

A patch is a JSON merge patch for the object's ``status`` subresource. It carries the resource version that was read, so
that it fails where somebody else has written meanwhile: lists are replaced as a whole, and those of an HTTPRoute's
parents and of conditions are shared with others.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from kproxy.api.kinds import ObjectKind
from kproxy.api.types import ApiObject, ObjectKey
from kproxy.ingress.api.gateway import (
    Gateway,
    GatewayAddress,
    GatewayClass,
    GatewayClassStatus,
    GatewayStatus,
    ListenerStatus,
    RouteGroupKind,
    SupportedFeature,
)
from kproxy.ingress.api.httproute import HTTPRoute, HTTPRouteStatus, ParentReference, RouteParentStatus
from kproxy.ingress.api.kinds import IngressKind
from kproxy.ingress.api.meta import RoutedMeta
from kproxy.ingress.api.networking import Ingress, IngressAddress, IngressLoadBalancer, IngressStatus
from kproxy.ingress.plan.action import RuleKey
from kproxy.ingress.plan.gateway.verdicts import (
    ACCEPTED,
    CONFLICTED,
    FALSE,
    OVERLAPPING_TLS,
    PARTIALLY_INVALID,
    PROGRAMMED,
    RESOLVED_REFS,
    TRUE,
    GatewayVerdict,
    ListenerVerdict,
    RouteVerdict,
    Verdict,
    Verdicts,
)
from kproxy.ingress.plan.planner import Planned
from kproxy.ingress.plan.settings import PlanSettings
from kproxy.ingress.plan.world import World
from kproxy.ingress.status.conditions import merge
from kproxy.ingress.status.features import supported_features
from kproxy.state.addresses import NotAnAddress, parse_ip

MOST_ADDRESSES = 16
_CLASS_OWN = frozenset({ACCEPTED})
_GATEWAY_OWN = frozenset({ACCEPTED, PROGRAMMED})
_LISTENER_OWN = frozenset({ACCEPTED, PROGRAMMED, RESOLVED_REFS, CONFLICTED, OVERLAPPING_TLS})
_ROUTE_OWN = frozenset({ACCEPTED, RESOLVED_REFS, PARTIALLY_INVALID})
_NOWHERE = IngressStatus(load_balancer=IngressLoadBalancer(ingress=()))


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine has made of the plan, and where it can be reached."""

    programmed: bool = True
    """Whether it serves by this plan (or one that differs in endpoints only)."""
    refused: Mapping[RuleKey, str] = {}
    """Rules that it would not take, and why: they are left out."""
    ingress_addresses: tuple[str, ...] = ()
    """Where Ingresses can be reached: IP addresses or host names."""
    left: frozenset[ObjectKey] = frozenset()
    """Ingresses that were served and no longer are; see `told_here`."""
    gateway_addresses: Mapping[ObjectKey, tuple[str, ...]] = {}
    """Where Gateways can be reached, if that is by Services; see `kproxy.ingress.status.doors`."""
    denied: Mapping[ObjectKey, str] = {}
    """Gateways whose Services or slices may not be written, and why."""
    own_addresses: tuple[str, ...] = ()
    """Where Gateways that name no address can be reached, if they are bound at all addresses."""


class StatusPatch(NamedTuple):
    """A merge patch for the status of one object."""

    kind: ObjectKind
    key: ObjectKey
    body: Mapping[str, Any]

    @property
    def path(self) -> str:
        """Where to send it."""
        return f"{self.kind.path_in(self.key.namespace)}/{self.key.name}/status"


def patches(
    world: World, planned: Planned, settings: PlanSettings, applied: Applied, now: str
) -> Iterator[StatusPatch]:
    """Yield a patch for each object whose status is not as it should be; ``now`` is RFC 3339, to the second."""
    reports = _Reports(settings, applied, now)
    for class_verdict in planned.gateways.classes:
        found = world.gateway_classes.get(class_verdict.key)
        if found is not None:
            status = reports.of_class(found, class_verdict.conditions)
            yield from _patch(IngressKind.GATEWAY_CLASS, found, found.status or GatewayClassStatus(), status)
    for verdict in planned.gateways.gateways:
        gateway = world.gateways.get(verdict.key)
        if gateway is not None:
            yield from _patch(
                IngressKind.GATEWAY, gateway, gateway.status or GatewayStatus(), reports.of_gateway(gateway, verdict)
            )
    verdicts = {verdict.key: verdict for verdict in planned.gateways.routes}
    for key, route in world.http_routes.items():
        route_status = reports.of_route(route, verdicts.get(key, RouteVerdict(key, ())))
        yield from _patch(IngressKind.HTTP_ROUTE, route, route.status or HTTPRouteStatus(), route_status)
    for key in planned.ingresses.served if applied.programmed else ():
        ingress = world.ingresses.get(key)
        if ingress is not None:
            yield from _patch(IngressKind.INGRESS, ingress, ingress.status or IngressStatus(), reports.of_ingress())
    for key in sorted(applied.left):
        ingress = world.ingresses.get(key)
        if ingress is not None and told_here(ingress, applied.ingress_addresses):
            yield from _patch(IngressKind.INGRESS, ingress, ingress.status, _NOWHERE)


def told_here(ingress: Ingress, addresses: Sequence[str]) -> bool:
    """Tell whether an Ingress' status says what is said here: then nobody else has written it since."""
    said = (ingress.status.load_balancer if ingress.status else None) or IngressLoadBalancer()
    return bool(said.ingress) and said.ingress == tuple(map(_ingress_address, addresses))


class _Reports:
    """Computes the status of one object after the other."""

    def __init__(self, settings: PlanSettings, applied: Applied, now: str) -> None:
        self._settings = settings
        self._applied = applied
        self._now = now

    def of_class(self, found: GatewayClass, verdicts: Verdicts) -> GatewayClassStatus:
        """Return the status of a GatewayClass."""
        present = found.status.conditions if found.status else None
        return GatewayClassStatus(
            conditions=merge(present, verdicts, found.metadata.generation, self._now, _CLASS_OWN),
            supported_features=tuple(SupportedFeature(name) for name in supported_features(self._settings)),
        )

    def of_gateway(self, gateway: Gateway, verdict: GatewayVerdict) -> GatewayStatus:
        """Return the status of a Gateway. It is programmed when the engine has it, and it has an address."""
        present = gateway.status or GatewayStatus()
        addresses = self._addresses(verdict)
        conditions = {**verdict.conditions, PROGRAMMED: self._programmed(verdict, addresses)}
        held = {listener.name: listener for listener in present.listeners or ()}
        return GatewayStatus(
            addresses=tuple(_gateway_address(text) for text in addresses[:MOST_ADDRESSES]),
            conditions=merge(present.conditions, conditions, gateway.metadata.generation, self._now, _GATEWAY_OWN),
            listeners=tuple(
                self._listener(gateway.metadata, listener, held.get(listener.name)) for listener in verdict.listeners
            ),
        )

    def _addresses(self, verdict: GatewayVerdict) -> tuple[str, ...]:
        if not verdict.conditions[ACCEPTED].holds:
            return ()
        if self._settings.in_cluster:
            return self._applied.gateway_addresses.get(verdict.key, ())
        return verdict.addresses or self._applied.own_addresses

    def _programmed(self, verdict: GatewayVerdict, addresses: tuple[str, ...]) -> Verdict:
        planned = verdict.conditions[PROGRAMMED]
        if not planned.holds:
            return planned
        if not self._applied.programmed:
            return Verdict(FALSE, "Pending", "the engine is about to take up the configuration")
        if verdict.key in self._applied.denied:
            return Verdict(FALSE, "NoResources", self._applied.denied[verdict.key])
        if not addresses:
            return Verdict(FALSE, "AddressNotAssigned", "no address has been assigned yet")
        return planned

    def _listener(self, metadata: RoutedMeta, listener: ListenerVerdict, held: ListenerStatus | None) -> ListenerStatus:
        conditions = dict(listener.conditions)
        if conditions[PROGRAMMED].holds and not self._applied.programmed:
            conditions[PROGRAMMED] = Verdict(FALSE, "Pending", "the engine is about to take up the configuration")
        present = held.conditions if held else None
        return ListenerStatus(
            name=listener.name,
            supported_kinds=tuple(RouteGroupKind(kind=kind) for kind in listener.kinds),
            attached_routes=listener.attached,
            conditions=merge(present, conditions, metadata.generation, self._now, _LISTENER_OWN),
        )

    def of_route(self, route: HTTPRoute, verdict: RouteVerdict) -> HTTPRouteStatus:
        """Return the status of an HTTPRoute: what others say of it, and what we say now."""
        ours = self._settings.gateway_controller
        present = (route.status.parents if route.status else None) or ()
        held = {entry.parent_ref: entry.conditions for entry in present if entry.controller_name == ours}
        others = tuple(entry for entry in present if entry.controller_name != ours)
        mine = tuple(
            self._parent(route, parent.parent, self._with_refusals(verdict.key, parent.conditions), held)
            for parent in verdict.parents
        )
        return HTTPRouteStatus(parents=(*others, *mine))

    def _with_refusals(self, key: ObjectKey, conditions: Verdicts) -> Verdicts:
        """Add what the engine would not take."""
        refused = {
            rule.rule: reason
            for rule, reason in self._applied.refused.items()
            if (rule.kind, rule.namespace, rule.name) == (IngressKind.HTTP_ROUTE.value, *key)
        }
        if not refused or not conditions[ACCEPTED].holds:
            return conditions
        messages = "; ".join(f"{rule} ({reason})" for rule, reason in sorted(refused.items()))
        return {**conditions, PARTIALLY_INVALID: Verdict(TRUE, "UnsupportedValue", f"Dropped Rule {messages}")}

    def _parent(
        self,
        route: HTTPRoute,
        parent: ParentReference,
        conditions: Verdicts,
        held: Mapping[ParentReference, Any],
    ) -> RouteParentStatus:
        return RouteParentStatus(
            parent_ref=parent,
            controller_name=self._settings.gateway_controller,
            conditions=merge(held.get(parent), conditions, route.metadata.generation, self._now, _ROUTE_OWN),
        )

    def of_ingress(self) -> IngressStatus:
        """Return the status of an Ingress: where it can be reached."""
        addresses = tuple(_ingress_address(text) for text in self._applied.ingress_addresses)
        return IngressStatus(load_balancer=IngressLoadBalancer(ingress=addresses))


def _patch(kind: ObjectKind, obj: ApiObject, present: object, wanted: object) -> Iterator[StatusPatch]:
    status = _json(wanted)
    if _bare(_json(present)) == _bare(status):
        return
    body: dict[str, Any] = {"status": status}
    if obj.metadata.resource_version:
        body["metadata"] = {"resourceVersion": obj.metadata.resource_version}
    yield StatusPatch(kind, obj.metadata.key, body)


def _json(value: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def _bare(value: Any) -> Any:
    """Return JSON without what is empty: servers keep an empty list, or do not."""
    if isinstance(value, dict):
        return {name: bare for name, part in value.items() if (bare := _bare(part)) not in (None, [], {})}
    return [_bare(part) for part in value] if isinstance(value, list) else value


def _is_ip(text: str) -> bool:
    try:
        parse_ip(text)
    except NotAnAddress:
        return False
    return True


def _gateway_address(text: str) -> GatewayAddress:
    return GatewayAddress(type="IPAddress" if _is_ip(text) else "Hostname", value=text)


def _ingress_address(text: str) -> IngressAddress:
    return IngressAddress(ip=text) if _is_ip(text) else IngressAddress(hostname=text)
