"""Connections of TCP and SCTP that nobody answers are released when they lead nowhere."""

import pytest

from hack.lab import Outcome, Pod
from kproxy.state.model import IPFamily
from tests.conntrack.kit import Client, add_unanswered, goes_to
from tests.kit.packets.conntrack import DNS, NOBODY, PATIENCE, TARGET, Dns, Net, ip

pytestmark = [pytest.mark.kernel, pytest.mark.parametrize("family", list(IPFamily))]


# --- too early -----------------------------------------------------------------------------------------------------


def test_connection_from_before_the_service_finds_it(net: Net, web: Dns, family: IPFamily) -> None:
    address = web.cluster_ips[family]
    client = Client(net.lab.pod("asking"), web, address)
    assert client.ask_in_vain() in NOBODY
    assert goes_to(net, web, family) == [address], "masqueraded perhaps, but sent nowhere else"
    web.put("here-2")
    assert net.kproxy.sync() == 1
    assert client.answered_by() == "here-2"


def test_connection_from_the_node_itself_finds_it(net: Net, web: Dns, family: IPFamily) -> None:
    client = Client(net.lab.node, web, web.cluster_ips[family])
    assert client.ask_in_vain() in NOBODY
    web.put("there")
    assert net.kproxy.sync() == 1
    assert client.answered_by() == "there"


def test_connection_from_before_kproxy_finds_its_service(net: Net, web: Dns, family: IPFamily) -> None:
    """kproxy starts on a node that has been waiting for it."""
    client = Client(net.lab.pod("asking"), web, web.cluster_ips[family])
    assert client.ask_in_vain() in NOBODY
    net.restart()
    web.put("here-1")
    assert net.kproxy.sync() == 1
    assert client.answered_by() == "here-1"


def test_connection_from_a_gap_in_the_rules_finds_its_service(net: Net, web: Dns, family: IPFamily) -> None:
    web.put("here-1")
    net.kproxy.sync()
    net.lab.node.iptables_restore("*nat\n-F KUBE-SERVICES\nCOMMIT\n", family)
    client = Client(net.lab.pod("asking"), web, web.cluster_ips[family])
    assert client.ask_in_vain() in NOBODY
    assert net.kproxy.sync(everything=True) == 1
    assert client.answered_by() == "here-1"


def test_connection_from_before_a_service_without_endpoints_is_refused(net: Net, web: Dns, family: IPFamily) -> None:
    client = Client(net.lab.pod("asking"), web, web.cluster_ips[family])
    assert client.ask_in_vain() in NOBODY
    web.put()
    assert net.kproxy.sync() == 1
    answer = client.ask()
    assert answer.outcome is not Outcome.ANSWERED
    assert goes_to(net, web, family) == [], "what is refused leaves nothing behind"
    web.put("here-1")
    net.kproxy.sync()
    assert client.answered_by() == "here-1"


@pytest.mark.parametrize("kind", ["external IP", "load balancer"])
def test_connection_from_outside_finds_it(net: Net, web: Dns, family: IPFamily, kind: str) -> None:
    """node-a gets what is sent there, and has nobody to give it to until there is the service."""
    vip = "203.0.113.77" if family is IPFamily.IPV4 else "2001:db8:e::77"
    client = Client(net.lab.client, web, vip)
    assert client.ask_in_vain() in NOBODY
    if kind == "external IP":
        net.kproxy.put(web.service(externalIPs=["203.0.113.77", "2001:db8:e::77"]), *web.slices("there"))
    else:
        net.kproxy.put(web.service(kind="LoadBalancer", vip=vip), *web.slices("there"))
    net.kproxy.sync()
    assert client.answered_by() == "there"


# --- an endpoint is gone -------------------------------------------------------------------------------------------


def test_connection_to_an_endpoint_that_goes_moves(net: Net, web: Dns, family: IPFamily, silent: Pod) -> None:
    client = Client(net.lab.pod("asking"), web, web.cluster_ips[family])
    web.put("silent")
    net.kproxy.sync()
    assert client.ask_in_vain() is Outcome.DROPPED
    assert goes_to(net, web, family) == [ip(silent, family)]
    net.kproxy.put(*web.slices("there"))
    assert net.kproxy.sync() == 1
    assert client.answered_by() == "there"


@pytest.mark.usefixtures("silent")
def test_connection_through_a_node_port_moves(net: Net, web: Dns, family: IPFamily) -> None:
    node = ip(net.lab.node, family)
    client = Client(net.lab.client, web, node, web.node_port)
    net.kproxy.put(web.service(kind="NodePort"), *web.slices("silent"))
    net.kproxy.sync()
    assert client.ask_in_vain() is Outcome.DROPPED
    net.kproxy.put(*web.slices("there"))
    assert net.kproxy.sync() == 1
    assert client.answered_by() == "there"


@pytest.mark.usefixtures("silent")
def test_connection_to_the_last_endpoint_is_refused_once_it_goes(net: Net, web: Dns, family: IPFamily) -> None:
    client = Client(net.lab.pod("asking"), web, web.cluster_ips[family])
    web.put("silent")
    net.kproxy.sync()
    assert client.ask_in_vain() is Outcome.DROPPED
    net.kproxy.put(*web.slices())
    assert net.kproxy.sync() == 1
    if web.protocol == "TCP":
        assert client.ask(PATIENCE).outcome is Outcome.REFUSED
    else:  # it is refused as well, which a raw socket does not hear
        assert client.ask().outcome is not Outcome.ANSWERED
    assert goes_to(net, web, family) == []


@pytest.mark.usefixtures("silent")
def test_connection_follows_the_target_port(net: Net, web: Dns, family: IPFamily) -> None:
    client = Client(net.lab.pod("asking"), web, web.cluster_ips[family])
    web.put("silent")
    net.kproxy.sync()
    assert client.ask_in_vain() is Outcome.DROPPED
    net.kproxy.put(*web.slices("here-1", port=TARGET + 1))
    assert net.kproxy.sync() == 1
    assert client.answered_by() == "here-1-moved"


@pytest.mark.usefixtures("silent")
def test_connection_comes_home_when_the_policy_becomes_local(net: Net, web: Dns, family: IPFamily) -> None:
    """There is no endpoint here: what came in from outside is dropped then, and another node may take it."""
    node = ip(net.lab.node, family)
    silent_there = net.lab.pods.get("silent-there") or net.lab.add_pod("silent-there", "node-b")
    for program in ("iptables-legacy", "ip6tables-legacy"):
        silent_there.run([program, "-I", "INPUT", "-j", "DROP"])
    client = Client(net.lab.client, web, node, web.node_port)
    net.kproxy.put(web.service(kind="NodePort"), *web.slices("silent-there"))
    net.kproxy.sync()
    assert client.ask_in_vain() is Outcome.DROPPED
    assert [entry.goes_to for entry in net.entries(family, node, web.node_port, web.protocol)]
    local = web.service(kind="NodePort", externalTrafficPolicy="Local")
    net.kproxy.put(local, *web.slices("silent-there", "here-1"))
    assert net.kproxy.sync() == 1
    assert client.answered_by() == "here-1"


@pytest.mark.usefixtures("silent")
def test_connection_of_a_deleted_service_ends(net: Net, web: Dns, family: IPFamily) -> None:
    client = Client(net.lab.pod("asking"), web, web.cluster_ips[family])
    web.put("silent")
    net.kproxy.sync()
    assert client.ask_in_vain() is Outcome.DROPPED
    net.kproxy.delete(web.name)
    assert net.kproxy.sync() == 1
    assert client.ask_in_vain() in NOBODY
    assert goes_to(net, web, family) == [web.cluster_ips[family]]


def test_a_hundred_are_released_at_once(net: Net, web: Dns, family: IPFamily) -> None:
    web.put("here-1")
    net.kproxy.sync()
    address = web.cluster_ips[family]
    add_unanswered(net, web, family, address, number=100)
    assert len(net.entries(family, address, DNS, web.protocol)) == 100
    assert net.kproxy.sync(everything=True) == 100
    assert net.entries(family, address, DNS, web.protocol) == []
