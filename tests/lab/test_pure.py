"""The parts of lab and demo that need no kernel: addresses, reading metrics, finding rules, keeping to the truth."""

import ipaddress

import pytest

from hack.demo.rules import explain
from hack.demo.screen import Screen
from hack.lab import Answer, LabError, Outcome, Tally, addresses, select, until


@pytest.mark.parametrize("number", [1, 2, 3])
def test_pod_networks_lie_in_the_cluster_and_apart(number: int) -> None:
    for cidr, cluster in zip(
        addresses.pod_net(number).cidr, (addresses.CLUSTER_CIDR, addresses.CLUSTER_CIDR6), strict=True
    ):
        net = ipaddress.ip_network(cidr)
        assert net.subnet_of(ipaddress.ip_network(cluster))  # type: ignore[arg-type]
        assert not any(net.overlaps(ipaddress.ip_network(other)) for other in addresses.pod_net(number + 1).cidr)


def test_addresses_are_those_of_the_golden_recordings() -> None:
    assert addresses.UNDERLAY.with_length(1) == ("10.0.0.1/24", "fd00:a::1/64")
    assert addresses.pod_net(1).host(11) == ("10.244.0.11", "fd00:244::11")
    assert addresses.pod_net(2).host(12) == ("10.244.1.12", "fd00:244:0:1::12")


SAMPLES = {
    "up": 1.0,
    'changes_total{ip_family="IPv4",kind="a.c"}': 2.0,
    'changes_total{kind="abc",ip_family="IPv4"}': 3.0,
    'changes_total{ip_family="IPv6",kind="a.c"}': 4.0,
    'changes_total_more{ip_family="IPv4"}': 5.0,
}


@pytest.mark.parametrize(
    ("name", "labels", "values"),
    [
        ("up", {}, [1]),
        ("changes_total", {}, [2, 3, 4]),
        ("changes_total", {"ip_family": "IPv4"}, [2, 3]),
        ("changes_total", {"ip_family": "IPv4", "kind": "a.c"}, [2]),
        ("changes_total", {"family": "IPv4"}, []),
        ("nothing", {}, []),
    ],
)
def test_samples_are_selected_by_name_and_labels(name: str, labels: dict[str, str], values: list[float]) -> None:
    assert list(select(SAMPLES, name, **labels).values()) == values


def test_a_tally_counts_only_the_answered_as_served() -> None:
    answers = (
        Answer(Outcome.ANSWERED, 0.1, "web-1", "10.0.0.1"),
        Answer(Outcome.ANSWERED, 0.1, "web-2", "10.0.0.1"),
        Answer(Outcome.DROPPED, 1.0),
    )
    tally = Tally(answers)
    assert tally.servers == {"web-1": 1, "web-2": 1}
    assert tally.sources == {"10.0.0.1": 2}
    assert tally.outcomes == {Outcome.ANSWERED: 2, Outcome.DROPPED: 1}
    assert tally.failures == answers[2:]


def test_waiting_ends_with_what_was_waited_for_or_says_what_it_saw() -> None:
    looks = iter([0, 0, 7])
    assert until(lambda: next(looks), 5, "a number") == 7
    with pytest.raises(LabError, match=r"waited 0\.05 s for a full moon; last seen: \[\]"):
        until(list, 0.05, "a full moon")


NAT = """\
*nat
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-SEP-A -s 10.244.0.11/32 -m comment --comment "shop/web:http" -j KUBE-MARK-MASQ
-A KUBE-SEP-A -p tcp -m comment --comment "shop/web:http" -m tcp -j DNAT --to-destination 10.244.0.11:8080
-A KUBE-SEP-B -p tcp -m comment --comment "shop/web:http" -m tcp -j DNAT --to-destination 10.244.1.11:8080
-A KUBE-SERVICES -d 10.96.0.8/32 -p tcp -m comment --comment "shop/other:http cluster IP" -m tcp -j KUBE-SVC-O
-A KUBE-SERVICES -d 10.96.0.80/32 -p tcp -m comment --comment "shop/web:http cluster IP" -m tcp -j KUBE-SVC-W
-A KUBE-SVC-W ! -s 10.244.0.0/16 -m comment --comment "shop/web:http cluster IP" -j KUBE-MARK-MASQ
-A KUBE-SVC-W -m comment --comment "shop/web:http -> a" -m statistic --mode random --probability 0.5 -j KUBE-SEP-A
-A KUBE-SVC-W -m comment --comment "shop/web:http -> b" -j KUBE-SEP-B
COMMIT
"""


def test_the_demo_finds_the_rules_in_the_order_a_packet_meets_them() -> None:
    assert [rule for _, rule in explain(NAT, "10.96.0.80", "shop/web:http")] == [
        "-A KUBE-SERVICES -d 10.96.0.80/32 -p tcp -j KUBE-SVC-W",
        "-A KUBE-SVC-W ! -s 10.244.0.0/16 -j KUBE-MARK-MASQ",
        "-A KUBE-SVC-W -m statistic --mode random --probability 0.5 -j KUBE-SEP-A",
        "-A KUBE-SEP-A -s 10.244.0.11/32 -j KUBE-MARK-MASQ",
        "-A KUBE-SEP-A -p tcp -j DNAT --to-destination 10.244.0.11:8080",
        "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
    ]


def test_the_demo_shows_that_a_rule_is_missing() -> None:
    assert [rule for _, rule in explain("*nat\nCOMMIT\n", "10.96.0.80", "shop/web:http")] == [""] * 6


def test_a_claim_that_is_not_so_is_told_and_fails_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    screen.claim("two and two make four", 2 + 2, 4)
    screen.claim("the sun rises in the west", "east", "west")
    assert screen.close() == 1
    shown = capsys.readouterr().out
    assert "✓ two and two make four" in shown
    assert "✗ the sun rises in the west\n      expected: west\n      seen:     east" in shown
    assert "1 of 2 claims were not so: the sun rises in the west" in shown
    assert "\x1b" not in shown  # no colours where nobody watches


def test_a_demo_without_a_false_claim_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    screen.claim("water is wet", seen=True, expected=True)
    assert screen.close() == 0
    assert "All 1 claims were seen" in capsys.readouterr().out
