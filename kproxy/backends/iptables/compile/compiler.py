"""Compiles a Plan into a RuleSet, service by service, and keeps it up to date.

The rules of one service depend on its own plan and the node's alone, so a change of one service compiles that service
and touches its chains and its entries in the shared lists. Compiling from scratch is the same thing, done for all.
"""

from collections.abc import Iterator, Mapping

from kproxy.backends.iptables.compile.lists import LARGE_CLUSTER_ENDPOINTS, PLACES, Layout, SharedList
from kproxy.backends.iptables.compile.node import (
    LOCALHOST_LEFT,
    count_localhost,
    filter_chains,
    nat_chains,
    node_port_jumps,
)
from kproxy.backends.iptables.compile.service import ServiceRules, compile_service
from kproxy.backends.iptables.compile.tree import DispatchTree, Item, LinearList, ListBuilder, item_of
from kproxy.backends.iptables.rules import names
from kproxy.backends.iptables.rules.diff import ChainChange, RuleSetChange
from kproxy.backends.iptables.rules.hooks import FILTER_HOOKS, NAT_HOOKS
from kproxy.backends.iptables.rules.ruleset import Chain, Rule, RuleSet, Table, TableName
from kproxy.plan.model import NodePlan, Plan, ServicePlan
from kproxy.state.model import ServicePortName

_BY_ADDRESS = {
    SharedList.NAT_SERVICES,
    SharedList.FILTER_SERVICES,
    SharedList.FILTER_EXTERNAL_IPS,
    SharedList.FILTER_FIREWALL,
}

_TOGETHER = {shared: [other for other in SharedList if PLACES[other] == PLACES[shared]] for shared in SharedList}
"""Which lists start in the same chain."""


def choose_layout(endpoints: int) -> Layout:
    """Return the layout that fits so many endpoints."""
    return Layout.LARGE if endpoints > LARGE_CLUSTER_ENDPOINTS else Layout.CLASSIC


def count_endpoints(plan: Plan) -> int:
    """Return how many endpoints the services of a plan have together."""
    return sum(len(service.reachable_endpoints) for service in plan.services.values())


def compile_plan(plan: Plan, layout: Layout | None = None) -> RuleSet:
    """Compile ``plan`` from scratch, in the layout given or else the one that fits."""
    compiler = Compiler(plan.node, layout or choose_layout(count_endpoints(plan)))
    compiler.update(plan.services)
    return compiler.ruleset


class Compiler:
    """The rules of one address family in one layout; `update` tells it which plans changed."""

    def __init__(self, node: NodePlan, layout: Layout) -> None:
        self.layout = layout
        self._node = node
        self._services: dict[ServicePortName, ServiceRules] = {}
        self._chains: dict[TableName, dict[str, Chain]] = {
            TableName.FILTER: filter_chains(node),
            TableName.NAT: nat_chains(node),
        }
        self._lists = {shared: self._new_list(shared) for shared in SharedList}
        recorder = _Recorder(self._chains)
        for shared in SharedList:
            self._write_root(shared, recorder)

    @property
    def ruleset(self) -> RuleSet:
        """The rules as they stand; the mappings are live, not copies."""
        return RuleSet(
            filter=Table(self._chains[TableName.FILTER], FILTER_HOOKS),
            nat=Table(self._chains[TableName.NAT], NAT_HOOKS),
        )

    @property
    def services(self) -> Mapping[ServicePortName, ServiceRules]:
        """The rules of each service port; live, not a copy."""
        return self._services

    def update(self, plans: Mapping[ServicePortName, ServicePlan | None]) -> RuleSetChange:
        """Compile the services given, None for those that are gone; return what became different."""
        recorder = _Recorder(self._chains)
        removed: dict[SharedList, list[Item]] = {}
        added: dict[SharedList, list[tuple[Item, Rule]]] = {}
        for name, plan in plans.items():
            old = self._services.pop(name, _NOTHING)
            new = compile_service(plan, self._node, self.layout) if plan is not None else _NOTHING
            if plan is not None:
                self._services[name] = new
            for chain in old.chains.keys() - new.chains.keys():
                recorder.set(TableName.NAT, chain, None)
            for chain, rules in new.chains.items():
                recorder.set(TableName.NAT, chain, rules)
            if old.entries != new.entries:
                for shared, item, _ in _items(name, old):
                    removed.setdefault(shared, []).append(item)
                for shared, item, rule in _items(name, new):
                    added.setdefault(shared, []).append((item, rule))
        for shared in removed.keys() | added.keys():
            changed = self._lists[shared].update(removed.get(shared, ()), added.get(shared, ()))
            for chain, rules_or_none in changed.items():
                recorder.set(PLACES[shared].table, chain, rules_or_none)
            self._write_root(shared, recorder)
        return RuleSetChange(
            after=self.ruleset, filter=recorder.changes(TableName.FILTER), nat=recorder.changes(TableName.NAT)
        )

    def _new_list(self, shared: SharedList) -> ListBuilder:
        if self.layout is Layout.CLASSIC:
            return LinearList()
        return DispatchTree(self._node.family, names.LISTS[PLACES[shared].chain], by_address=shared in _BY_ADDRESS)

    def _write_root(self, shared: SharedList, recorder: "_Recorder") -> None:
        """Put together the chain that a list starts in, of all that has a place there."""
        table, chain = PLACES[shared]
        rules = tuple(rule for other in _TOGETHER[shared] for rule in self._lists[other].root)
        if shared is SharedList.NAT_SERVICES:
            rules += node_port_jumps(self._node, self.layout)
        elif shared is SharedList.NAT_NODE_PORTS and self._node.count_localhost:
            rules += (count_localhost(LOCALHOST_LEFT),)
        recorder.set(table, chain, rules)


class _Recorder:
    """Writes chains and remembers what was there before."""

    def __init__(self, chains: dict[TableName, dict[str, Chain]]) -> None:
        self._chains = chains
        self._before: dict[TableName, dict[str, Chain | None]] = {table: {} for table in TableName}

    def set(self, table: TableName, chain: str, rules: Chain | None) -> None:
        """Write a chain, or remove it."""
        chains = self._chains[table]
        old = chains.get(chain)
        if old == rules:
            return
        self._before[table].setdefault(chain, old)
        if rules is None:
            del chains[chain]
        else:
            chains[chain] = rules

    def changes(self, table: TableName) -> dict[str, ChainChange]:
        """Return which chains of a table are different from when the recorder was made."""
        now = self._chains[table]
        before = self._before[table].items()
        return {chain: ChainChange(old, new) for chain, old in before if (new := now.get(chain)) != old}


_NOTHING = ServiceRules({}, ())


def _items(name: ServicePortName, rules: ServiceRules) -> Iterator[tuple[SharedList, Item, Rule]]:
    """Yield where in the shared lists the entries of a service belong."""
    for number, (shared, rule) in enumerate(rules.entries):
        yield shared, item_of(rule, name, number), rule
