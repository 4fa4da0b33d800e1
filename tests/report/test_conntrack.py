"""What is told of conntrack, and which syncs wait for it."""

import io
import threading
from collections.abc import Iterator, Set
from contextlib import contextmanager

import pytest

from kproxy import logs
from kproxy.backends.base import Refused, SyncReport
from kproxy.config import ProxyMode
from kproxy.conntrack.flows import ConntrackError
from kproxy.conntrack.keeper import Keeper
from kproxy.conntrack.reconciler import Reconciler
from kproxy.plan.model import NodePlan, Plan
from kproxy.report.conntrack import ConntrackReporter
from kproxy.report.health import HealthState
from kproxy.report.healthcheck import HealthCheckServers
from kproxy.report.http import HttpServers
from kproxy.report.metrics import Metrics
from kproxy.report.reporter import Reporter
from kproxy.state.model import IPFamily, Protocol, ServicePortName

V4 = IPFamily.IPV4
WEB, DNS = (ServicePortName("default", "a", "", protocol) for protocol in (Protocol.TCP, Protocol.UDP))
DELETED = 'kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv4"}'


def lines_of(verbosity: int, *, released: int = 0, error: Exception | None = None) -> list[str]:
    stream = io.StringIO()
    logs.setup(verbosity=verbosity, stream=stream)
    try:
        reporter = ConntrackReporter(Metrics(ProxyMode.IPTABLES))
        if error is None:
            reporter.reconciled(V4, seconds=0.1, released=released)
        else:
            reporter.failed(V4, error)
    finally:
        logs.setup()
    return [line.partition("Z ")[2] for line in stream.getvalue().splitlines()]


def test_releases_are_routine_and_told_once_for_all_protocols() -> None:
    """With every change of a busy service there are some."""
    assert lines_of(0, released=3) == []
    assert lines_of(2, released=0) == []
    assert lines_of(2, released=3) == [
        "routine conntrack: released entries that led to the wrong place family=ipv4 entries=3"
    ]


def test_failures_are_told_with_their_cause() -> None:
    (line,) = lines_of(0, error=ConntrackError("give the capability CAP_NET_ADMIN"))
    assert line.startswith(
        "warning conntrack: entries that lead to the wrong place could not be released; trying again"
    )
    assert "CAP_NET_ADMIN" in line
    (line,) = lines_of(0, error=RuntimeError("what nobody foresaw"))
    assert line.startswith("error conntrack:")
    assert "what nobody foresaw" in line


def test_releases_are_counted() -> None:
    metrics = Metrics(ProxyMode.IPTABLES)
    reporter = ConntrackReporter(metrics)
    for released in (3, 0, 4):
        reporter.reconciled(V4, seconds=0.1, released=released)
    assert f"{DELETED} 7.0" in metrics.exposition().decode()


class Tried(threading.Event):
    """Notes whether somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = False

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None, "conntrack must not be able to hold up everything"
        self.waited = True
        return True


class IdleKeeper(Keeper):
    """Looks at nothing."""

    def __init__(self) -> None:
        super().__init__(Reconciler(), ConntrackReporter(Metrics(ProxyMode.IPTABLES)), cpu_share=1)
        self.tried = Tried()
        self.changed: Set[ServicePortName] | None = set()

    def synced(self, plan: Plan, changed: Set[ServicePortName] | None) -> threading.Event:
        assert plan.node.family in IPFamily
        self.tried, self.changed = Tried(), changed
        return self.tried


@contextmanager
def reporter_of(keeper: Keeper) -> Iterator[Reporter]:
    servers = HttpServers()
    servers.start()
    try:
        health = HealthState()
        checks = HealthCheckServers(servers, health.proxy_healthy)
        yield Reporter(Metrics(ProxyMode.IPTABLES), health, checks, keeper)
    finally:
        servers.stop()


@pytest.mark.parametrize(
    ("changed", "repaired", "waits"),
    [({WEB}, 0, False), (set(), 0, False), ({WEB, DNS}, 0, True), ({DNS}, 0, True), (set(), 1, True)],
)
def test_who_waits_for_conntrack(changed: set[ServicePortName], repaired: int, waits: bool) -> None:
    """The first sync does; later ones only for flows of UDP, and where rules were missing for a while."""
    keeper, plan = IdleKeeper(), Plan(node=NodePlan(family=V4), services={})
    with reporter_of(keeper) as reporter:
        reporter.synced(SyncReport(full=True, rules={}), plan, frozenset({WEB}), 0.1)
        assert (keeper.tried.waited, keeper.changed) == (True, {WEB})
        reporter.synced(SyncReport(full=False, rules={}, repaired=repaired), plan, frozenset(changed), 0.1)
        assert (keeper.tried.waited, keeper.changed) == (waits, None if repaired else changed)


def test_what_was_left_out_is_looked_at_when_it_is_served_again() -> None:
    """Without rules of its own, a Service's flows have begun by none."""
    keeper, plan = IdleKeeper(), Plan(node=NodePlan(family=V4), services={})
    left_out = [Refused(WEB, "No such file or directory")]
    with reporter_of(keeper) as reporter:
        for refused, looked_at in ((left_out, {WEB}), (left_out, set()), ([], None), ([], set())):
            reporter.synced(SyncReport(full=False, rules={}, refused=refused), plan, frozenset(looked_at or ()), 0.1)
            assert keeper.changed == looked_at
            assert keeper.tried.waited is (looked_at in ({WEB}, None)), (
                "the first sync does, and where rules were missing"
            )
