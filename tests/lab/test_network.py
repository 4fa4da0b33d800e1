"""The lab's wires: who reaches whom, as whom, and what becomes of packets for nobody."""

from collections.abc import Iterator

import pytest

from hack.lab import Lab, Outcome, Pod

pytestmark = pytest.mark.kernel

PORT = 8080
PROTOCOLS = ("TCP", "UDP", "SCTP")
FAMILIES = ("ip", "ip6")  # the attributes of a host


@pytest.fixture(scope="module")
def pods(lab: Lab) -> dict[str, Pod]:
    for name, node in (("web-1", "node-a"), ("web-2", "node-a"), ("web-3", "node-b")):
        pod = lab.add_pod(name, node)
        for protocol in PROTOCOLS:
            pod.serve(PORT, protocol)
    return lab.pods


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", ["web-1", "web-2", "web-3"])
def test_pods_reach_each_other_as_themselves(pods: dict[str, Pod], target: str, family: str, protocol: str) -> None:
    asking = pods["web-1"]
    answer = asking.ask(getattr(pods[target], family), PORT, protocol)
    assert (answer.outcome, answer.server) == (Outcome.ANSWERED, target)
    assert answer.source == getattr(asking, family)


@pytest.mark.parametrize("family", FAMILIES)
def test_client_reaches_both_nodes_as_itself(lab: Lab, family: str) -> None:
    for port, node in enumerate(lab.nodes.values(), start=9000):
        server = node.serve(port)
        answer = lab.client.ask(getattr(node, family), port)
        server.close()
        assert (answer.server, answer.source) == (node.name, getattr(lab.client, family))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["web-1", "web-3"])
def test_pods_reach_the_outside_as_their_node(lab: Lab, pods: dict[str, Pod], name: str, family: str) -> None:
    pod = pods[name]
    server = lab.client.serve(9100)
    answer = pod.ask(getattr(lab.client, family), 9100)
    server.close()
    assert (answer.server, answer.source) == ("client", getattr(pod.node, family))


@pytest.mark.parametrize("family", FAMILIES)
def test_client_cannot_reach_pods_by_their_own_addresses(lab: Lab, pods: dict[str, Pod], family: str) -> None:
    assert lab.client.ask(getattr(pods["web-1"], family), PORT, timeout=0.3).outcome is Outcome.DROPPED


@pytest.mark.parametrize("address", ["10.96.0.10", "fd00:10:96::10", "203.0.113.10", "2001:db8:e::10", "8.8.8.8"])
def test_nobody_answers_where_nobody_is(lab: Lab, pods: dict[str, Pod], address: str) -> None:
    for host in (pods["web-1"], lab.node, lab.client):
        assert host.ask(address, 80, timeout=0.3).outcome is Outcome.DROPPED


NAT_BY_HAND = {
    "ip": """\
*nat
-A PREROUTING -d 10.96.0.10 -p tcp --dport 80 -j DNAT --to-destination 10.244.0.11:8080
-A PREROUTING -d 203.0.113.10 -p tcp --dport 80 -j DNAT --to-destination 10.244.0.11:8080
-A POSTROUTING -s 10.244.0.11 -d 10.244.0.11 -j MASQUERADE
COMMIT
""",
    "ip6": """\
*nat
-A PREROUTING -d fd00:10:96::10 -p tcp --dport 80 -j DNAT --to-destination [fd00:244::11]:8080
-A PREROUTING -d 2001:db8:e::10 -p tcp --dport 80 -j DNAT --to-destination [fd00:244::11]:8080
-A POSTROUTING -s fd00:244::11 -d fd00:244::11 -j MASQUERADE
COMMIT
""",
}
SERVICE = {"ip": "10.96.0.10", "ip6": "fd00:10:96::10"}
EXTERNAL = {"ip": "203.0.113.10", "ip6": "2001:db8:e::10"}


@pytest.fixture
def nat(lab: Lab) -> Iterator[None]:
    for family, rules in NAT_BY_HAND.items():
        lab.node.iptables_restore(rules, "ipv6" if family == "ip6" else "ipv4")
    yield
    for family, rules in NAT_BY_HAND.items():
        lab.node.iptables_restore(rules.replace("-A ", "-D "), "ipv6" if family == "ip6" else "ipv4")


@pytest.mark.usefixtures("nat")
@pytest.mark.parametrize("family", FAMILIES)
def test_rewritten_addresses_work_even_between_pods_of_one_bridge(pods: dict[str, Pod], family: str) -> None:
    answer = pods["web-2"].ask(SERVICE[family], 80)
    assert (answer.server, answer.source) == ("web-1", getattr(pods["web-2"], family))


@pytest.mark.usefixtures("nat")
@pytest.mark.parametrize(("family", "bridge"), [("ip", "10.244.0.1"), ("ip6", "fd00:244::1")])
def test_a_pod_can_be_sent_back_to_itself(pods: dict[str, Pod], family: str, bridge: str) -> None:
    answer = pods["web-1"].ask(SERVICE[family], 80)
    assert (answer.server, answer.source) == ("web-1", bridge)


@pytest.mark.usefixtures("nat")
@pytest.mark.parametrize("family", FAMILIES)
def test_external_addresses_lead_to_the_first_node(lab: Lab, pods: dict[str, Pod], family: str) -> None:
    answer = lab.client.ask(EXTERNAL[family], 80)
    assert (answer.server, answer.source) == (pods["web-1"].name, getattr(lab.client, family))


def test_a_removed_pod_is_gone_for_its_neighbours(lab: Lab, pods: dict[str, Pod]) -> None:
    gone = lab.add_pod("short-lived", ip="10.244.0.77")
    gone.serve(PORT)
    with pods["web-1"].connect(gone.ip, PORT) as connection:
        assert connection.echo()
        lab.remove_pod("short-lived")
        assert "short-lived" not in lab.pods
    assert pods["web-1"].ask(gone.ip, PORT, timeout=0.3).outcome in (Outcome.DROPPED, Outcome.UNREACHABLE)
    again = lab.add_pod("successor", ip="10.244.0.77")
    again.serve(PORT)
    assert pods["web-1"].ask(again.ip, PORT).server == "successor"


def test_a_nodes_bridge_stays_the_same_whatever_pods_come_and_go(lab: Lab) -> None:
    def hardware() -> str:
        return lab.node.run(["cat", "/sys/class/net/cni0/address"]).stdout

    before = hardware()
    lab.add_pod("passing", ip="10.244.0.2")  # its hardware address sorts low
    assert hardware() == before
    lab.remove_pod("passing")
    assert hardware() == before
