"""When kproxy calls itself alive, healthy and ready."""

import pytest

from kproxy.api.kinds import Kind
from kproxy.api.status import WatchStatus
from kproxy.api.types import Node, NodeSpec, ObjectMeta, Taint
from kproxy.report.health import TO_BE_DELETED_TAINT, HealthState
from kproxy.state.model import IPFamily
from tests.kit.clock import Clock

V4, V6 = IPFamily.IPV4, IPFamily.IPV6
NODE = Node(metadata=ObjectMeta(name="n"))
TAINTED = Node(metadata=ObjectMeta(name="n"), spec=NodeSpec(taints=(Taint("x"), Taint(TO_BE_DELETED_TAINT))))
DELETED = Node(metadata=ObjectMeta(name="n", deletion_timestamp="2026-01-01T00:00:00Z"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> HealthState:
    return HealthState(sync_timeout=60, watch_timeout=180, wall_clock=clock, monotonic=clock)


def answers(health: HealthState) -> tuple[int, int, int]:
    return health.healthz().status, health.livez().status, health.readyz().status


def sync_all(health: HealthState) -> None:
    for family in IPFamily:
        health.synced(family)


def test_a_new_kproxy_is_healthy_and_not_ready(health: HealthState) -> None:
    assert answers(health) == (200, 200, 503)
    assert health.proxy_healthy()
    assert health.healthz().body["lastUpdated"] == "1970-01-01T00:16:40Z"


def test_ready_means_every_family_has_been_synced(health: HealthState) -> None:
    status = WatchStatus(Kind.SERVICE)
    health.watch_statuses(lambda: [status])
    assert health.readyz().body["reasons"] == ["waiting for the first list of Service; no rules yet for IPv4 and IPv6"]
    status.synced = True
    health.synced(V4)
    assert health.readyz().body["reasons"] == ["waiting for the first sync; no rules yet for IPv6"]
    health.synced(V6)
    assert health.readyz().ok


@pytest.mark.parametrize(
    ("waited", "healthz", "livez"), [(0, 200, 200), (59.9, 200, 200), (60, 503, 503), (600, 503, 503)]
)
def test_a_late_sync_fails_both(health: HealthState, clock: Clock, waited: float, healthz: int, livez: int) -> None:
    sync_all(health)
    health.queued()
    clock.now += waited
    assert answers(health) == (healthz, livez, 200)
    assert health.proxy_healthy() is (livez == 200)
    sync_all(health)
    assert answers(health) == (200, 200, 200)


def test_the_oldest_change_counts(health: HealthState, clock: Clock) -> None:
    health.queued()
    clock.now += 40
    health.queued()
    clock.now += 20
    assert not health.livez().ok


def test_a_change_may_have_waited_before_it_was_noted(health: HealthState, clock: Clock) -> None:
    health.queued(since=clock.now - 60)
    assert not health.livez().ok


def test_one_family_is_enough_to_be_unhealthy_and_is_named(health: HealthState, clock: Clock) -> None:
    sync_all(health)
    clock.now += 5
    health.queued()
    health.synced(V6)
    clock.now += 90
    verdict = health.livez()
    assert verdict.status == 503
    assert verdict.body == {
        "lastUpdated": "1970-01-01T00:16:45Z",
        "currentTime": "1970-01-01T00:18:15Z",
        "healthy": False,
        "status": {
            "IPv4": {"lastUpdated": "1970-01-01T00:16:40Z", "healthy": False},
            "IPv6": {"lastUpdated": "1970-01-01T00:16:45Z", "healthy": True},
        },
        "watches": {},
        "reasons": ["IPv4 changes have been waiting to be synced for 90s"],
    }


def test_a_first_sync_that_never_succeeds_is_late_too(health: HealthState, clock: Clock) -> None:
    health.queued(V4)
    clock.now += 60
    verdict = health.healthz()
    assert verdict.status == 503
    assert verdict.body["lastUpdated"] == "0001-01-01T00:00:00Z"
    assert verdict.body["status"] == {"IPv4": {"lastUpdated": "0001-01-01T00:00:00Z", "healthy": False}}


@pytest.mark.parametrize(
    ("nodes", "healthz"),
    [
        ([], 200),
        ([None], 200),
        ([NODE], 200),
        ([NODE, None], 503),
        ([TAINTED], 503),
        ([DELETED], 503),
        ([TAINTED, NODE], 200),
        ([NODE, None, NODE], 200),
    ],
)
def test_a_node_that_is_going_fails_healthz_only(health: HealthState, nodes: list[Node | None], healthz: int) -> None:
    sync_all(health)
    for node in nodes:
        health.node_changed(node)
    assert answers(health) == (healthz, 200, 200)
    body = health.healthz().body
    assert body["nodeEligible"] is (healthz == 200)
    assert body["healthy"] is True, "kube-proxy's word for its own health, whatever the node's"
    assert ("reasons" in body) is (healthz == 503)
    assert "nodeEligible" not in health.livez().body
    assert health.proxy_healthy()


def status(clock: Clock, *, age: float, failing: float | None) -> WatchStatus:
    return WatchStatus(
        Kind.ENDPOINT_SLICE,
        synced=True,
        last_sign_of_life=clock.now - age,
        failing_since=None if failing is None else clock.now - failing,
        error=None if failing is None else "connection refused",
    )


@pytest.mark.parametrize(
    ("age", "failing", "reasons"),
    [
        (1, None, None),
        (179, 179, None),
        (10, 180, ["watching EndpointSlice has failed for 180s: connection refused"]),
        (200, 190, ["watching EndpointSlice has failed for 190s: connection refused"]),
        (200, None, ["watching EndpointSlice has brought no sign of life for 200s"]),
    ],
)
def test_a_dead_watch_fails_healthz_with_its_reason(
    health: HealthState, clock: Clock, age: float, failing: float | None, reasons: list[str] | None
) -> None:
    sync_all(health)
    health.watch_statuses(lambda: [status(clock, age=age, failing=failing)])
    assert answers(health) == (200 if reasons is None else 503, 200, 200)
    assert health.healthz().body.get("reasons") == reasons
    shown = {"synced": True, "ageSeconds": age, **({"error": "connection refused"} if failing else {})}
    assert health.healthz().body["watches"] == {"EndpointSlice": shown}
    assert health.livez().body["watches"] == {"EndpointSlice": shown}
    assert health.proxy_healthy()


def test_only_the_families_in_use_are_judged(clock: Clock) -> None:
    health = HealthState([V4], wall_clock=clock, monotonic=clock)
    health.synced(V4)
    assert health.readyz().ok
    health.queued()
    health.synced(V4)
    clock.now += 1000
    assert health.livez().ok
