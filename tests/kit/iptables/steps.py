"""The commits that it takes to get from one ruleset to the next, and what the tables hold in between."""

from collections.abc import Iterator, Sequence
from functools import partial

from kproxy.backends.iptables.kernel.edit import TableContent, edit_for_change, edit_for_repair
from kproxy.backends.iptables.kernel.order import Reading, Steps, commit_order
from kproxy.backends.iptables.rules.diff import Hunk, diff
from kproxy.backends.iptables.rules.names import is_ours
from kproxy.backends.iptables.rules.render import BUILTIN_CHAINS
from kproxy.backends.iptables.rules.ruleset import Chain, Drop, Jump, Rule, RuleSet, Table, TableName
from kproxy.backends.iptables.rules.served import claim_in_rule


def target_of(rule: Rule) -> str:
    """Return the name of what a rule leads to, as far as that has a say in the order."""
    match rule.target:
        case Jump(chain):
            return chain
        case Drop():
            return "DROP"
    return ""


READING = Reading(target_of, claim_in_rule)
"""How rules are read that are in neither variant's form."""


def commits(before: RuleSet, after: RuleSet) -> Steps[Rule]:
    """Return the commits that it takes to get from one ruleset to the next."""
    change = diff(before, after)
    edits = {name: edit_for_change(change.table(name), lambda _, rules: rules) for name in TableName}
    return commit_order(edits, READING)


def repairs(before: RuleSet, after: RuleSet) -> Steps[Rule]:
    """Return the same commits as a full comparison finds them, of what is in the kernel with what is wanted."""
    edits = {}
    for name in TableName:
        hooks: dict[str, list[Rule]] = {builtin: [] for builtin in BUILTIN_CHAINS[name]}
        for hook in after.table(name).hooks:
            hooks[hook.builtin].append(hook.rule)
        chains = {**before.table(name).chains, **hooks}
        found = TableContent(chains=chains, builtins=list(hooks), target=target_of)
        edits[name] = edit_for_repair(found, after.table(name).chains, hooks, partial(is_ours, name))
    return commit_order(edits, READING)


def states(before: RuleSet, after: RuleSet) -> Iterator[RuleSet]:
    """Yield every state the tables are in while one ruleset gives way to the next, with both."""
    tables = {name: before.table(name) for name in TableName}
    yield before
    for name, edit in commits(before, after):
        chains = {**tables[name].chains, **edit.fill}
        chains |= {chain: _edited(chains[chain], hunks) for chain, hunks in edit.hunks.items()}
        kept = {chain: rules for chain, rules in chains.items() if chain not in edit.remove}
        tables[name] = Table(kept, tables[name].hooks)
        yield RuleSet(filter=tables[TableName.FILTER], nat=tables[TableName.NAT])


def _edited(rules: Chain, hunks: Sequence[Hunk[Rule]]) -> Chain:
    result = list(rules)
    for hunk in reversed(hunks):
        assert tuple(result[hunk.at : hunk.at + len(hunk.old)]) == hunk.old
        result[hunk.at : hunk.at + len(hunk.old)] = hunk.new
    return tuple(result)
