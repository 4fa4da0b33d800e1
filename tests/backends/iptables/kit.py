"""An iptables backend over an applier that stands in for the kernel."""

from array import array
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any

import msgspec

from kproxy.api.types import EndpointSlice, Service
from kproxy.backends.base import BackendError
from kproxy.backends.iptables.backend import IptablesBackend
from kproxy.backends.iptables.compile.compiler import compile_plan
from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.kernel.applier import ApplyResult
from kproxy.backends.iptables.rules.counted import Place, packets_at
from kproxy.backends.iptables.rules.diff import RuleSetChange
from kproxy.backends.iptables.rules.ruleset import (
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

    def counted(
        self, places: Mapping[TableName, Iterable[Place]], version: int, hurry: Callable[[], bool] = lambda: False
    ) -> "Mapping[TableName, array[int]]":
        assert version >= self.version
        assert not hurry()
        self.version = version
        return {name: packets_at(its, self._packets(name)) for name, its in places.items()}

    def _packets(self, name: TableName) -> dict[str, list[int]]:
        assert self.held is not None
        return {chain: [self.packets(rule) for rule in rules] for chain, rules in self.held.table(name).chains.items()}


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
