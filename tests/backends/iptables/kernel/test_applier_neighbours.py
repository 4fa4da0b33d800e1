"""Rules of others in the same tables stay as they are, with their counters, whatever kproxy does to its own."""

import re

import msgspec
import pytest

from kproxy.backends.iptables.kernel.variant import Variant
from kproxy.backends.iptables.rules.diff import diff
from kproxy.backends.iptables.rules.firewall import LOCALNET_GUARD
from kproxy.backends.iptables.rules.names import KUBE_FIREWALL
from kproxy.backends.iptables.rules.render import render_rule
from kproxy.backends.iptables.rules.ruleset import Hook, Jump, Rule, RuleSet
from kproxy.state.model import IPFamily
from tests.kit.iptables.applier import Node, node, of_others
from tests.kit.iptables.samples import sample, service_chain

__all__ = ["node"]

pytestmark = pytest.mark.kernel

NEIGHBOUR = """\
*filter
:INPUT ACCEPT [11:1100]
:FORWARD DROP [12:1200]
:OUTPUT ACCEPT [13:1300]
:KUBE-ROUTER-INPUT - [0:0]
:NEIGHBOUR-A - [0:0]
:NEIGHBOUR-B - [0:0]
[1:100] -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
[2:200] -A INPUT -j NEIGHBOUR-A
[3:300] -A INPUT -j KUBE-ROUTER-INPUT
[4:400] -A FORWARD -i neighbour0 -j NEIGHBOUR-B
[5:500] -A FORWARD -m comment --comment "not -j KUBE-SERVICES" -j NEIGHBOUR-A
[6:600] -A OUTPUT -m mark --mark 0x1/0x1 -j DROP
[7:700] -A KUBE-ROUTER-INPUT -j RETURN
[8:800] -A NEIGHBOUR-A -j NEIGHBOUR-B
[9:900] -A NEIGHBOUR-B -m conntrack --ctstate INVALID -j DROP
COMMIT
*nat
:PREROUTING ACCEPT [21:2100]
:INPUT ACCEPT [22:2200]
:OUTPUT ACCEPT [23:2300]
:POSTROUTING ACCEPT [24:2400]
:NEIGHBOUR - [0:0]
[1:100] -A PREROUTING -i neighbour0 -j NEIGHBOUR
[2:200] -A PREROUTING -i neighbour0 -j NEIGHBOUR
[3:300] -A INPUT -j RETURN
[4:400] -A OUTPUT -p udp -m udp --dport 53 -j RETURN
[5:500] -A POSTROUTING -o neighbour0 -j MASQUERADE
[6:600] -A NEIGHBOUR -p tcp -m tcp --dport 8080 -j REDIRECT --to-ports 80
COMMIT
"""


def neighbours_rules(node: Node) -> list[str]:
    """Others' part of the tables, with counters; not those of nft's chains, which iptables-nft does not keep."""
    return of_others(node.saved(counters=True))


def move_in(node: Node) -> list[str]:
    """Let the neighbour in."""
    node.restore(NEIGHBOUR, "--counters")
    there = neighbours_rules(node)
    assert [re.sub(r"\[\d+:\d+\]", "[]", line) for line in there] == [
        re.sub(r"\[\d+:\d+\]", "[]", line) for line in NEIGHBOUR.splitlines()
    ]
    # ip6tables-nft-restore 1.8.9 does not take counters; all others do.
    assert "[9:900] -A NEIGHBOUR-B -m conntrack --ctstate INVALID -j DROP" in there or node[:2] == (
        Variant.NFT,
        IPFamily.IPV6,
    )
    return there


def test_all_stays_over_syncs_and_cleanup(node: Node) -> None:
    there = move_in(node)
    first, second = sample(node.family, {1: [11], 2: [], 3: [12]}), sample(node.family, {1: [13, 14], 3: [], 4: [15]})
    for step in (
        lambda: node.applier.reconcile(first),
        lambda: node.applier.apply(diff(first, second)),
        lambda: node.applier.apply(diff(second, first)),
        lambda: node.applier.reconcile(second),
        lambda: node.applier.cleanup(),
    ):
        step()
        assert neighbours_rules(node) == there
    assert node.saved(counters=True) == there


def test_hooks_go_to_the_top_in_order(node: Node) -> None:
    move_in(node)
    node.applier.reconcile(sample(node.family, {1: [11]}))
    forward = [line.split()[-1] for line in node.saved() if line.startswith("-A FORWARD")]
    assert forward == ["KUBE-FORWARD", "KUBE-SERVICES", "NEIGHBOUR-B", "NEIGHBOUR-A"]


def test_hooks_stay_where_others_have_put_themselves_before_them(node: Node) -> None:
    ruleset = sample(node.family, {1: [11]})
    node.applier.reconcile(ruleset)
    node.run("-I FORWARD 1 -j ACCEPT")
    node.run("-I FORWARD 3 -i neighbour0 -j ACCEPT")
    before = node.saved()
    assert node.applier.reconcile(ruleset).repaired == 0
    assert node.saved() == before


def test_doubled_and_outdated_hooks_of_an_older_proxy_go(node: Node) -> None:
    ruleset = sample(node.family, {1: [11]})
    node.applier.reconcile(ruleset)
    right = node.saved()
    for command in (
        "-A FORWARD -j KUBE-FORWARD",
        "-I FORWARD -m comment --comment older -j KUBE-SERVICES",
        "-I INPUT -j KUBE-SERVICES",
        "-t nat -A PREROUTING -p tcp -j KUBE-SERVICES",
    ):
        node.run(command)
    assert node.saved() != right
    assert node.applier.reconcile(ruleset).repaired == 3  # FORWARD, INPUT and nat's PREROUTING
    assert node.saved() == right


def test_a_chain_that_a_neighbour_jumps_to_is_left_empty_and_can_come_back(node: Node) -> None:
    with_service, without = sample(node.family, {1: [11], 2: [12]}), sample(node.family, {1: [11]})
    node.applier.reconcile(with_service)
    node.run("-t nat -N NEIGHBOUR")
    node.run(f"-t nat -A NEIGHBOUR -j {service_chain(2)}")
    node.applier.apply(diff(with_service, without))
    listing = node.saved()
    assert f":{service_chain(2)} - [0:0]" in listing
    assert not [line for line in listing if line.startswith(f"-A {service_chain(2)}")]
    assert node.applier.reconcile(without).repaired == 0
    node.applier.apply(diff(without, with_service))
    node.run("-t nat -F NEIGHBOUR")
    node.run("-t nat -X NEIGHBOUR")
    assert node.saved() == node.rendered(with_service)


def test_cleanup_leaves_a_chain_that_a_neighbour_jumps_to(node: Node) -> None:
    node.applier.reconcile(sample(node.family, {1: [11]}))
    node.run("-N NEIGHBOUR")
    node.run("-A NEIGHBOUR -j KUBE-FORWARD")
    node.applier.cleanup()
    assert [line for line in node.saved() if "KUBE" in line] == [
        ":KUBE-FORWARD - [0:0]",
        "-A NEIGHBOUR -j KUBE-FORWARD",
    ]


# --- KUBE-FIREWALL, which the kubelet writes to as well ---------------------------------------------------------------

KUBELETS_RULE = " -m mark --mark 0x8000/0x8000 -j DROP"


def with_firewall(family: IPFamily) -> RuleSet:
    ruleset = sample(family, {1: [11]})
    guard = (LOCALNET_GUARD,) if family is IPFamily.IPV4 else ()
    hook = Hook("INPUT", Rule(target=Jump(KUBE_FIREWALL)))
    table = msgspec.structs.replace(
        ruleset.filter,
        chains={**ruleset.filter.chains, KUBE_FIREWALL: guard},
        hooks=(hook, *ruleset.filter.hooks),
    )
    return msgspec.structs.replace(ruleset, filter=table)


def guard_text(family: IPFamily) -> list[str]:
    return [render_rule(LOCALNET_GUARD, family)] if family is IPFamily.IPV4 else []


def firewall_rules(node: Node) -> list[str] | None:
    """What stands in KUBE-FIREWALL; None if it is not there."""
    lines = node.saved()
    if f":{KUBE_FIREWALL} - [0:0]" not in lines:
        return None
    start = f"-A {KUBE_FIREWALL}"
    return [line.removeprefix(start) for line in lines if line.startswith(start)]


def test_our_rule_joins_the_kubelets(node: Node) -> None:
    ruleset = with_firewall(node.family)
    node.run(f"-N {KUBE_FIREWALL}")
    node.run(f"-A {KUBE_FIREWALL}{KUBELETS_RULE}")
    for _ in range(2):
        node.applier.reconcile(ruleset)
        assert firewall_rules(node) == [KUBELETS_RULE, *guard_text(node.family)]
    node.applier.cleanup()
    assert firewall_rules(node) == [KUBELETS_RULE, *guard_text(node.family)]
    assert f"-A INPUT -j {KUBE_FIREWALL}" in node.saved()


def test_cleanup_takes_the_firewall_chain_where_it_is_ours_alone(node: Node) -> None:
    node.applier.reconcile(with_firewall(node.family))
    assert firewall_rules(node) == guard_text(node.family)
    node.applier.cleanup()
    assert not [line for line in node.saved() if "KUBE" in line]


@pytest.mark.parametrize("mark", ["KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT"])
def test_cleanup_leaves_the_firewall_chain_to_a_kubelet(node: Node, mark: str) -> None:
    node.applier.reconcile(with_firewall(node.family))
    node.run(f"-t mangle -N {mark}")
    node.applier.cleanup()
    assert firewall_rules(node) == guard_text(node.family)
