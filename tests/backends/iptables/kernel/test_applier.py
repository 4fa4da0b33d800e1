"""Rulesets come into the kernel and out of it again, in both variants and both families."""

import contextlib
import itertools
import socket
import subprocess
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kproxy.backends.iptables.kernel.applier import ApplyResult
from kproxy.backends.iptables.kernel.legacy.tableinfo import existing_tables
from kproxy.backends.iptables.kernel.variant import Variant, open_applier
from kproxy.backends.iptables.rules.counted import Place
from kproxy.backends.iptables.rules.diff import RuleSetChange, diff
from kproxy.backends.iptables.rules.ruleset import Rule, RuleSet, Table, TableName
from kproxy.state.model import IPFamily
from tests.kit.examples import scaled
from tests.kit.iptables.applier import ALL_KINDS, Node, node
from tests.kit.iptables.samples import endpoint_chain, sample, service_address, service_chain
from tests.kit.netns import network_namespace

__all__ = ["node"]

pytestmark = pytest.mark.kernel

AF = {IPFamily.IPV4: socket.AF_INET, IPFamily.IPV6: socket.AF_INET6}
EMPTY = RuleSet(filter=Table({}), nat=Table({}))


def test_reconcile_makes_the_whole_ruleset_and_then_nothing(node: Node) -> None:
    ruleset = sample(node.family, {1: [11, 12, 13], 2: [], 3: [11]})
    first = node.applier.reconcile(ruleset)
    assert first.full
    assert node.saved() == node.rendered(ruleset)
    assert node.applier.reconcile(ruleset) == ApplyResult(full=True, repaired=0)
    assert node.applier.rule_counts == {TableName.FILTER: 5, TableName.NAT: 19}


def test_apply_touches_only_what_changed(node: Node) -> None:
    before, after = (
        sample(node.family, {1: [11, 12], 2: [], 3: [11]}),
        sample(node.family, {1: [12, 14], 2: [9], 4: []}),
    )
    node.applier.reconcile(before)
    assert node.applier.apply(diff(before, after)) == ApplyResult(full=False)
    assert node.saved() == node.rendered(after)
    assert node.applier.rule_counts == count_of(after)
    assert not node.applier.drifted()


def count_of(ruleset: RuleSet) -> dict[TableName, int]:
    return {
        name: len(ruleset.table(name).hooks) + sum(len(rules) for rules in ruleset.table(name).chains.values())
        for name in TableName
    }


def test_apply_of_nothing_is_nothing(node: Node) -> None:
    ruleset = sample(node.family, {1: [11]})
    node.applier.reconcile(ruleset)
    assert node.applier.apply(diff(ruleset, ruleset)) == ApplyResult(full=False)
    assert node.saved() == node.rendered(ruleset)


def test_first_apply_compares_in_full(node: Node) -> None:
    ruleset = sample(node.family, {1: [11]})
    result = node.applier.apply(RuleSetChange(after=ruleset, filter={}, nat={}))
    assert result.full
    assert result.fell_back
    assert node.saved() == node.rendered(ruleset)


def test_changed_hooks_are_seen_to(node: Node) -> None:
    before = sample(node.family, {1: [11]})
    after = msgspec.structs.replace(
        before, filter=msgspec.structs.replace(before.filter, hooks=before.filter.hooks[1:])
    )
    node.applier.reconcile(before)
    assert node.applier.apply(diff(before, after)).fell_back == "hooks or a shared chain changed"
    assert node.saved() == node.rendered(after)


def connect(node: Node, service: int, times: int) -> None:
    """Send packets to a service; nobody answers, but the rules count."""
    for _ in range(times):
        with socket.socket(AF[node.family], socket.SOCK_STREAM) as client, contextlib.suppress(OSError):
            client.settimeout(0.2)
            client.connect((service_address(node.family, service).cidr.partition("/")[0], 80))


def make_addresses_local() -> None:
    for command in (
        "ip link set lo up",
        "ip route add local 10.0.0.0/8 dev lo",
        "ip -6 route add local fd00::/8 dev lo",
    ):
        subprocess.run(command.split(), check=True)


def everywhere(ruleset: RuleSet) -> dict[TableName, list[Place]]:
    return {
        name: [
            Place(chain, len(rules), tuple(range(len(rules)))) for chain, rules in ruleset.table(name).chains.items()
        ]
        for name in TableName
    }


def test_packets_are_counted_by_rule(node: Node) -> None:
    make_addresses_local()
    ruleset = sample(node.family, {1: [11], 2: [], 3: [12]})
    node.applier.reconcile(ruleset)
    connect(node, 1, 3)
    connect(node, 2, 2)
    places = everywhere(ruleset)
    found = {name: iter(packets) for name, packets in node.applier.counted(places, 1).items()}
    counted = {
        (name, chain): [next(found[name]) for _ in positions] for name in places for chain, _, positions in places[name]
    }
    assert counted[TableName.NAT, "KUBE-SERVICES"] == [3, 0]
    assert counted[TableName.NAT, service_chain(1)] == [3]
    assert counted[TableName.NAT, endpoint_chain(1, 11)] == [0, 3]
    (rejected,) = counted[TableName.FILTER, "KUBE-SERVICES"]
    assert rejected >= 2  # a rejected SYN may be sent again


def test_unchanged_rules_keep_their_counters(node: Node) -> None:
    make_addresses_local()
    before = sample(node.family, {1: [11], 2: [12], 3: [13], 5: [], 6: []})
    after = sample(node.family, {1: [11], 3: [13, 14], 4: [14], 5: [], 7: []})
    node.applier.reconcile(before)
    for service in (1, 2, 3, 5, 6):
        connect(node, service, service)
    counted = {line for line in node.saved(counters=True) if line.startswith("[") and not line.startswith("[0:0]")}
    assert len(counted) > 12
    node.applier.reconcile(before)
    node.applier.apply(diff(before, after))
    stayed = {line for line in counted if line.partition(" ")[2] in node.rendered(after)}
    assert len(stayed) > 8
    assert stayed <= set(node.saved(counters=True))


def test_cleanup_removes_everything(node: Node) -> None:
    node.applier.reconcile(sample(node.family, {1: [11, 12], 2: []}))
    node.applier.cleanup()
    assert node.saved() == node.rendered(EMPTY)
    assert dict(node.applier.rule_counts) == {TableName.FILTER: 0, TableName.NAT: 0}
    node.applier.cleanup()
    assert node.saved() == node.rendered(EMPTY)


def test_applying_after_cleanup_starts_over(node: Node) -> None:
    ruleset = sample(node.family, {1: [11, 12]})
    node.applier.reconcile(ruleset)
    node.applier.cleanup()
    assert node.applier.drifted()
    assert node.applier.apply(diff(ruleset, ruleset)).full
    assert node.saved() == node.rendered(ruleset)


def test_a_new_applier_takes_over_what_is_there(node: Node) -> None:
    before, after = sample(node.family, {1: [11], 2: [12]}), sample(node.family, {1: [11], 2: [13]})
    node.applier.reconcile(before)
    successor = open_applier(node.family, node.variant)
    try:
        assert successor.drifted()
        assert successor.reconcile(after).repaired == len(diff(before, after).nat)
        assert node.saved() == node.rendered(after)
    finally:
        successor.close()


def test_nft_variant_leaves_the_legacy_tables_alone(tmp_path: Path) -> None:
    with network_namespace(tmp_path):
        for family in IPFamily:
            applier = open_applier(family, Variant.NFT)
            applier.reconcile(sample(family, {1: [11]}))
            assert applier.drifted() is False
            applier.counted(dict.fromkeys(TableName, ()), 1)
            applier.cleanup()
            applier.close()
            assert existing_tables(family) == frozenset()


def test_legacy_cleanup_of_nothing_makes_no_table(tmp_path: Path) -> None:
    with network_namespace(tmp_path):
        for family in IPFamily:
            applier = open_applier(family, Variant.LEGACY)
            applier.cleanup()
            applier.close()
            assert existing_tables(family) == frozenset()


services = st.dictionaries(st.integers(1, 6), st.lists(st.integers(1, 5), unique=True, max_size=4), max_size=5)


@pytest.mark.parametrize(("variant", "family"), ALL_KINDS)
def test_any_walk_of_changes_ends_where_it_should(
    variant: Variant, family: IPFamily, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @settings(max_examples=scaled(15), deadline=None)
    @given(st.lists(services, min_size=2, max_size=5))
    def check(walk: list[dict[int, list[int]]]) -> None:
        rulesets = [sample(family, step) for step in walk]
        applier.reconcile(rulesets[0])
        for before, after in itertools.pairwise(rulesets):
            assert not applier.apply(diff(before, after)).full
            assert Node(variant, family, applier).saved() == Node(variant, family, applier).rendered(after)
        assert applier.reconcile(rulesets[-1]).repaired == 0

    with network_namespace(tmp_path_factory.mktemp("lock")):
        applier = open_applier(family, variant)
        check()
        applier.close()


def test_an_empty_rule_list_is_a_chain_all_the_same(node: Node) -> None:
    ruleset = RuleSet(filter=Table({"KUBE-SERVICES": ()}), nat=Table({"KUBE-SERVICES": (Rule(target=None),)}))
    node.applier.reconcile(ruleset)
    assert node.saved() == node.rendered(ruleset)
