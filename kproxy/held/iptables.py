"""iptables' tables, of either variant, as a part of what the kernel holds."""

from collections.abc import Iterator, Sequence

from kproxy.backends.iptables.compile.compiler import compile_plan
from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.rules import names
from kproxy.backends.iptables.rules.held import HeldTable
from kproxy.backends.iptables.rules.render import render_rule
from kproxy.backends.iptables.rules.ruleset import Jump, Rule, TableName
from kproxy.backends.iptables.rules.walk import HOOKS, RuleSetMachine, bases, walk_through
from kproxy.backends.packet import Packet, World
from kproxy.backends.walk import Base, ImpossibleRuleError
from kproxy.explain.compare import Line, added, missing
from kproxy.explain.model import Difference, ElementFound
from kproxy.plan.model import Plan

LISTS = (names.SERVICES, names.NODE_PORTS, names.EXTERNAL_SERVICES, names.PROXY_FIREWALL)
_TREES = {"KUBE-EXTERNAL-": names.EXTERNAL_SERVICES, "KUBE-PROXY-FW-": names.PROXY_FIREWALL} | {
    f"{chain}-": chain for chain in (names.SERVICES, names.NODE_PORTS)
}


class IptablesPart:
    """Implements `kproxy.held.part.OwnPart`."""

    def __init__(self, tables: Sequence[HeldTable], layout: Layout | None = None) -> None:
        """``layout`` is that of kproxy's own rules."""
        self._tables = {table.name: table for table in tables}
        self._layout = layout
        self._lines: dict[tuple[str, str], Sequence[Line] | None] = {}

    def close(self) -> None:
        """See `Part`: all is read that there is to read, or by programs of their own."""

    def bases(self) -> Iterator[Base]:
        """See `Part`."""
        for table in self._tables.values():
            for base in bases(table, table.kind):
                yield base._replace(drops=table.policy_drops(base.chain))

    def has(self, table: str) -> bool:
        """See `Part`."""
        return table in self._tables or (not self._tables and table in HOOKS)

    def is_ours(self, table: str, chain: str) -> bool:
        """See `Part`."""
        return table in tuple(TableName) and names.is_ours(TableName(table), chain)

    def lines(self, table: str, chain: str) -> Sequence[Line] | None:
        """See `Part`."""
        key = (table, chain)
        if key not in self._lines:
            self._lines[key] = self._read(table, chain)
        return self._lines[key]

    def _read(self, table: str, chain: str) -> Sequence[Line] | None:
        held = self._tables.get(table)
        rules = held.held(chain) if held is not None else None
        if held is None or rules is None:
            return None
        return [
            Line(held.text(chain, number), rule.packets, rule.octets, rule.rule) for number, rule in enumerate(rules, 1)
        ]

    def elements(self) -> Iterator[ElementFound]:
        """See `Part`: iptables has none."""
        return iter(())

    def policy(self, table: str, chain: str) -> str:
        """See `Part`."""
        return self._tables[table].text(chain, 0) if table in self._tables else ""

    # --- what kproxy wants -----------------------------------------------------------------------------------------

    def differences(
        self, plan: Plan, packet: Packet, world: World, passed: Sequence[tuple[str, str, int]]
    ) -> Iterator[Difference]:
        """See `OwnPart`."""
        ruleset = compile_plan(plan, self._layout)
        machines = {str(name): RuleSetMachine(ruleset, name) for name in TableName}
        try:
            wanted_steps = walk_through(ruleset, packet, world).steps
        except ImpossibleRuleError:
            return
        for table, chain, number in passed:
            if self.is_ours(table, chain):
                line = (self.lines(table, chain) or ())[number - 1]
                wanted = machines[table].chains.get(_root(chain), ())
                if not _leads_on(chain, line.identity) and line.identity not in wanted:
                    yield added(table, chain, number, line, "which kproxy did not write")
        passed_chains = {(table, chain) for table, chain, _ in passed}
        for table, chain in dict.fromkeys(step.place for step in wanted_steps):
            yield from self._missing(plan, table, chain, machines[table].rules(chain), passed_chains)

    def _missing(
        self, plan: Plan, table: str, chain: str, wanted: Sequence[Rule], passed: set[tuple[str, str]]
    ) -> Iterator[Difference]:
        held = self.lines(table, chain)
        if held is None:
            yield missing(table, chain, None)
            return
        lines = list(held)
        if chain in LISTS:  # in the large layout a tree of chains, of which the packet has passed some
            below = [other for where, other in passed if where == table and other != chain and _root(other) == chain]
            lines += [line for other in below for line in self.lines(table, other) or ()]
        identities = {line.identity for line in lines}
        for rule in wanted:
            if rule not in identities:
                yield missing(table, chain, f"-A {chain}{render_rule(rule, plan.node.family)}")


def _root(chain: str) -> str:
    """Return the list that a chain is a part of, or the chain itself."""
    return next((root for prefix, root in _TREES.items() if chain.startswith(prefix) and chain != root), chain)


def _leads_on(chain: str, rule: object) -> bool:
    """Tell whether a rule leads from one chain of a list to another."""
    if not isinstance(rule, Rule) or not isinstance(rule.target, Jump):
        return False
    return rule.target.chain not in LISTS and _root(rule.target.chain) == _root(chain) and _root(chain) in LISTS
