"""In what order a sync's changes are committed, told by rules as iptables-save prints them."""

import pytest
from hypothesis import given

from kproxy.backends.iptables.kernel.edit import TableEdit
from kproxy.backends.iptables.kernel.legacy.encode import Encoder
from kproxy.backends.iptables.kernel.legacy.entry import entry_layout
from kproxy.backends.iptables.kernel.legacy.image import target_name
from kproxy.backends.iptables.kernel.legacy.served import claim_in_entry
from kproxy.backends.iptables.kernel.order import Reading, commit_order
from kproxy.backends.iptables.rules.diff import edit_script
from kproxy.backends.iptables.rules.names import list_of
from kproxy.backends.iptables.rules.render import render_rule
from kproxy.backends.iptables.rules.ruleset import TableName
from kproxy.backends.iptables.rules.ruletext import target_of
from kproxy.backends.iptables.rules.served import claim_in_rule, claim_in_text
from tests.kit.semantics import examples
from tests.kit.semantics.builds import BUILDS, Build
from tests.kit.semantics.cluster import Cluster, clusters

FILTER, NAT = TableName.FILTER, TableName.NAT
READING = Reading(target_of, claim_in_text)


def at(number: int, target: str) -> str:
    """A rule about one frontend."""
    return f" -d 10.96.0.{number}/32 -p tcp -m tcp --dport 80 -j {target}"


def changed(old: list[str], new: list[str], chain: str = "KUBE-SERVICES") -> TableEdit[str]:
    return TableEdit(hunks={chain: edit_script(old, new)} if old != new else {})


REFUSED, DROPPED, SERVED = ([at(1, target)] for target in ("REJECT", "DROP", "KUBE-SVC-X"))
ELSEWHERE = at(2, "KUBE-SVC-Y")
NOTHING = changed([], [])


@pytest.mark.parametrize(
    ("in_filter", "in_nat", "order"),
    [
        (NOTHING, NOTHING, []),
        (NOTHING, changed(SERVED, [ELSEWHERE]), [NAT]),
        (changed(REFUSED, DROPPED), NOTHING, [FILTER]),
        (changed([], REFUSED), changed(SERVED, []), [FILTER, NAT]),
        (changed(REFUSED, []), changed([], SERVED), [NAT, FILTER]),
        (changed(REFUSED, [at(2, "REJECT")]), changed([ELSEWHERE], SERVED), [FILTER, NAT, FILTER]),
        (changed(REFUSED, [at(3, "REJECT")]), changed([], SERVED), [NAT, FILTER]),
        (changed([at(3, "REJECT")], REFUSED), changed(SERVED, []), [FILTER, NAT]),
        (changed([], DROPPED, "KUBE-PROXY-FIREWALL"), changed([], SERVED), [NAT, FILTER]),
        (changed(DROPPED, [], "KUBE-PROXY-FIREWALL"), changed(SERVED, []), [FILTER, NAT]),
        (changed([], DROPPED, "KUBE-PROXY-FIREWALL"), changed(SERVED, [at(1, "KUBE-FW-X")]), [FILTER, NAT]),
        (changed(DROPPED, [], "KUBE-PROXY-FIREWALL"), changed([at(1, "KUBE-FW-X")], SERVED), [NAT, FILTER]),
        (changed([], [" -j KUBE-FORWARD"], "FORWARD"), changed([], SERVED), [FILTER, NAT]),
        (changed([" -j KUBE-FORWARD"], [], "FORWARD"), changed(SERVED, []), [NAT, FILTER]),
    ],
)  # fmt: skip
def test_what_comes_first(in_filter: TableEdit[str], in_nat: TableEdit[str], order: list[TableName]) -> None:
    assert [name for name, _ in commit_order({FILTER: in_filter, NAT: in_nat}, READING)] == order


def test_a_guard_comes_after_nat_and_what_is_refused_before() -> None:
    others = [at(2, "REJECT")]
    in_filter = TableEdit(
        hunks={"KUBE-SERVICES": edit_script([], others)}, fill={"KUBE-PROXY-FIREWALL": (*DROPPED, at(3, "DROP"))}
    )
    (_, first), _, (_, last) = commit_order({FILTER: in_filter, NAT: changed([ELSEWHERE], SERVED)}, READING)
    assert list(first.coming()) == [("KUBE-PROXY-FIREWALL", at(3, "DROP")), ("KUBE-SERVICES", at(2, "REJECT"))]
    assert list(last.coming()) == [("KUBE-PROXY-FIREWALL", *DROPPED)]


def test_where_nothing_was_guards_come_first_as_all_of_filter_does() -> None:
    in_filter = TableEdit(fill={"KUBE-PROXY-FIREWALL": tuple(DROPPED), "KUBE-SERVICES": (at(2, "REJECT"),)})
    in_nat = TableEdit(fill={"KUBE-SERVICES": tuple(SERVED)})
    assert commit_order({FILTER: in_filter, NAT: in_nat}, READING) == [(FILTER, in_filter), (NAT, in_nat)]


def test_a_rule_that_gets_another_place_in_its_tree_takes_no_commit_more() -> None:
    """The large layout's chains come and go with the number of frontends below."""
    stays, below = at(3, "REJECT"), "KUBE-SERVICES-0A6000"
    in_filter = TableEdit(
        hunks={
            "KUBE-SERVICES": edit_script([f" -d 10.96.0.0/28 -j {below}"], [stays]),
            below: edit_script([*REFUSED, stays], []),
        },
        remove=(below,),
    )
    steps = commit_order({FILTER: in_filter, NAT: changed([], SERVED)}, READING)
    assert steps == [(NAT, changed([], SERVED)), (FILTER, in_filter)]


@pytest.mark.parametrize("build", BUILDS, ids=str)
@examples(5)
@given(cluster=clusters())
def test_the_same_is_read_off_rules_of_lists_in_any_form(build: Build, cluster: Cluster) -> None:
    ruleset, family = build.compile(cluster.plan()), cluster.family
    layout, encode = entry_layout(family), Encoder(family).encode
    chains = [chain for table in TableName for chain in ruleset.table(table).chains.items()]
    for rule in {rule for name, rules in chains if list_of(name) for rule in rules}:
        entry, text = encode(rule), render_rule(rule, family)
        assert claim_in_entry(layout, entry) == claim_in_text(text) == claim_in_rule(rule)
        assert target_name(layout, entry) == target_of(text)
