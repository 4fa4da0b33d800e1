"""Compares the rules that kproxy wants with those that the kernel holds in its chains, Service by Service."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing

from kproxy.backends.base import BackendError
from kproxy.backends.iptables.compile.compiler import Compiler, choose_layout, count_endpoints
from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.kernel.variant import Variant
from kproxy.backends.iptables.rules.diff import Hunk, edit_script
from kproxy.backends.iptables.rules.held import HeldTable
from kproxy.backends.iptables.rules.names import is_ours
from kproxy.backends.iptables.rules.render import BUILTIN_CHAINS, render_rule
from kproxy.backends.iptables.rules.ruleset import Comment, Jump, Rule, Table, TableName
from kproxy.backends.nftables.compile.compiler import compile_plan as compile_nftables
from kproxy.backends.nftables.kernel.netlink import Reader
from kproxy.backends.nftables.kernel.reconcile import elements_by_set
from kproxy.backends.nftables.kernel.rules import HeldTable as NftablesTable
from kproxy.backends.nftables.kernel.rules import held_tables as nftables_tables
from kproxy.backends.nftables.rules import names as nftables_names
from kproxy.backends.nftables.rules.render import FAMILIES, Renderer
from kproxy.backends.nftables.rules.ruleset import Data, Key, RuleSet
from kproxy.backends.nftables.rules.ways import ENDPOINT_MAPS
from kproxy.held.changes import Change, FamilyChanges
from kproxy.held.iptables import LISTS
from kproxy.held.read import iptables_tables
from kproxy.plan.model import Plan
from kproxy.state.model import IPFamily, ServicePortName

_NAMED_IN_COMMENT = re.compile(r"[a-z0-9-]+/[a-z0-9.-]+(:[^ ]+)?(?= |$)")


def changes_wanted(plan: Plan, variant: Variant | None, layout: Layout | None = None) -> FamilyChanges:
    """Return what a full sync of a plan would change; ``variant`` is that of iptables, None in mode nftables.

    Reads the tables of the calling thread's network namespace; what can't be read is said in the answer.
    """
    family = plan.node.family
    try:
        if variant is None:
            found = list(_in_nftables(plan))
        else:
            found = list(_in_iptables(plan, variant, layout or choose_layout(count_endpoints(plan))))
    except BackendError as error:
        return FamilyChanges(family=family.metric_label, error=str(error))
    return FamilyChanges(family=family.metric_label, changes=tuple(_merged(found)))


def _merged(changes: Sequence[Change]) -> Iterator[Change]:
    """Put together what belongs to one Service: what all have in common first, then Services by name."""
    yield from sorted(changes, key=lambda change: (change.service or "", change.table, change.chain))


# --- iptables ------------------------------------------------------------------------------------------------------


def _in_iptables(plan: Plan, variant: Variant, layout: Layout) -> Iterator[Change]:
    compiler = Compiler(plan.node, layout)
    compiler.update(plan.services)
    owners = _Owners(compiler)
    held = {table.kind: table for table in iptables_tables(plan.node.family, variant)}
    for name in TableName:
        yield from _table(name, compiler.ruleset.table(name), held.get(name), owners, plan.node.family)


class _Owners:
    """Whose chains and rules are."""

    def __init__(self, compiler: Compiler) -> None:
        self._chains: dict[str, str] = {}
        self._rules: dict[Rule, str] = {}
        for name, rules in compiler.services.items():
            self._chains.update(dict.fromkeys(rules.chains, str(name)))
            self._rules.update((entry.rule, str(name)) for entry in rules.entries)

    def of(self, chain: str, rule: Rule) -> str | None:
        """Return whose a rule is, if it is one Service's."""
        found = self._chains.get(chain) or self._rules.get(rule)
        if found is None and isinstance(rule.target, Jump):
            found = self._chains.get(rule.target.chain)
        return found or next((name for match in rule.matches if (name := _named(match))), None)


def _named(match: object) -> str | None:
    found = _NAMED_IN_COMMENT.match(match.text) if isinstance(match, Comment) else None
    return found[0] if found else None


def _table(
    name: TableName, wanted: Table, held: HeldTable | None, owners: _Owners, family: IPFamily
) -> Iterator[Change]:
    """Yield what would change in one table: kproxy's own chains, and its hooks in the built-in ones."""
    there = held.chain_names() if held is not None else frozenset()
    ours = {chain for chain in there if is_ours(name, chain)}
    for chain in sorted(ours | wanted.chains.keys()):
        rules = held.rules(chain) if held is not None and chain in there else ()
        new = wanted.chains.get(chain, ())
        if not is_ours(name, chain):  # shared with others, who have rules of their own there
            rules = [rule for rule in rules if rule in new]
        yield from _by_owner(name, chain, edit_script(list(rules), list(new)), owners, family)
    for builtin in BUILTIN_CHAINS[name]:
        rules = held.rules(builtin) if held is not None else ()
        hooks = [hook.rule for hook in wanted.hooks if hook.builtin == builtin]
        old = [rule for rule in rules if isinstance(rule.target, Jump) and is_ours(name, rule.target.chain)]
        old += [rule for rule in rules if rule in hooks and rule not in old]
        gone = [rule for rule in old if rule not in hooks]
        come = [rule for rule in hooks if rule not in old]
        if gone or come:
            yield from _by_owner(name, builtin, (Hunk(0, tuple(gone), tuple(come)),), owners, family)


def _by_owner(
    table: str, chain: str, hunks: Sequence[Hunk[Rule]], owners: _Owners, family: IPFamily
) -> Iterator[Change]:
    lines: dict[str | None, list[str]] = {}
    for hunk in hunks:
        for sign, rules in (("-", hunk.old), ("+", hunk.new)):
            for rule in rules:
                text = f"{sign}-A {chain}{render_rule(rule, family)}"
                lines.setdefault(owners.of(chain, rule), []).append(text)
    for owner, its in lines.items():
        # In lists of frontends kube-proxy's order is by chance and decides nothing: what only moves is no change.
        moved = {line[1:] for line in its if line[0] == "-"} & {line[1:] for line in its if line[0] == "+"}
        left = [line for line in its if chain not in LISTS or line[1:] not in moved]
        if left:
            yield Change(service=owner, table=table, chain=chain, lines=tuple(left))


# --- nftables ------------------------------------------------------------------------------------------------------


def _in_nftables(plan: Plan) -> Iterator[Change]:
    family = plan.node.family
    ruleset = compile_nftables(plan)
    own = f"{FAMILIES[family]} {nftables_names.TABLE}"
    tables = nftables_tables(family)
    try:
        held = next((table for table in tables if table.name == own), None)
        yield from _chains(ruleset, held, own, Renderer(family))
        yield from _elements(plan, ruleset, held, own)
    finally:
        if tables:
            tables[0].close()


def _chains(ruleset: RuleSet, held: NftablesTable | None, own: str, renderer: Renderer) -> Iterator[Change]:
    there = held.chains if held is not None else {}
    for name in sorted(there.keys() | ruleset.chains.keys()):
        old = list(held.rules(name)) if held is not None and name in there else []
        new = list(ruleset.chains[name].rules) if name in ruleset.chains else []
        lines = [
            f"{sign}{renderer.rule(rule)}"
            for hunk in edit_script(old, new)
            for sign, rules in (("-", hunk.old), ("+", hunk.new))
            for rule in rules
        ]
        if lines:
            yield Change(table=own, chain=name, lines=tuple(lines))


def _elements(plan: Plan, ruleset: RuleSet, held: NftablesTable | None, own: str) -> Iterator[Change]:
    with closing(Reader()) as reader:
        found = elements_by_set(reader, ruleset, plan.node.family) if held is not None else {}
    owner = _frontend_owners(plan)
    for name, spec in sorted(ruleset.sets.items()):
        if spec.remembers:
            continue
        old, new = found.get(name, {}), ruleset.elements.get(name, {})
        if name in ENDPOINT_MAPS:
            old, new = _without_numbers(old), _without_numbers(new)
        lines: dict[str | None, list[str]] = {}
        for key in sorted(old.keys() | new.keys(), key=str):
            if key in old and key in new and old[key] == new[key]:
                continue
            for sign, side in (("-", old), ("+", new)):
                if key in side:
                    lines.setdefault(owner(name, key), []).append(f"{sign}{_element(key, side[key])}")
        for service, its in lines.items():
            yield Change(service=service, table=own, chain=name, lines=tuple(its))


def _without_numbers(elements: Mapping[Key, Data]) -> dict[Key, Data]:
    """Leave out which number an endpoint has, which depends on what was there before and decides nothing."""
    return {(*key[:-1], *(data or ())): None for key, data in elements.items()}


def _element(key: Key, data: Data) -> str:
    text = " . ".join(map(str, key))
    return text if data is None else f"{text} : {' . '.join(map(str, data))}"


def _frontend_owners(plan: Plan) -> Callable[[str, Key], str | None]:
    """Return what finds the service port that an element of a set is about."""
    by_address: dict[tuple[str, str, int], ServicePortName] = {}
    by_port: dict[tuple[str, int], ServicePortName] = {}
    for name, service in plan.services.items():
        for frontend in service.frontends:
            if frontend.ip is None:
                by_port[name.protocol, frontend.port] = name
            else:
                by_address[name.protocol, frontend.ip, frontend.port] = name

    def owner(set_name: str, key: Key) -> str | None:
        protocol = set_name.partition("/")[0]
        words = [part for part in key if part not in ("tcp", "udp", "sctp")]
        spoken = next((str(part) for part in key if part in ("tcp", "udp", "sctp")), protocol)
        found: ServicePortName | None = None
        if words and isinstance(words[0], int):
            found = by_port.get((spoken, words[0]))
        elif len(words) > 1 and isinstance(words[1], int):
            found = by_address.get((spoken, str(words[0]), words[1]))
        return str(found) if found else None

    return owner
