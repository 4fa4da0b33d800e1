"""One Service in detail: by which addresses it is reached, and what each endpoint gets of its connections. Pure."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from kproxy.api.types import ObjectKey
from kproxy.explain.view import View
from kproxy.plan.model import Frontend, Route, ServicePlan, Target
from kproxy.plan.reasons import why_unused
from kproxy.report.page.board import Totals
from kproxy.state.model import Endpoint, ServicePortName, endpoint_text

EndpointTotals = Mapping[tuple[ServicePortName, str], int]


class Model(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of what is sent."""


class WayIn(Model, frozen=True, kw_only=True):
    """A frontend."""

    kind: str
    address: str
    route: int
    """Which of the service port's routes its connections take."""
    sources: tuple[str, ...] = ()


class Way(Model, frozen=True, kw_only=True):
    """A route: what becomes of connections that came in by some of the frontends."""

    verdict: str
    """forward, reject or drop."""
    reason: str
    in_turn: bool = False


class Drawn(Model, frozen=True, kw_only=True):
    """An endpoint."""

    address: str
    local: bool
    shares: tuple[float, ...]
    """Its part of new connections, for each route."""
    reason: str | None = None
    """Why it gets none by any route."""
    total: int | None = None
    """Connections it was given; None where that is not counted."""


class PortPicture(Model, frozen=True, kw_only=True):
    """One service port in one address family."""

    port: str
    protocol: str
    family: str
    frontends: tuple[WayIn, ...]
    routes: tuple[Way, ...]
    endpoints: tuple[Drawn, ...]
    affinity_seconds: int = 0
    totals: Totals = Totals(0, 0, 0)
    """Of both families."""
    notes: tuple[str, ...] = ()


class Picture(Model, frozen=True, kw_only=True):
    """A Service."""

    id: str
    ports: tuple[PortPicture, ...]


def names_of(views: Sequence[View], service: ObjectKey) -> list[ServicePortName]:
    """Return the service ports of a Service."""
    found = {port.name for view in views for port in view.ports_of(service)}
    return sorted(name for name in found if any(name in view.plan.services for view in views))


def picture(
    views: Sequence[View],
    service: ObjectKey,
    totals: Mapping[ServicePortName, Totals],
    endpoints: EndpointTotals,
) -> Picture:
    """Return a Service as it is planned now; without ports where there is none of that name."""
    drawn = [
        _port(view, view.plan.services[name], totals.get(name, Totals(0, 0, 0)), endpoints)
        for name in names_of(views, service)
        for view in views
        if name in view.plan.services
    ]
    return Picture(id=str(service), ports=tuple(drawn))


def _port(view: View, service: ServicePlan, totals: Totals, counted: EndpointTotals) -> PortPicture:
    name = service.name
    routes = [service.internal] if service.external is None else [service.internal, service.external]
    known = view.endpoints(name)
    return PortPicture(
        port=name.port,
        protocol=name.protocol.upper(),
        family=view.family.metric_label,
        frontends=tuple(_way_in(frontend, routes.index(service.route(frontend))) for frontend in service.frontends),
        routes=tuple(_way(route, known) for route in routes),
        endpoints=tuple(_drawn(view, service, routes, known, counted)) or tuple(_misnamed(view, service)),
        affinity_seconds=service.affinity_seconds,
        totals=totals,
        notes=tuple(_notes(view, service)),
    )


def _way_in(frontend: Frontend, route: int) -> WayIn:
    address = endpoint_text(frontend.ip, frontend.port) if frontend.ip else f":{frontend.port}"
    return WayIn(kind=frontend.kind.value, address=address, route=route, sources=frontend.sources)


def _way(route: Route, known: Sequence[Endpoint]) -> Way:
    if route.to is Target.REJECT:
        why = f"none of {len(known)} endpoints could serve" if known else "there is no endpoint"
        return Way(verdict="reject", reason=f"{why}; clients are refused")
    if route.to is Target.DROP:
        return Way(verdict="drop", reason="traffic policy Local, and no endpoint on this node; packets are dropped")
    policy = "policy Local: only endpoints on this node" if route.to is Target.LOCAL else "policy Cluster"
    return Way(verdict="forward", reason=policy, in_turn=route.in_turn)


def _pool(service: ServicePlan, route: Route) -> tuple[Endpoint, ...]:
    pools = {Target.CLUSTER: service.cluster_endpoints, Target.LOCAL: service.local_endpoints}
    return pools.get(route.to, ())


def _drawn(
    view: View, service: ServicePlan, routes: Sequence[Route], known: Sequence[Endpoint], counted: EndpointTotals
) -> Iterator[Drawn]:
    pools = [{str(one) for one in _pool(service, route)} for route in routes]
    local = all(route.to in (Target.LOCAL, Target.DROP) for route in routes)
    for endpoint in known:
        text = str(endpoint)
        shares = tuple(round(1 / len(pool), 9) if text in pool else 0.0 for pool in pools)
        reason = None
        if not any(shares):
            reason = why_unused(endpoint, known, local=local, node_name=view.facts.name).value
        yield Drawn(
            address=text,
            local=endpoint.is_local,
            shares=shares,
            reason=reason,
            total=counted.get((service.name, text)),
        )


def _misnamed(view: View, service: ServicePlan) -> Iterator[Drawn]:
    """Yield endpoints whose ports have other names than the Service's: the commonest mistake of all."""
    name = service.name
    shares = (0.0,) * (1 if service.external is None else 2)
    for (port, protocol), endpoints in sorted(view.ports_in_slices(name.service).items()):
        why = f"its port is named '{port}' ({protocol.upper()}), the Service's '{name.port}' ({name.protocol.upper()})"
        for endpoint in endpoints:
            yield Drawn(address=str(endpoint), local=endpoint.is_local, shares=shares, reason=why)


def _notes(view: View, service: ServicePlan) -> Iterator[str]:
    if service.external is not None and service.external.short_cut:
        yield "Pods of this node, and the node itself, are sent to all ready endpoints, whatever the policy Local says."
    for loss in view.losses:
        if loss.loser == service.name:
            yield f"{loss.claim} is {loss.owner}'s, {loss.reason}."
