"""The iptables backend as a whole, over an applier that stands in for the kernel."""

import errno
from array import array
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest

from kproxy.api.types import EndpointSlice, Service
from kproxy.backends.base import BackendError
from kproxy.backends.iptables.backend import IptablesBackend
from kproxy.backends.iptables.compile.compiler import Compiler, compile_plan
from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.kernel.applier import ApplyResult
from kproxy.backends.iptables.kernel.engine import packets_at
from kproxy.backends.iptables.kernel.errors import KernelRefusedError, UnencodableRuleError
from kproxy.backends.iptables.rules.counted import Place
from kproxy.backends.iptables.rules.diff import RuleSetChange
from kproxy.backends.iptables.rules.names import cluster_chain
from kproxy.backends.iptables.rules.ruleset import (
    ChainCounters,
    DestinationNat,
    Reject,
    Rule,
    RuleSet,
    Table,
    TableName,
)
from kproxy.node.facts import node_facts
from kproxy.plan.model import Destination
from kproxy.plan.planner import Planner
from kproxy.plan.settings import ProxySettings
from kproxy.report.metrics import ConnectionCounters, Reading
from kproxy.state.model import IPFamily, Protocol, ServicePortName
from kproxy.state.tracker import Tracker
from tests.kit.apiserver.objects import make_service, make_slice


def copy(ruleset: RuleSet) -> RuleSet:
    """Return a value of its own: a compiler's rule set is a live view."""
    filter_table, nat = (ruleset.table(name) for name in TableName)
    return RuleSet(filter=Table(dict(filter_table.chains), filter_table.hooks), nat=Table(dict(nat.chains), nat.hooks))


class FakeKernel:
    """An applier that holds a rule set; ``refuses`` says what it won't take."""

    def __init__(self) -> None:
        self.held: RuleSet | None = None
        self.refuses: Callable[[RuleSet], BackendError | None] = lambda _: None
        self.calls: list[str] = []
        self.packets: Callable[[Rule], int] = lambda _: 0
        self.version = 0

    @property
    def rule_counts(self) -> Mapping[TableName, int]:
        assert self.held is not None
        return {name: sum(map(len, self.held.table(name).chains.values())) for name in TableName}

    def reconcile(self, ruleset: RuleSet) -> ApplyResult:
        self.calls.append("reconcile")
        self._take(copy(ruleset))
        return ApplyResult(full=True)

    def apply(self, change: RuleSetChange) -> ApplyResult:
        self.calls.append("apply")
        assert self.held is not None
        after = copy(self.held)
        for name in TableName:
            chains: dict[str, Any] = dict(after.table(name).chains)
            for chain, (old, new) in change.table(name).items():
                assert chains.get(chain) == old, f"{chain} is not what the change says it was"
                chains.pop(chain, None)
                if new is not None:
                    chains[chain] = new
            table = Table(chains, after.table(name).hooks)
            after = msgspec.structs.replace(after, **{str(name): table})
        self._take(after)
        return ApplyResult(full=False)

    def _take(self, ruleset: RuleSet) -> None:
        error = self.refuses(ruleset)
        if error is not None:
            raise error
        self.held = ruleset

    def cleanup(self) -> None:
        self.held = None

    def udp_frontends(self) -> Set[Destination]:
        return set()

    def make_way(self) -> None:
        pass

    def close(self) -> None:
        pass

    def drifted(self) -> bool:
        return False

    def counters(self) -> Mapping[TableName, ChainCounters]:
        assert self.held is not None
        return {
            name: {
                chain: [(self.packets(rule), 0) for rule in rules]
                for chain, rules in self.held.table(name).chains.items()
            }
            for name in TableName
        }

    def counted(
        self, places: Mapping[TableName, Iterable[Place]], version: int, hurry: Callable[[], bool] = lambda: False
    ) -> "Mapping[TableName, array[int]]":
        assert version >= self.version
        assert not hurry()
        self.version = version
        return {name: packets_at(its, self.counters()[name]) for name, its in places.items()}


class Node:
    """State, plan and backend of one family, driven by hand."""

    def __init__(self, layout: Layout | None = Layout.CLASSIC) -> None:
        self.tracker = Tracker(IPFamily.IPV4, "node-a")
        self.planner = Planner(ProxySettings(), node_facts("node-a", None), self.tracker)
        self.kernel = FakeKernel()
        self.backend = IptablesBackend(IPFamily.IPV4, self.kernel, layout)
        self.layout = layout
        self._totals = ConnectionCounters()

    def totals(self) -> ConnectionCounters:
        """What becomes of readings, as whoever scrapes is told."""
        counts = self.backend.counts()
        assert counts is not None
        self._totals.fold(Reading(IPFamily.IPV4, counts))
        return self._totals

    def serve(self, number: int, *endpoints: str) -> ServicePortName:
        name = f"svc-{number:02}"
        service = make_service(name, cluster_ip=f"10.96.0.{number}")
        self.tracker.update_service(msgspec.convert(service, Service))
        self.tracker.update_slice(msgspec.convert(make_slice(name, endpoints=endpoints), EndpointSlice))
        return ServicePortName("default", name, "", Protocol.TCP)

    def sync(self, *, full: bool = False) -> set[str]:
        """Sync once; return the names of services that were left out."""
        changed = self.planner.update(set(self.tracker.pending))
        report = self.backend.apply(self.planner.plan, changed, full=full)
        return {refused.name.name for refused in report.refused}

    def expected(self, *without: ServicePortName) -> RuleSet:
        services = {name: plan for name, plan in self.planner.plan.services.items() if name not in without}
        return compile_plan(msgspec.structs.replace(self.planner.plan, services=services), self.layout)


def refusing(*names: ServicePortName, code: int = errno.EINVAL) -> Callable[[RuleSet], BackendError | None]:
    chains = {cluster_chain(name) for name in names}

    def refuses(ruleset: RuleSet) -> BackendError | None:
        if chains & ruleset.nat.chains.keys():
            return KernelRefusedError("nat", code, "Invalid argument", "committing it")
        return None

    return refuses


def test_the_first_sync_compares_and_later_ones_step() -> None:
    node = Node()
    node.serve(1, "10.244.0.1")
    node.sync()
    node.serve(2, "10.244.0.2")
    node.sync()
    assert node.kernel.calls == ["reconcile", "apply"]
    assert node.kernel.held == node.expected()


def test_the_report_tells_what_is_in_force_and_what_this_sync_saw_to() -> None:
    node = Node()
    node.serve(1, "10.244.0.1")
    node.planner.update(set(node.tracker.pending))
    first = node.backend.apply(node.planner.plan, node.planner.plan.services.keys(), full=False)
    assert first.written == first.rules
    name = node.serve(2)
    step = node.backend.apply(node.planner.plan, node.planner.update({name}), full=False)
    assert (step.written, step.rules["filter"]) == ({"filter": 1, "nat": 0}, first.rules["filter"] + 1)


def test_after_a_failure_it_compares() -> None:
    node = Node()
    node.serve(1, "10.244.0.1")
    node.sync()
    node.kernel.refuses = lambda _: BackendError("out of memory")
    node.serve(2, "10.244.0.2")
    with pytest.raises(BackendError, match="out of memory"):
        node.sync()
    node.kernel.refuses = lambda _: None
    node.sync()
    assert node.kernel.calls[-1] == "reconcile"
    assert node.kernel.held == node.expected()


def test_after_a_fault_of_its_own_it_compiles_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can tell how much of the change is in what had been compiled by then."""
    node = Node()
    node.serve(1, "10.244.0.1")
    node.sync()
    node.serve(2, "10.244.0.2")
    with monkeypatch.context() as patch:
        patch.setattr(Compiler, "update", Mock(side_effect=KeyError))
        with pytest.raises(KeyError):
            node.sync()
    node.sync()
    assert node.kernel.calls == ["reconcile", "reconcile"]
    assert node.kernel.held == node.expected()


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("bad", [(7,), (1, 2), (1, 20), (3, 9, 10, 19)])
def test_services_the_kernel_refuses_are_left_out_and_all_others_served(layout: Layout, bad: tuple[int, ...]) -> None:
    node = Node(layout)
    names = {number: node.serve(number, "10.244.0.1", "10.244.1.2") for number in range(1, 21)}
    culprits = [names[number] for number in bad]
    node.kernel.refuses = refusing(*culprits)
    assert node.sync() == {name.name for name in culprits}
    assert node.kernel.held == node.expected(*culprits)


def test_the_search_takes_few_tries() -> None:
    node = Node()
    names = [node.serve(number, "10.244.0.1") for number in range(1, 129)]
    node.kernel.refuses = refusing(names[77])
    node.sync()
    assert len(node.kernel.calls) < 20


def test_a_refused_service_is_tried_again_when_it_changes() -> None:
    node = Node()
    node.serve(1, "10.244.0.1")
    bad = node.serve(2, "10.244.0.2")
    node.kernel.refuses = refusing(bad)
    assert node.sync() == {bad.name}
    node.serve(3, "10.244.0.3")
    assert node.sync() == {bad.name}
    assert node.kernel.held == node.expected(bad)
    node.kernel.refuses = lambda _: None
    node.serve(2, "10.244.0.2", "10.244.1.2")
    assert node.sync() == set()
    assert node.kernel.held == node.expected()


def test_a_refused_service_is_tried_again_at_a_full_sync() -> None:
    node = Node()
    bad = node.serve(1, "10.244.0.1")
    node.kernel.refuses = refusing(bad)
    assert node.sync() == {bad.name}
    node.kernel.refuses = lambda _: None
    assert node.sync(full=True) == set()
    assert node.kernel.held == node.expected()


def test_a_rule_that_cannot_be_encoded_is_its_services_fault() -> None:
    node = Node()
    bad = node.serve(1, "10.244.0.1")
    node.serve(2, "10.244.0.2")

    def refuses(ruleset: RuleSet) -> BackendError | None:
        if cluster_chain(bad) in ruleset.nat.chains:
            return UnencodableRuleError(TableName.NAT, cluster_chain(bad), "comment too long")
        return None

    node.kernel.refuses = refuses
    assert node.sync() == {bad.name}


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.EPERM, errno.ENOPROTOOPT])
def test_what_is_no_services_fault_is_blamed_on_none(code: int) -> None:
    node = Node()
    name = node.serve(1, "10.244.0.1")
    node.kernel.refuses = refusing(name, code=code)
    with pytest.raises(KernelRefusedError):
        node.sync()
    assert node.kernel.calls == ["reconcile"]


def test_where_everything_is_refused_the_error_stands() -> None:
    node = Node()
    node.serve(1, "10.244.0.1")
    node.kernel.refuses = lambda _: KernelRefusedError("nat", errno.ENOENT, "No such file", "committing it")
    with pytest.raises(KernelRefusedError, match="a kernel module is missing"):
        node.sync()


def test_the_layout_follows_the_number_of_endpoints() -> None:
    node = Node(layout=None)
    first = node.serve(1, "10.244.1.1")
    node.sync()
    assert node.kernel.held == compile_plan(node.planner.plan, Layout.CLASSIC)
    for number in range(2, 103):
        node.serve(number, *(f"10.244.{number}.{host}" for host in range(1, 11)))
    node.sync()
    assert node.kernel.held == compile_plan(node.planner.plan, Layout.LARGE)
    assert node.kernel.calls == ["reconcile", "apply"]
    for number in range(2, 103):
        node.serve(number)
    node.sync()
    assert node.kernel.held == compile_plan(node.planner.plan, Layout.CLASSIC)
    assert cluster_chain(first) in node.kernel.held.nat.chains


@pytest.mark.parametrize("layout", list(Layout))
def test_connections_are_counted_where_they_are_sent_to_an_endpoint(layout: Layout) -> None:
    node = Node(layout)
    web = node.serve(1, "10.244.0.1", "10.244.0.2")
    empty = node.serve(2)
    node.sync()
    packets = {DestinationNat("10.244.0.1", 80): 5, DestinationNat("10.244.0.2", 80): 7, Reject(): 3}
    node.kernel.packets = lambda rule: packets.get(rule.target, 0) if rule.target else 0
    totals = node.totals()
    assert totals.services == {web: 12, empty: 0}
    assert totals.endpoints == {(web, "10.244.0.1:80"): 5, (web, "10.244.0.2:80"): 7}
    assert totals.rejected == {web: 0, empty: 3}
    assert totals.dropped == {web: 0, empty: 0}
    assert totals.packets("invalid_dropped") == 0


def test_only_services_that_have_moved_are_told_of() -> None:
    node = Node()
    one, other = node.serve(1, "10.244.0.1", "10.244.0.2"), node.serve(2, "10.244.0.3")
    node.sync()
    packets = {"10.244.0.1": 5, "10.244.0.3": 7}
    node.kernel.packets = lambda rule: packets.get(rule.target.ip, 0) if isinstance(rule.target, DestinationNat) else 0

    def told() -> dict[ServicePortName, int]:
        counts = node.backend.counts()
        assert counts is not None
        return {name: sum(counter.packets for counter in its) for name, its in counts.endpoints.items()}

    assert told() == {one: 5, other: 7}
    assert told() == {}
    packets["10.244.0.3"] = 8
    assert told() == {other: 8}
    third = node.serve(3, "10.244.0.1")
    node.sync()
    assert told() == {third: 5}
    node.serve(2, "10.244.0.4")
    node.sync()
    assert told() == {other: 0}


def test_a_sync_in_between_makes_a_reading_useless() -> None:
    node = Node()
    web = node.serve(1, "10.244.0.1")
    node.sync()
    node.kernel.packets = lambda _: 1
    counters, syncs = node.kernel.counters, iter([True, True, True, True, False])

    def slow() -> Mapping[TableName, ChainCounters]:
        found = counters()
        if next(syncs, False):
            node.sync(full=True)
        return found

    node.kernel.counters = slow  # type: ignore[method-assign]
    assert node.backend.counts() is None
    assert node.totals().services == {web: 1}


def test_a_chain_that_is_not_ours_just_now_counts_for_nothing() -> None:
    node = Node()
    web = node.serve(1, "10.244.0.1")
    node.sync()
    node.kernel.packets = lambda _: 1
    assert node.kernel.held is not None
    chains = {name: chain[:-1] for name, chain in node.kernel.held.nat.chains.items()}
    node.kernel.held = msgspec.structs.replace(node.kernel.held, nat=Table(chains))
    assert node.totals().services == {web: 0}
