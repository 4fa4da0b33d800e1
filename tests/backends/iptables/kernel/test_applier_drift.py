"""Others who flush, reload or edit kproxy's rules are noticed, and what they did is repaired."""

import subprocess

import pytest

from kproxy.backends.iptables.kernel.variant import Variant
from kproxy.backends.iptables.rules.diff import diff
from kproxy.state.model import IPFamily
from tests.kit.iptables.applier import Node, node
from tests.kit.iptables.samples import endpoint_chain, sample, service_chain
from tests.kit.iptables.tools import program

__all__ = ["node"]

pytestmark = pytest.mark.kernel

SERVICES = {1: [11, 12], 2: [], 3: [13]}


@pytest.mark.parametrize(
    "commands",
    [
        ["-F"],
        ["-t nat -F"],
        ["-t nat -F", "-t nat -X"],
        [f"-t nat -F {service_chain(1)}"],
        [f"-t nat -D {service_chain(1)} 1"],
        [f"-t nat -I {endpoint_chain(1, 11)} -j RETURN"],
        ["-D FORWARD 1"],
        ["-I FORWARD -j KUBE-FORWARD"],
        ["-t nat -N KUBE-SVC-STALE"],
        [f"-t nat -D {service_chain(1)} 1", f"-t nat -A {service_chain(1)} -j {endpoint_chain(1, 12)}"],
    ],
    ids=lambda commands: " / ".join(commands),
)
def test_noticed_and_repaired(node: Node, commands: list[str]) -> None:
    ruleset = sample(node.family, SERVICES)
    node.applier.reconcile(ruleset)
    assert not node.applier.drifted()
    for command in commands:
        node.run(command)
    assert node.applier.drifted()
    assert node.applier.reconcile(ruleset).repaired > 0
    assert node.saved() == node.rendered(ruleset)
    assert not node.applier.drifted()


STRANGE = [
    b'say "-d\n-A KUBE-SERVICES -d',
    b"a\rb\x0bc\x1cd\xe2\x80\xa8e",
    b"\xff\xfe",
    b"-d",
    b"\\",
    b'"',
    b"\n\n:X - [0:0]\n",
]
"""Comments, which are any bytes but nought."""


@pytest.mark.parametrize("comment", STRANGE)
def test_strange_rules_of_others_are_repaired_or_left_alone(node: Node, comment: bytes) -> None:
    ruleset = sample(node.family, SERVICES)
    node.applier.reconcile(ruleset)
    for command in [f"-t nat -I {service_chain(1)}", "-t nat -I KUBE-SERVICES", "-t filter -A INPUT"]:
        rule = f"{command} -p udp -m udp --dport 81 -j RETURN -m comment --comment"
        words: list[str | bytes] = [program(node.family, node.variant), *rule.split(), comment]
        subprocess.run(words, check=True)
    assert node.applier.reconcile(ruleset).repaired == 2
    assert node.applier.reconcile(ruleset).repaired == 0
    node.applier.udp_frontends()
    assert node.applier.apply(diff(ruleset, sample(node.family, {**SERVICES, 1: []}))).repaired == 0
    node.applier.cleanup()
    others = subprocess.run([program(node.family, node.variant, "-save")], check=True, capture_output=True).stdout
    assert others.count(b"--dport 81") == 1
    assert b"KUBE-SVC" not in others


def test_a_step_on_changed_tables_becomes_a_full_comparison(node: Node) -> None:
    before, after = sample(node.family, SERVICES), sample(node.family, {**SERVICES, 1: [11]})
    node.applier.reconcile(before)
    node.run("-t nat -F")
    result = node.applier.apply(diff(before, after))
    assert result.full
    assert result.fell_back
    assert result.repaired > 0
    assert node.saved() == node.rendered(after)


def test_what_a_step_was_to_change_is_not_counted_as_repaired(node: Node) -> None:
    before, after = sample(node.family, SERVICES), sample(node.family, {**SERVICES, 1: [11]})
    node.applier.reconcile(before)
    node.run(f"-t nat -F {service_chain(1)}")
    assert node.applier.apply(diff(before, after)).repaired == 0
    assert node.saved() == node.rendered(after)


def test_other_tables_don_t_matter(node: Node) -> None:
    node.applier.reconcile(sample(node.family, SERVICES))
    node.run("-t mangle -N NEIGHBOUR")
    node.run("-t mangle -A FORWARD -j NEIGHBOUR")
    other = IPFamily.IPV6 if node.family is IPFamily.IPV4 else IPFamily.IPV4
    node._replace(family=other).run("-t nat -N KUBE-SERVICES")
    assert not node.applier.drifted()


def test_a_neighbours_chain_is_at_most_a_false_alarm(node: Node) -> None:
    ruleset = sample(node.family, SERVICES)
    node.applier.reconcile(ruleset)
    node.run("-t nat -N NEIGHBOUR")
    node.run("-t nat -A NEIGHBOUR -j RETURN")
    # The legacy tables only tell that something changed, nftables also what.
    assert node.applier.drifted() is (node.variant is Variant.LEGACY)
    assert node.applier.reconcile(ruleset).repaired == 0
    assert not node.applier.drifted()


def replace_by_one_as_long(node: Node) -> None:
    node.run(f"-t nat -R {service_chain(3)} 1 -m comment --comment other -j {endpoint_chain(1, 11)}")


def test_a_rule_replaced_by_one_as_long_is_repaired_by_the_next_full_comparison(node: Node) -> None:
    ruleset = sample(node.family, SERVICES)
    node.applier.reconcile(ruleset)
    replace_by_one_as_long(node)
    assert node.applier.drifted() is (node.variant is Variant.NFT)  # see LegacyApplier
    assert node.applier.reconcile(ruleset).repaired == 1
    assert node.saved() == node.rendered(ruleset)


def test_a_step_that_was_to_change_a_replaced_rule_notices(node: Node) -> None:
    before, after = sample(node.family, SERVICES), sample(node.family, {**SERVICES, 3: [14]})
    node.applier.reconcile(before)
    replace_by_one_as_long(node)
    assert node.applier.apply(diff(before, after)).fell_back
    assert node.saved() == node.rendered(after)
