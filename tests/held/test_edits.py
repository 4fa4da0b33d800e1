"""Rules edited by hand in the kernel: what becomes of a packet is found out, and the rule at fault is named."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from kproxy.backends.iptables.kernel.variant import Variant
from kproxy.explain.answer import Kernel, explain
from kproxy.explain.model import AS_PLANNED, DIFFERS, Flow
from kproxy.explain.question import ask
from kproxy.held.read import read_rules
from kproxy.state.model import IPFamily
from tests.kit.held import ENGINES, IPTABLES, Engine, Node, run
from tests.kit.netns import network_namespace

pytestmark = pytest.mark.kernel


@pytest.fixture
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with network_namespace(tmp_path_factory.mktemp("lock")):
        yield


@pytest.fixture(params=ENGINES, ids=str)
def node(request: pytest.FixtureRequest, namespace: None) -> Iterator[Node]:
    del namespace
    with closing(Node(request.param, IPFamily.IPV4)) as made:
        yield made


@pytest.fixture(params=IPTABLES, ids=str)
def iptables_node(request: pytest.FixtureRequest, namespace: None) -> Iterator[Node]:
    del namespace
    with closing(Node(request.param, IPFamily.IPV4)) as made:
        yield made


def chain_of(node: Node, prefix: str) -> str:
    """Return the chain of shop/web with this prefix, as explain shows it."""
    return next(rule.chain for rule in node.explain().rules if rule.chain.startswith(prefix))


@pytest.mark.parametrize("family", IPFamily)
@pytest.mark.parametrize("engine", ENGINES, ids=str)
@pytest.mark.usefixtures("namespace")
def test_all_is_as_planned_before_anybody_edits(
    request: pytest.FixtureRequest, engine: Engine, family: IPFamily
) -> None:
    node = Node(engine, family)
    request.addfinalizer(node.close)
    for text in ("shop/web", "shop/empty", "shop/sticky", "shop/turning", ":30080"):
        for sender in ("pod", "node", "outside"):
            found = node.explain(text, sender=sender)
            assert (found.kernel, found.differences, found.doubts) == (AS_PLANNED, (), ()), (text, sender)
            assert found.rules


def test_a_rule_deleted(iptables_node: Node) -> None:
    chain = chain_of(iptables_node, "KUBE-SVC-")
    rules = [rule for rule in iptables_node.explain().rules if rule.chain == chain]
    iptables_node.iptables(f"-t nat -D {chain} {rules[0].number}")
    found = iptables_node.explain()
    assert found.kernel == DIFFERS
    gone = [difference for difference in found.differences if difference.kind == "missing"]
    assert [(difference.table, difference.chain) for difference in gone] == [("nat", chain)]
    assert "-j KUBE-SEP-" in str(gone[0].rule) or "-j DNAT" in str(gone[0].rule)


def test_a_rule_added(iptables_node: Node) -> None:
    chain = chain_of(iptables_node, "KUBE-SVC-")
    iptables_node.iptables(f"-t nat -I {chain} -p tcp -j DNAT --to-destination 192.0.2.66:6666")
    found = iptables_node.explain()
    assert found.kernel == DIFFERS
    extra = [difference for difference in found.differences if difference.kind == "added"]
    assert [difference.chain for difference in extra] == [chain]
    assert "192.0.2.66:6666" in str(extra[0].rule)
    assert "which kproxy did not write" in extra[0].what


def test_a_rule_edited(iptables_node: Node) -> None:
    chain = chain_of(iptables_node, "KUBE-SVC-")
    number = next(rule.number for rule in iptables_node.explain().rules if rule.chain == chain)
    iptables_node.iptables(
        f"-t nat -R {chain} {number} -p tcp -m statistic --mode random --probability 0.9 "
        "-j DNAT --to-destination 10.244.0.11:8080"
    )
    found = iptables_node.explain()
    assert found.kernel == DIFFERS
    assert {difference.kind for difference in found.differences} == {"outcome", "added", "missing"}
    assert {difference.chain for difference in found.differences} == {None, chain}


def test_a_foreign_dnat_in_front(node: Node) -> None:
    node.iptables("-t nat -I PREROUTING -d 10.96.0.80 -p tcp --dport 80 -j DNAT --to-destination 192.0.2.66:80")
    found = node.explain()
    if node.engine.variant is None:  # kproxy's table has the first word
        assert (found.kernel, found.differences) == (AS_PLANNED, ())
        return
    assert found.kernel == DIFFERS
    added = [difference for difference in found.differences if difference.kind == "added"]
    assert [difference.chain for difference in added] == ["PREROUTING"]
    assert "rule 1 of PREROUTING in table nat, which is not kproxy's, takes the packet" in added[0].what


def test_a_foreign_nftables_hook_in_front(node: Node) -> None:
    run(
        "nft 'table ip other { chain first { type nat hook prerouting priority -150; "
        "ip daddr 10.96.0.80 tcp dport { 80, 443 } dnat to 192.0.2.66:80; }; }'"
    )
    found = node.explain()
    assert found.kernel == DIFFERS
    (added,) = (difference for difference in found.differences if difference.kind == "added")
    assert (added.table, added.chain) == ("ip other", "first")
    assert "192.0.2.66:80" in str(added.rule)


@pytest.mark.parametrize("verdict", ["ACCEPT", "RETURN"])
def test_an_exemption_from_translation_in_front(iptables_node: Node, verdict: str) -> None:
    iptables_node.iptables(f"-t nat -I PREROUTING -d 10.96.0.80 -j {verdict}")
    found = iptables_node.explain()
    assert found.kernel == DIFFERS
    (added,) = (difference for difference in found.differences if difference.kind == "added")
    assert (added.table, added.chain) == ("nat", "PREROUTING")
    assert str(added.rule).endswith(f"-j {verdict}")


@pytest.mark.parametrize("variant", Variant)
def test_the_other_variant_s_nat_at_the_same_point_is_a_doubt(iptables_node: Node, variant: Variant) -> None:
    """What was loaded last has the first word, and nothing tells which that was."""
    rule = "-t nat -I PREROUTING -d 10.96.0.80 -p tcp --dport 80 -j DNAT --to-destination 192.0.2.66:80"
    iptables_node.iptables(rule, variant=variant)
    found = iptables_node.explain()
    if variant is iptables_node.engine.variant:
        assert (found.kernel, found.doubts) == (DIFFERS, ())
        return
    (doubt,) = found.doubts
    assert found.kernel == AS_PLANNED
    assert "cannot be seen" in doubt
    assert "192.0.2.66:80 always: rule 1 of PREROUTING in table nat (the other variant)" in doubt


@pytest.mark.parametrize(
    ("rule", "kernel", "doubts"),
    [
        ("-I FORWARD -p tcp --syn -j DROP", DIFFERS, 0),
        ("-I FORWARD -p tcp ! --syn -m conntrack --ctstate NEW -j DROP", AS_PLANNED, 0),
        ("-I FORWARD -p tcp --tcp-flags RST RST -j DROP", AS_PLANNED, 0),
        ("-I FORWARD -p tcp --tcp-flags ALL NONE -j DROP", AS_PLANNED, 0),
        ("-t raw -I PREROUTING -d 10.96.0.80 -j NOTRACK", AS_PLANNED, 1),
        ("-t raw -I PREROUTING -d 10.96.0.80 -j DROP", DIFFERS, 0),
        ("-t mangle -I PREROUTING -d 10.96.0.80 -j DROP", DIFFERS, 0),
        ("-t mangle -I FORWARD -d 10.244.0.0/16 -j DROP", DIFFERS, 0),
        ("-I FORWARD -j NFQUEUE", AS_PLANNED, 1),
    ],
)
def test_common_rules_of_firewalls(iptables_node: Node, rule: str, kernel: str, doubts: int) -> None:
    iptables_node.iptables(rule)
    found = iptables_node.explain()
    assert (found.kernel, len(found.doubts)) == (kernel, doubts), found.doubts
    assert (kernel == DIFFERS) is any(difference.kind == "added" for difference in found.differences)


@pytest.mark.parametrize(
    "rule",
    ["-A OUTPUT -d 10.244.0.0/16 -p tcp -j REJECT", "-P OUTPUT DROP", "-t nat -I OUTPUT -d 10.96.0.80 -j ACCEPT"],
)
def test_what_keeps_the_node_itself_from_a_service(iptables_node: Node, rule: str) -> None:
    iptables_node.iptables(rule)
    found = iptables_node.explain(sender="node")
    assert found.kernel == DIFFERS
    assert [one.chain for one in found.differences if one.kind == "added"] == ["OUTPUT"]
    assert iptables_node.explain().kernel == AS_PLANNED


def test_a_firewall_that_drops(node: Node) -> None:
    node.iptables("-A FORWARD -d 10.244.0.0/16 -p tcp --dport 8080 -j DROP")
    found = node.explain()
    assert found.kernel == DIFFERS
    (added,) = (difference for difference in found.differences if difference.kind == "added")
    assert (added.chain, "DROP" in str(added.rule)) == ("FORWARD", True)


def test_a_policy_that_drops(node: Node) -> None:
    node.iptables("-P FORWARD DROP")
    found = node.explain()
    assert found.kernel == DIFFERS
    assert any("the policy of FORWARD" in difference.what for difference in found.differences)


def test_a_match_that_nobody_knows_is_a_doubt(node: Node) -> None:
    node.iptables("-I FORWARD -m limit --limit 5/min -j DROP")
    found = node.explain()
    assert found.kernel == AS_PLANNED
    assert len(found.doubts) == 1
    assert "rule 1 of FORWARD" in found.doubts[0]
    assert "cannot be judged" in found.doubts[0]


@pytest.mark.parametrize(
    "rules",
    [
        "table inet filter { chain forward { type filter hook forward priority 0; meta nfproto ipv6 drop; "
        'ct state established,related accept; iifname "lo" drop; oifname "wg0" ip daddr 192.0.2.0/24 drop; }; }',
        "table ip lists { set bad { type ipv4_addr; elements = { 192.0.2.66 }; }; "
        "chain forward { type filter hook forward priority 0; ip saddr @bad drop; ip daddr @bad drop; }; }",
        "table inet nat { chain pre { type nat hook prerouting priority -110; "
        "meta nfproto ipv6 tcp dport 80 redirect to :1; }; }",
    ],
)
def test_rules_of_others_that_do_not_concern_it(node: Node, rules: str) -> None:
    run(f"nft '{rules}'")
    found = node.explain()
    assert (found.kernel, found.differences, found.doubts) == (AS_PLANNED, (), ())


@pytest.mark.parametrize(
    ("rules", "chain"),
    [
        (
            "table inet f { chain passing { type filter hook forward priority 0; ip daddr 10.244.0.0/16 reject; }; }",
            "passing",
        ),
        (
            "table ip f { set pods { type ipv4_addr; flags interval; elements = { 10.244.0.0/16 }; }; "
            "chain passing { type filter hook forward priority 0; ip daddr @pods drop; }; }",
            "passing",
        ),
        ("table ip f { chain pre { type filter hook prerouting priority -300; ip daddr 10.96.0.80 drop; }; }", "pre"),
        ("table inet f { chain passing { type filter hook forward priority 0; policy drop; }; }", "passing"),
    ],
)
def test_firewalls_of_others_in_nftables(node: Node, rules: str, chain: str) -> None:
    run(f"nft '{rules}'")
    found = node.explain()
    assert found.kernel == DIFFERS
    assert [one.chain for one in found.differences if one.kind == "added"] == [chain]


def test_a_chain_flushed(iptables_node: Node) -> None:
    iptables_node.iptables("-t nat -F KUBE-SERVICES")
    found = iptables_node.explain()
    assert found.kernel == DIFFERS
    assert any(difference.chain == "KUBE-SERVICES" and difference.kind == "missing" for difference in found.differences)


@pytest.mark.parametrize(
    ("command", "kind", "named"),
    [
        ("delete element ip kproxy tcp/cluster-endpoints { 10.96.0.80 . 80 . 0 }", "missing", "10.244."),
        ("delete element ip kproxy tcp/cluster-4/off-cluster { 10.96.0.80 . 80 }", "missing", "10.96.0.80 . 80"),
        ("flush chain ip kproxy services", "missing", "goto tcp/services"),
        ("insert rule ip kproxy tcp/services meta l4proto tcp dnat to 192.0.2.66:80", "added", "192.0.2.66:80"),
        (
            "delete element ip kproxy tcp/cluster-endpoints { 10.96.0.80 . 80 . 0 }; "
            "add element ip kproxy tcp/cluster-endpoints { 10.96.0.80 . 80 . 0 : 192.0.2.66 . 80 }",
            "added",
            "192.0.2.66 . 80",
        ),
    ],
)
@pytest.mark.usefixtures("namespace")
def test_kproxy_s_own_table_edited(command: str, kind: str, named: str) -> None:
    with closing(Node(Engine("nftables", None), IPFamily.IPV4)) as node:
        run(f"nft '{command}'")
        found = node.explain()
    assert found.kernel == DIFFERS
    assert any(named in str(difference.rule) for difference in found.differences if difference.kind == kind)


def test_a_client_that_affinity_keeps_is_told_where(node: Node) -> None:
    def flows(*_: object) -> list[Flow]:
        kept = Flow(source="10.244.0.20", destination="10.96.0.82:80", goes_to="10.244.0.11:8080")
        return [kept, Flow(source="10.244.0.20", destination="10.96.0.82:80", goes_to="192.0.2.9:8080")]

    def notes(text: str, sender: str) -> list[str]:
        kernel = Kernel(rules=lambda family: read_rules(family, node.engine.variant, node.engine.layout), flows=flows)
        found = explain([node.view], ask(text, sender=sender), kernel)
        assert found.kernel == AS_PLANNED
        return [note for note in found.notes if "session affinity" in note]

    (note,) = notes("shop/sticky", "10.244.0.20")
    assert note.startswith("session affinity: 10.244.0.20 has connections to 10.244.0.11:8080, and new ones go there")
    assert notes("shop/sticky", "10.244.0.21") == []
    assert notes("shop/web", "10.244.0.20") == []


def test_no_rules_at_all(node: Node) -> None:
    node.backend.cleanup()
    found = node.explain()
    assert found.kernel == DIFFERS
    assert "in the kernel: left alone" in found.differences[0].what
