"""UDP flows that are right, or others' business, are never touched; and a restart makes no difference."""

import contextlib

import pytest
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket

from hack.lab import Outcome
from kproxy.conntrack.message import LAYOUTS
from kproxy.state.model import IPFamily
from tests.kit.packets.conntrack import DNS, NOBODY, TARGET, Dns, Net, answers, ip, silence, source_ports

pytestmark = [pytest.mark.kernel, pytest.mark.parametrize("family", list(IPFamily))]


def test_flows_that_are_right_are_not_touched(net: Net, dns: Dns, family: IPFamily) -> None:
    address = dns.cluster_ips[family]
    dns.put("here-1")
    net.kproxy.sync()
    with net.flow(net.lab.pod("asking"), address) as flow:
        assert answers(flow).server == "here-1"
        before = net.entries(family, address)
        assert len(before) == 1
        for change in (
            dns.slices("here-1", "there"),
            dns.slices("here-1", "there", leaving=["here-1"], ready=False, serving=True, terminating=True),
            dns.slices("here-1", leaving=["here-1"], ready=False, serving=True, terminating=True),
            dns.slices("here-1", "here-2"),
            [dns.service(sessionAffinity="ClientIP")],
        ):
            net.kproxy.put(*change)
            assert net.kproxy.sync() == 0
            assert net.kproxy.sync(everything=True) == 0
            assert net.entries(family, address) == before
        assert answers(flow).server == "here-1"


def test_same_port_elsewhere_is_no_node_port(net: Net, dns: Dns, family: IPFamily) -> None:
    address = ip(net.lab.client, family)
    with (
        contextlib.closing(net.lab.client.serve(dns.node_port, "UDP")),
        net.flow(net.lab.pod("asking"), address, dns.node_port) as flow,
    ):
        assert answers(flow).server == "client"
        before = net.entries(family, address, dns.node_port)
        assert before
        net.kproxy.put(dns.service(kind="NodePort"), *dns.slices("here-1"))
        assert net.kproxy.sync(everything=True) == 0
        net.kproxy.delete(dns.name)
        assert net.kproxy.sync(everything=True) == 0
        assert net.entries(family, address, dns.node_port) == before


def test_local_policy_leaves_this_nodes_own_flows_alone(net: Net, dns: Dns, family: IPFamily) -> None:
    net.kproxy.put(dns.service(kind="NodePort", externalTrafficPolicy="Local"), *dns.slices("there"))
    net.kproxy.sync()
    address = ip(net.lab.node, family)
    with (
        net.flow(net.lab.pod("asking"), address, dns.node_port) as from_pod,
        net.flow(net.lab.node, address, dns.node_port) as from_node,
    ):
        assert [answers(flow).server for flow in (from_pod, from_node)] == ["there", "there"]
        before = net.entries(family, address, dns.node_port)
        assert len(before) == 2
        assert net.kproxy.sync(everything=True) == 0
        assert net.entries(family, address, dns.node_port) == before


def neighbour_rules(family: IPFamily, net: Net, other_service: str) -> str:
    pod = ip(net.lab.pod("here-2"), family)
    target = f"{pod}:{TARGET}" if family is IPFamily.IPV4 else f"[{pod}]:{TARGET}"
    return f"""\
*nat
-A PREROUTING -d {ip(net.lab.node, family)} -p udp --dport 9053 -j DNAT --to-destination {target}
-A PREROUTING -d {other_service} -p udp --dport {DNS} -j DNAT --to-destination {target}
COMMIT
"""


def test_flows_of_neighbours_are_not_touched(net: Net, dns: Dns, family: IPFamily) -> None:
    """A host port, a service of another proxy's, and a flow straight to a pod that is an endpoint, too."""
    other_service = net.new_addresses()[family]
    rules = neighbour_rules(family, net, other_service)
    net.lab.node.iptables_restore(rules, family)
    node, pod = ip(net.lab.node, family), ip(net.lab.pod("there"), family)
    places = [(node, 9053), (other_service, DNS), (pod, TARGET)]
    with (
        net.flow(net.lab.client, node, 9053) as host_port,
        net.flow(net.lab.pod("asking"), other_service) as elsewhere,
        net.flow(net.lab.pod("asking"), pod, TARGET) as straight,
    ):
        assert [answers(flow).server for flow in (host_port, elsewhere, straight)] == ["here-2", "here-2", "there"]
        before = [net.entries(family, *place) for place in places]
        assert [len(entries) for entries in before] == [1, 1, 1]
        dns.put("there")
        net.kproxy.sync()
        net.kproxy.put(*dns.slices())
        net.kproxy.sync()
        net.kproxy.delete(dns.name)
        net.kproxy.sync()
        assert net.restart().sync() == 0
        assert [net.entries(family, *place) for place in places] == before
    net.lab.node.iptables_restore(rules.replace("-A ", "-D "), family)


def test_flows_in_a_zone_of_their_own_are_not_touched(net: Net, dns: Dns, family: IPFamily) -> None:
    """Whoever divides conntrack into zones has rules of his own for what is in them."""
    dns.put("here-1")
    net.kproxy.sync()
    address, there = dns.cluster_ips[family], ip(net.lab.pod("there"), family)
    source, port = ip(net.lab.pod("asking"), family), next(source_ports)
    address_family = LAYOUTS[family].address_family
    one_way = NFCTAttrTuple(address_family, source, address, 17, port, DNS)
    back = NFCTAttrTuple(address_family, there, source, 17, TARGET, port)
    with net.lab.node.namespace.entered(), NFCTSocket(address_family) as sock:
        sock.entry("add", timeout=60, tuple_orig=one_way, tuple_reply=back, zone=7)
    before = net.entries(family, address)
    assert len(before) == 1
    assert net.kproxy.sync(everything=True) == 0
    assert net.entries(family, address) == before


# --- restarts ------------------------------------------------------------------------------------------------------


def test_what_changed_while_nobody_looked_is_seen_after_a_restart(net: Net, dns: Dns, family: IPFamily) -> None:
    """An endpoint that is gone, and a flow that stays; kproxy remembers nothing of either."""
    stays = Dns(net, f"{dns.name}-stays")
    dns.put("here-1")
    stays.put("here-2")
    net.kproxy.sync()
    asking = net.lab.pod("asking")
    with (
        net.flow(asking, dns.cluster_ips[family]) as moving,
        net.flow(asking, stays.cluster_ips[family]) as staying,
    ):
        assert [answers(flow).server for flow in (moving, staying)] == ["here-1", "here-2"]
        before = net.entries(family, stays.cluster_ips[family])
        net.restart()
        dns.put("there")
        stays.put("here-2")
        assert net.kproxy.sync() == 1
        assert net.entries(family, stays.cluster_ips[family]) == before
        assert [answers(flow).server for flow in (moving, staying)] == ["there", "here-2"]
    net.kproxy.delete(stays.name)


def test_service_deleted_while_nobody_looked_is_known_from_the_rules(net: Net, dns: Dns, family: IPFamily) -> None:
    net.kproxy.put(dns.service(kind="NodePort"), *dns.slices("here-1"))
    net.kproxy.sync()
    with (
        net.flow(net.lab.pod("asking"), dns.cluster_ips[family]) as by_service,
        net.flow(net.lab.client, ip(net.lab.node, family), dns.node_port) as by_node,
    ):
        assert [answers(flow).server for flow in (by_service, by_node)] == ["here-1", "here-1"]
        assert net.restart().sync() == 2
        assert silence(by_service).outcome in NOBODY
        assert silence(by_node).outcome is not Outcome.ANSWERED
