"""Removes what is kproxy's from tables that hold others' native rules, which iptables can't read.

It can't list such a table as a whole. But it still changes chains and rules that it is told by name and in full, and
the names of the chains can be had from the kernel.
"""

import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from kproxy.backends.iptables.kernel.errors import KernelRefusedError
from kproxy.backends.iptables.kernel.nft.names import chain_names
from kproxy.backends.iptables.rules.firewall import KUBELET_CHAINS, LOCALNET_GUARD
from kproxy.backends.iptables.rules.hooks import HOOKS
from kproxy.backends.iptables.rules.names import KUBE_FIREWALL, is_ours
from kproxy.backends.iptables.rules.render import render_rule
from kproxy.backends.iptables.rules.ruleset import Jump, TableName
from kproxy.state.model import IPFamily


class Tools(Protocol):
    """What is needed of iptables-nft; see `kproxy.backends.iptables.kernel.nft.applier.NftTools`."""

    def has_rule(self, table: str, chain: str, words: Iterable[str]) -> bool:
        """Tell whether a chain has a rule that is just so."""

    def listing(self, table: str, chain: str) -> list[str]:
        """Return a chain's rules with their counters, as commands; none where there is no such chain."""


Run = Callable[[TableName, list[str]], None]
"""Makes one commit. Raises KernelRefusedError."""


def sweep(tools: Tools, run: Run, family: IPFamily, *, keep_guard: bool) -> None:
    """Remove all that is kproxy's or kube-proxy's from both tables, and nothing else. Raises KernelRefusedError."""
    for table in TableName:
        chains = chain_names(family, table)
        gone = {chain for chain in chains if is_ours(table, chain)}
        if table is TableName.FILTER and KUBE_FIREWALL in chains and not keep_guard and _is_ours_alone(tools, family):
            gone.add(KUBE_FIREWALL)
        if not gone:
            continue
        hooks = list(_hooks(tools, family, table, gone))
        run(table, [*hooks, *(f"-F {chain}" for chain in sorted(gone))])
        try:
            run(table, [f"-X {chain}" for chain in sorted(gone)])
        except KernelRefusedError:  # others' rules lead to some of them, which stay, empty
            for chain in sorted(gone):
                _remove(run, table, chain)


def _remove(run: Run, table: TableName, chain: str) -> None:
    try:
        run(table, [f"-X {chain}"])
    except KernelRefusedError:
        return


def _hooks(tools: Tools, family: IPFamily, table: TableName, gone: set[str]) -> Iterator[str]:
    for hook in HOOKS[table]:
        rule, target = render_rule(hook.rule, family), hook.rule.target
        leads_there = isinstance(target, Jump) and target.chain in gone
        if leads_there and tools.has_rule(table, hook.builtin, shlex.split(rule)):
            yield f"-D {hook.builtin}{rule}"


def _is_ours_alone(tools: Tools, family: IPFamily) -> bool:
    """Tell whether there is nothing in KUBE-FIREWALL but what kproxy puts there, and no kubelet who would miss it."""
    if not KUBELET_CHAINS.isdisjoint(chain_names(family, "mangle")):
        return False
    rules = [line for line in tools.listing(TableName.FILTER, KUBE_FIREWALL) if line.startswith("-A ")]
    guard = shlex.split(render_rule(LOCALNET_GUARD, family)) if family is IPFamily.IPV4 else []
    return not rules or (len(rules) == 1 and tools.has_rule(TableName.FILTER, KUBE_FIREWALL, guard))
