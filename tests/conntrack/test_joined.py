"""However many changes one look has to make up for, nothing is left that leads to the wrong place."""

from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager

from hypothesis import given
from hypothesis import strategies as st

from kproxy.conntrack.expected import Expected, destinations
from kproxy.conntrack.flows import Flow, packed, socket_address, split
from kproxy.conntrack.keeper import Keeper
from kproxy.conntrack.looks import Look
from kproxy.conntrack.reconciler import Reconciler
from kproxy.plan.model import Destination, Frontend, FrontendKind, NodePlan, Plan, Route, ServicePlan, Target
from kproxy.state.model import Endpoint, IPFamily, Protocol, ServicePortName

PATIENCE = 30.0
NODE, CLIENT = NodePlan(family=IPFamily.IPV4), "10.244.0.9"
NAMES = [ServicePortName("default", "a", "", protocol) for protocol in (Protocol.UDP, Protocol.TCP)]
IPS = ["10.96.0.10", "10.96.0.11"]
ENDPOINTS = [Endpoint(f"10.244.0.{number}", 53) for number in (1, 2)]
ENDPOINTS.append(Endpoint("10.244.0.1", 53, ready=False, terminating=True))


class Table:
    """A conntrack table that tells of what it is asked for and of nothing else, as new kernels do."""

    def __init__(self) -> None:
        self.held: dict[bytes, Flow] = {}

    @contextmanager
    def open(self, _: IPFamily) -> Iterator["Table"]:
        yield self

    def flows(self, look: Look) -> Iterator[Flow]:
        for one in list(self.held.values()):
            place = [socket_address(look.ip, look.port or 53)] if look.ip is not None else [one.destination]
            if one.protocol in look.protocols and one.destination in place and look.port in (None, 53):
                yield one

    def release(self, flows: Sequence[Flow]) -> int:
        return sum(self.held.pop(one.handle, None) is not None for one in flows)

    def is_local(self, ip: str) -> bool:
        assert ip
        return False

    def begin(self, service: ServicePlan | None, protocol: Protocol, ip: str) -> None:
        """Have flows begin as a service's rules would have them, one to each endpoint.

        Without a service they go nowhere. So they do without endpoints, where somebody else's rule lets them pass.
        """
        served = service is not None and Destination(ip, 53) in destinations(service)
        goes_to = [(one.ip, one.port) for one in service.serving_endpoints] if service is not None and served else []
        for to in goes_to or [(ip, 53)]:
            handle = f"{protocol} {ip} {to}".encode()
            flow = Flow(protocol, packed(CLIENT), socket_address(ip, 53), socket_address(*to), handle)
            self.held.setdefault(handle, flow)


def service(name: ServicePortName, ip: str, serving: Sequence[Endpoint]) -> ServicePlan:
    route = Route(Target.CLUSTER) if serving else Route(Target.REJECT)
    frontends = (Frontend(FrontendKind.CLUSTER_IP, ip, 53),)
    return ServicePlan(name=name, frontends=frontends, internal=route, serving_endpoints=tuple(serving))


class Idle:
    """A `kproxy.conntrack.keeper.Observer` of whom nothing is asked."""

    def reconciled(self, family: IPFamily, *, seconds: float, released: int) -> None:
        assert family is IPFamily.IPV4
        assert seconds >= 0 <= released

    def failed(self, family: IPFamily, error: Exception) -> None:
        raise AssertionError(family) from error


def look(keeper: Keeper, plan: Plan, changed: Set[ServicePortName] | None) -> None:
    """Hand in a last change, and have everything looked at that waits."""
    tried = keeper.synced(plan, changed)
    with keeper.running():
        assert tried.wait(PATIENCE)


SERVICES = st.none() | st.tuples(
    st.sampled_from(IPS), st.lists(st.sampled_from(ENDPOINTS), max_size=2, unique_by=lambda one: one.ip)
)
CHANGES = st.lists(st.tuples(st.sampled_from(NAMES), SERVICES, st.booleans(), st.booleans()), min_size=1, max_size=6)


@given(before=st.lists(SERVICES, min_size=2, max_size=2), changes=CHANGES)
def test_nothing_stale_is_left(
    before: list[tuple[str, list[Endpoint]] | None],
    changes: list[tuple[ServicePortName, tuple[str, list[Endpoint]] | None, bool, bool]],
) -> None:
    """Of each change: which service, what becomes of it, whether all is to be looked at, and whether it is by now."""
    table = Table()
    keeper = Keeper(Reconciler(table.open, lambda _: None), Idle(), cpu_share=1)
    services = {name: service(name, *one) for name, one in zip(NAMES, before, strict=True) if one is not None}
    plan = Plan(node=NODE, services=services)
    look(keeper, plan, None)
    ever = {Destination(ip, 53) for ip in IPS}
    for number, (name, one, everything, now) in enumerate(changes):
        services.pop(name, None)
        if one is not None:
            services[name] = service(name, *one)
        changed = None if everything else {name}
        last = number == len(changes) - 1
        # These begin before the new rules have been looked at; once they have, none begins that is stale.
        for ip in IPS:
            table.begin(services.get(name), name.protocol, ip)
        look(keeper, plan, changed) if now or last else keeper.synced(plan, changed)
    wanted = Expected(plan, dict.fromkeys(Protocol, ever))
    nowhere = {(name.protocol, *place) for name, one in services.items() if not one.serving_endpoints for place in ever}
    stale = [flow for flow in table.held.values() if wanted.stale(flow, table.is_local)]
    assert [one for one in stale if one.translated or (one.protocol, *split(one.destination)) not in nowhere] == []
