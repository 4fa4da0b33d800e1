"""Whatever the cluster, the rules are ones that the kernel takes and that kproxy can clean up again."""

from collections.abc import Iterator

import pytest
from hypothesis import given

from kproxy.backends.iptables.rules import names
from kproxy.backends.iptables.rules.render import BUILTIN_CHAINS, render_ruleset
from kproxy.backends.iptables.rules.ruleset import Chain, Comment, Jump, Random, Rule, RuleSet, TableName
from tests.kit.iptables.text import parse_tables
from tests.kit.semantics import examples
from tests.kit.semantics.builds import BUILDS, CLASSIC, Build
from tests.kit.semantics.cluster import Cluster, clusters

ALWAYS_THERE = {names.MARK_MASQ}
"""Chains that are there even if, with no Service, nothing leads to them."""


def rules(ruleset: RuleSet, table: TableName) -> Iterator[Rule]:
    part = ruleset.table(table)
    yield from (hook.rule for hook in part.hooks)
    yield from (rule for chain in part.chains.values() for rule in chain)


def reached(ruleset: RuleSet, table: TableName) -> set[str]:
    """Return the chains that some packet may come to; fail where one leads back to itself."""
    part = ruleset.table(table)
    found: set[str] = set()

    def walk(chain: str, way: tuple[str, ...]) -> None:
        assert chain in part.chains, f"{way}: no such chain as {chain}"
        assert chain not in way, f"{way} leads back to {chain}"
        if chain in found:
            return
        found.add(chain)
        for below in jumps(part.chains[chain]):
            walk(below, (*way, chain))

    for builtin in BUILTIN_CHAINS[table]:
        for chain in jumps(tuple(hook.rule for hook in part.hooks if hook.builtin == builtin)):
            walk(chain, ())
    return found


def jumps(chain: Chain) -> Iterator[str]:
    return (rule.target.chain for rule in chain if isinstance(rule.target, Jump))


@pytest.mark.parametrize("build", BUILDS, ids=str)
@examples(15)
@given(cluster=clusters())
def test_chains_hang_together(build: Build, cluster: Cluster) -> None:
    ruleset = build.compile(cluster.plan())
    for table in TableName:
        chains = ruleset.table(table).chains
        assert chains.keys() - reached(ruleset, table) <= ALWAYS_THERE
        for chain in chains:
            assert len(chain) <= 28
            assert names.is_ours(table, chain) or chain == names.KUBE_FIREWALL


@pytest.mark.parametrize("build", BUILDS, ids=str)
@examples(15)
@given(cluster=clusters())
def test_the_kernel_would_take_them(build: Build, cluster: Cluster) -> None:
    ruleset = build.compile(cluster.plan())
    for table in TableName:
        for rule in rules(ruleset, table):
            for match in rule.matches:
                if isinstance(match, Comment):
                    assert 0 < len(match.text.encode()) <= 255
                if isinstance(match, Random):
                    assert 0 < match.threshold < Random.ONE


@pytest.mark.parametrize("build", BUILDS, ids=str)
@examples(15)
@given(cluster=clusters())
def test_text_says_what_the_rules_say(build: Build, cluster: Cluster) -> None:
    ruleset = build.compile(cluster.plan())
    tables = parse_tables(render_ruleset(ruleset, cluster.family))
    for table in TableName:
        found = tables[table]
        hooks = {
            builtin: [h for h in ruleset.table(table).hooks if h.builtin == builtin]
            for builtin in BUILTIN_CHAINS[table]
        }
        wanted = {**ruleset.table(table).chains, **hooks}
        assert {chain: len(lines) for chain, lines in found.items()} == {chain: len(rs) for chain, rs in wanted.items()}


@examples(15)
@given(cluster=clusters())
def test_only_the_classic_layout_spends_bytes_on_comments(cluster: Cluster) -> None:
    for build in BUILDS:
        chains = {
            name: chain
            for table in TableName
            for name, chain in build.compile(cluster.plan()).table(table).chains.items()
            if name not in (names.POSTROUTING, names.FORWARD, names.KUBE_FIREWALL)
        }
        commented = [
            rule for chain in chains.values() for rule in chain if any(isinstance(m, Comment) for m in rule.matches)
        ]
        assert bool(commented) is (build is CLASSIC)
