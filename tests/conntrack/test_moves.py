"""UDP flows that lead to the wrong place are released, and find the right one with their next packet."""

import pytest

from hack.lab import Outcome
from kproxy.state.model import IPFamily
from tests.kit.packets.conntrack import DNS, NOBODY, TARGET, Dns, Net, answers, ip, silence

pytestmark = [pytest.mark.kernel, pytest.mark.parametrize("family", list(IPFamily))]


def test_flow_moves_when_its_endpoint_goes(net: Net, dns: Dns, family: IPFamily) -> None:
    dns.put("here-1")
    net.kproxy.sync()
    with net.flow(net.lab.pod("asking"), dns.cluster_ips[family]) as flow:
        assert answers(flow).server == "here-1"
        net.kproxy.put(*dns.slices("there"))
        assert net.kproxy.sync() == 1
        assert answers(flow).server == "there"


def test_scaled_to_zero_is_refused_and_back_again_answers(net: Net, dns: Dns, family: IPFamily) -> None:
    dns.put("here-1")
    net.kproxy.sync()
    with net.flow(net.lab.pod("asking"), dns.cluster_ips[family]) as flow:
        assert answers(flow).server == "here-1"
        net.kproxy.put(*dns.slices())
        assert net.kproxy.sync() == 1
        assert answers(flow).outcome is Outcome.REFUSED
        assert net.entries(family, dns.cluster_ips[family]) == []
        net.kproxy.put(*dns.slices("there"))
        net.kproxy.sync()
        assert answers(flow).server == "there"


def test_flow_from_before_the_service_finds_it(net: Net, dns: Dns, family: IPFamily) -> None:
    address = dns.cluster_ips[family]
    with net.flow(net.lab.pod("asking"), address) as flow:
        assert silence(flow).outcome in NOBODY
        assert [entry.goes_to for entry in net.entries(family, address)] == [address]
        dns.put("here-2")
        assert net.kproxy.sync() == 1
        assert answers(flow).server == "here-2"


def test_flow_from_a_gap_in_the_rules_finds_its_service(net: Net, dns: Dns, family: IPFamily) -> None:
    """Somebody flushes the tables, and kproxy puts its rules back: the plan has not changed, but flows went astray."""
    address = dns.cluster_ips[family]
    dns.put("here-1")
    net.kproxy.sync()
    net.lab.node.iptables_restore("*nat\n-F KUBE-SERVICES\nCOMMIT\n", family)
    with net.flow(net.lab.pod("asking"), address) as flow:
        assert silence(flow).outcome in NOBODY
        assert net.kproxy.sync(everything=True) == 1
        assert answers(flow).server == "here-1"


def test_flow_of_a_deleted_service_ends(net: Net, dns: Dns, family: IPFamily) -> None:
    dns.put("here-1")
    net.kproxy.sync()
    with net.flow(net.lab.pod("asking"), dns.cluster_ips[family]) as flow:
        assert answers(flow).server == "here-1"
        net.kproxy.delete(dns.name)
        assert net.kproxy.sync() == 1
        assert silence(flow).outcome in NOBODY


def test_flow_of_a_port_that_moved_ends(net: Net, dns: Dns, family: IPFamily) -> None:
    dns.put("here-1")
    net.kproxy.sync()
    with net.flow(net.lab.pod("asking"), dns.cluster_ips[family]) as flow:
        assert answers(flow).server == "here-1"
        net.kproxy.put(dns.service(port=DNS + 1))
        assert net.kproxy.sync() == 1
        assert silence(flow).outcome in NOBODY


def test_flow_follows_the_target_port(net: Net, dns: Dns, family: IPFamily) -> None:
    dns.put("here-1")
    net.kproxy.sync()
    with net.flow(net.lab.pod("asking"), dns.cluster_ips[family]) as flow:
        assert answers(flow).server == "here-1"
        net.kproxy.put(*dns.slices("here-1", port=TARGET + 1))
        assert net.kproxy.sync() == 1
        assert answers(flow).server == "here-1-moved"


def test_unready_endpoint_loses_its_flows(net: Net, dns: Dns, family: IPFamily) -> None:
    dns.put("here-1")
    net.kproxy.sync()
    with net.flow(net.lab.pod("asking"), dns.cluster_ips[family]) as flow:
        assert answers(flow).server == "here-1"
        net.kproxy.put(*dns.slices("here-1", "there", leaving=["here-1"], ready=False, serving=False))
        assert net.kproxy.sync() == 1
        assert answers(flow).server == "there"


# --- node ports and policies ---------------------------------------------------------------------------------------


def test_node_port_flow_moves_when_its_endpoint_goes(net: Net, dns: Dns, family: IPFamily) -> None:
    net.kproxy.put(dns.service(kind="NodePort"), *dns.slices("here-1"))
    net.kproxy.sync()
    with net.flow(net.lab.client, ip(net.lab.node, family), dns.node_port) as flow:
        assert answers(flow).server == "here-1"
        net.kproxy.put(*dns.slices("there"))
        assert net.kproxy.sync() == 1
        assert answers(flow).server == "there"
        net.kproxy.delete(dns.name)
        assert net.kproxy.sync() == 1
        assert silence(flow).outcome is not Outcome.ANSWERED


def test_flow_comes_home_when_the_policy_becomes_local(net: Net, dns: Dns, family: IPFamily) -> None:
    net.kproxy.put(dns.service(kind="NodePort"), *dns.slices("there"))
    net.kproxy.sync()
    with net.flow(net.lab.client, ip(net.lab.node, family), dns.node_port) as flow:
        assert answers(flow).server == "there"
        local = dns.service(kind="NodePort", externalTrafficPolicy="Local")
        net.kproxy.put(local, *dns.slices("there", "here-1"))
        assert net.kproxy.sync() == 1
        answer = answers(flow)
        assert (answer.server, answer.source) == ("here-1", ip(net.lab.client, family))
        assert net.kproxy.sync(everything=True) == 0
        net.kproxy.put(*dns.slices("there"))
        assert net.kproxy.sync() == 1
        assert silence(flow).outcome is Outcome.DROPPED


def test_flow_comes_home_when_the_internal_policy_becomes_local(net: Net, dns: Dns, family: IPFamily) -> None:
    dns.put("there")
    net.kproxy.sync()
    with net.flow(net.lab.pod("asking"), dns.cluster_ips[family]) as flow:
        assert answers(flow).server == "there"
        net.kproxy.put(dns.service(internalTrafficPolicy="Local"), *dns.slices("there", "here-1"))
        assert net.kproxy.sync() == 1
        assert answers(flow).server == "here-1"


def test_flow_ends_when_its_source_is_no_longer_permitted(net: Net, dns: Dns, family: IPFamily) -> None:
    vip = "203.0.113.53" if family is IPFamily.IPV4 else "2001:db8:e::53"
    net.kproxy.put(dns.service(kind="LoadBalancer", vip=vip), *dns.slices("here-1"))
    net.kproxy.sync()
    with net.flow(net.lab.client, vip) as flow:
        assert answers(flow).server == "here-1"
        elsewhere = ["198.18.0.0/15", "2001:db8:ffff::/48"]
        net.kproxy.put(dns.service(kind="LoadBalancer", vip=vip, loadBalancerSourceRanges=elsewhere))
        assert net.kproxy.sync() == 1
        assert silence(flow).outcome is Outcome.DROPPED
