"""Whose an address is that several Services name: ClusterIPs are their own, all else goes to the older one."""

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kproxy.api.decode import convert_object
from kproxy.api.kinds import Kind
from kproxy.api.types import ObjectKey, Service
from kproxy.plan.claims import claim_of, claims_of
from kproxy.plan.model import FrontendKind, Plan
from kproxy.plan.planner import Planner
from kproxy.plan.settings import NodeFacts, ProxySettings
from kproxy.state.model import IPFamily
from kproxy.state.tracker import Tracker
from tests.kit.examples import chances

OLD, YOUNG = "2026-01-01T00:00:00Z", "2026-06-01T00:00:00Z"
VIP = "203.0.113.9"


def service(
    name: str,
    ip: str,
    *,
    namespace: str = "shop",
    port: int = 80,
    protocol: str = "TCP",
    created: str | None = None,
    external: tuple[str, ...] = (),
    vips: tuple[str, ...] = (),
    node_port: int = 0,
) -> Service:
    kind = "LoadBalancer" if vips else "NodePort" if node_port else "ClusterIP"
    entry: dict[str, Any] = {"port": port, "protocol": protocol}
    raw = {
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created},
        "spec": {
            "type": kind,
            "clusterIP": ip,
            "externalIPs": list(external),
            "ports": [entry | ({"nodePort": node_port} if node_port else {})],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": vip} for vip in vips]}},
    }
    found = convert_object(Kind.SERVICE, raw).object
    assert isinstance(found, Service)
    return found


class World:
    """One family's tracker and planner."""

    def __init__(self, *services: Service) -> None:
        self.tracker = Tracker(IPFamily.IPV4, "node-a")
        self.planner = Planner(ProxySettings(), NodeFacts(name="node-a"), self.tracker)
        self.put(*services)

    def put(self, *services: Service) -> set[str]:
        """Take in Services, and plan; return the names of those whose plan is another now."""
        for each in services:
            self.tracker.update_service(each)
        return self.sync()

    def delete(self, name: str, namespace: str = "shop") -> set[str]:
        self.tracker.delete_service(ObjectKey(namespace, name))
        return self.sync()

    def sync(self) -> set[str]:
        changed = self.planner.update(self.tracker.pending)
        self.tracker.applied(set(self.tracker.pending))
        return {name.name for name in changed}

    def owner(self, ip: str | None, port: int = 80) -> list[str]:
        """Who serves an address: one, or nobody."""
        return [
            name.name
            for name, plan in self.planner.plan.services.items()
            if any(frontend.ip == ip and frontend.port == port for frontend in plan.frontends)
        ]

    @property
    def losers(self) -> list[str]:
        return [str(loss.problem) for loss in self.planner.losses]


B = service("b", "10.96.0.20", created=YOUNG)
THIEF = service("a", "10.96.0.21", namespace="aaa", created=OLD, external=("10.96.0.20",))
BALANCED_THIEF = service("a", "10.96.0.21", namespace="aaa", created=OLD, vips=("10.96.0.20",))


@pytest.mark.parametrize("thief", [THIEF, BALANCED_THIEF], ids=["external IP", "load balancer"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_cluster_ip_belongs_to_its_service(thief: Service, order: tuple[int, int]) -> None:
    """CVE-2020-8554: whatever the names, the ages, and who came first."""
    world = World()
    for number in order:
        world.put((B, thief)[number])
    assert world.owner("10.96.0.20") == ["b"]
    assert world.owner("10.96.0.21") == ["a"], "its own address is not touched"
    (line,) = world.losers
    assert line.startswith("Service aaa/a: ")
    assert "10.96.0.20:80/TCP belongs to Service shop/b, whose cluster IP it is" in line


def test_the_loser_comes_into_force_when_the_owner_goes_and_loses_again() -> None:
    world = World(B, THIEF)
    assert world.delete("b") == {"a", "b"}
    assert world.owner("10.96.0.20") == ["a"]
    assert world.losers == []
    assert world.put(B) == {"a", "b"}
    assert world.owner("10.96.0.20") == ["b"]


@pytest.mark.parametrize("other", [{"port": 81}, {"protocol": "UDP"}])
def test_another_port_or_protocol_is_another_matter(other: dict[str, Any]) -> None:
    world = World(B, service("a", "10.96.0.21", external=("10.96.0.20",), **other))
    assert world.losers == []


BETWEEN_OTHERS: dict[str, tuple[Service, Service, str]] = {
    # The first of two has it.
    "the older": (
        service("z", "10.96.0.1", created=OLD, external=(VIP,)),
        service("a", "10.96.0.2", created=YOUNG, external=(VIP,)),
        "which is older, as its external IP",
    ),
    "one that tells its age": (
        service("z", "10.96.0.1", created=YOUNG, external=(VIP,)),
        service("a", "10.96.0.2", external=(VIP,)),
        "which is older, as its external IP",
    ),
    "of the same age, the first by name": (
        service("a", "10.96.0.1", created=OLD, external=(VIP,)),
        service("z", "10.96.0.2", created=OLD, external=(VIP,)),
        "whose name comes first, as its external IP",
    ),
    "the load balancer's": (
        service("z", "10.96.0.1", created=YOUNG, vips=(VIP,)),
        service("a", "10.96.0.2", created=OLD, external=(VIP,)),
        "whose loadbalancer IP it is",
    ),
    "of two load balancers, the older": (
        service("z", "10.96.0.1", created=OLD, vips=(VIP,)),
        service("a", "10.96.0.2", created=YOUNG, vips=(VIP,)),
        "which is older, as its loadbalancer IP",
    ),
}


@pytest.mark.parametrize("case", list(BETWEEN_OTHERS))
@pytest.mark.parametrize("backwards", [False, True])
def test_among_others_the_owner_is_fixed(case: str, backwards: bool) -> None:
    winner, loser, reason = BETWEEN_OTHERS[case]
    world = World()
    for each in (loser, winner) if backwards else (winner, loser):
        world.put(each)
    assert world.owner(VIP) == [winner.metadata.name]
    (line,) = world.losers
    assert f"Service shop/{loser.metadata.name}: " in line
    assert reason in line


def test_node_ports_and_cluster_ips_given_twice_by_hand() -> None:
    world = World(
        service("young", "10.96.0.1", created=YOUNG, node_port=30080),
        service("old", "10.96.0.1", created=OLD, node_port=30080),
    )
    assert world.owner(None, 30080) == world.owner("10.96.0.1") == ["old"]
    assert len(world.losers) == 2
    plan = next(plan for name, plan in world.planner.plan.services.items() if name.name == "young")
    assert plan.frontends == ()
    assert plan.external is None


def test_planning_stays_incremental() -> None:
    """A change plans its own Service, and those it wins from or loses to; of thousands of others, none."""
    others = [service(f"other-{number}", f"10.97.{number // 250}.{number % 250 + 1}") for number in range(500)]
    world = World(*others, B)
    plans = dict(world.planner.plan.services)
    assert world.put(THIEF) == {"a"}
    again = world.planner.plan.services
    assert all(again[name] is plan for name, plan in plans.items() if name.name != "b")


def test_an_age_that_is_none_is_named_and_left_out() -> None:
    odd = service("a", "10.96.0.1", created="yesterday", external=(VIP,))
    world = World(odd, service("z", "10.96.0.2", created=YOUNG, external=(VIP,)))
    assert world.owner(VIP) == ["z"]
    (problem,) = world.tracker.update_service(odd).problems
    assert str(problem) == (
        "Service shop/a: metadata.creationTimestamp: 'yesterday' is no time such as 2026-01-31T12:00:00Z; left out"
    )


IPS = ("10.96.0.1", "10.96.0.2", "10.96.0.3")
services = st.builds(
    service,
    st.sampled_from("abc"),
    st.sampled_from(IPS),
    namespace=st.sampled_from(["x", "y"]),
    created=st.sampled_from([OLD, YOUNG, None]),
    external=st.lists(st.sampled_from([*IPS, VIP]), max_size=2).map(tuple),
    vips=st.lists(st.sampled_from([*IPS, VIP]), max_size=1).map(tuple),
    node_port=st.sampled_from([0, 30001]),
)


@given(st.lists(services, max_size=12), chances)
def test_any_order_of_events_gives_the_same_plan_and_each_address_one_owner(
    events: list[Service], chance: Random
) -> None:
    world = World()
    final: dict[ObjectKey, Service] = {}
    for each in events:
        key = each.metadata.key
        if chance.random() < 0.3:
            final.pop(key, None)
            world.tracker.delete_service(key)
        else:
            final[key] = each
            world.tracker.update_service(each)
        if chance.random() < 0.5:
            world.sync()
    world.sync()
    fresh = World(*final.values())
    assert dict(world.planner.plan.services) == dict(fresh.planner.plan.services)
    assert world.planner.losses == fresh.planner.losses
    each_has_one_owner(world.planner.plan)
    lost = {(loss.loser, loss.claim) for loss in world.planner.losses}
    for name, port in world.tracker.ports.items():
        held = {claim_of(frontend, name.protocol) for frontend in world.planner.plan.services[name].frontends}
        assert held | {claim for loser, claim in lost if loser == name} == claims_of(port).keys()
    for loss in world.planner.losses:
        owner = world.planner.plan.services[loss.owner]
        title = {claim_of(f, loss.owner.protocol): f.kind for f in reversed(owner.frontends)}[loss.claim]
        assert loss.kind is not FrontendKind.CLUSTER_IP or title is FrontendKind.CLUSTER_IP


def each_has_one_owner(plan: Plan) -> None:
    owners: dict[object, str] = {}
    for name, planned in plan.services.items():
        for frontend in planned.frontends:
            claim = claim_of(frontend, name.protocol)
            assert owners.setdefault(claim, str(name)) == str(name)
