"""Connections of TCP and SCTP that are answered, may be yet, or are others' business, are let alone."""

import contextlib
from collections.abc import Iterator

import pytest

from hack.lab import Outcome, Pod
from kproxy.conntrack.flows import socket_address
from kproxy.conntrack.kernel import KernelConntrack
from kproxy.conntrack.looks import Look, looks
from kproxy.plan.model import Destination
from kproxy.state.model import IPFamily, Protocol
from tests.conntrack.kit import Client, add_unanswered, goes_to
from tests.kit.packets.conntrack import DNS, TARGET, Dns, Net, ip

pytestmark = [pytest.mark.kernel, pytest.mark.parametrize("family", list(IPFamily))]


@pytest.mark.usefixtures("silent")
def test_connection_to_an_endpoint_that_is_there_still_waits_on(net: Net, web: Dns, family: IPFamily) -> None:
    """Be it slow, be it leaving: it may answer yet."""
    client = Client(net.lab.pod("asking"), web, web.cluster_ips[family])
    web.put("silent")
    net.kproxy.sync()
    assert client.ask_in_vain() is Outcome.DROPPED
    before = net.entries(family, web.cluster_ips[family], DNS, web.protocol)
    assert len(before) == 1
    for change in (
        web.slices("silent", "there"),
        web.slices("silent", "there", leaving=["silent"], ready=False, serving=True, terminating=True),
        web.slices("silent", leaving=["silent"], ready=False, serving=True, terminating=True),
        [web.service(sessionAffinity="ClientIP")],
    ):
        net.kproxy.put(*change)
        assert net.kproxy.sync() == 0
        assert net.kproxy.sync(everything=True) == 0
        assert net.entries(family, web.cluster_ips[family], DNS, web.protocol) == before


def test_established_connection_is_never_touched(net: Net, family: IPFamily) -> None:
    """Whatever becomes of its endpoint and its service."""
    web = Dns(net, "established", "TCP")
    address = web.cluster_ips[family]
    web.put("here-1")
    net.kproxy.sync()
    with net.lab.pod("asking").connect(address, DNS) as connection:
        assert connection.server == "here-1"
        before = net.entries(family, address, DNS, "TCP")
        for pods in ("there",), (), ("here-2", "there"):
            net.kproxy.put(*web.slices(*pods))
            assert net.kproxy.sync() == 0
            assert net.kproxy.sync(everything=True) == 0
        net.kproxy.delete(web.name)
        assert net.kproxy.sync() == 0
        assert connection.echo()
        assert [entry.id for entry in net.entries(family, address, DNS, "TCP")] == [entry.id for entry in before]


def test_what_has_been_answered_is_not_released(net: Net, web: Dns, family: IPFamily) -> None:
    address = web.cluster_ips[family]
    client = Client(net.lab.pod("asking"), web, address)
    web.put("here-1")
    net.kproxy.sync()
    assert client.answered_by() == "here-1"
    assert goes_to(net, web, family) == [ip(net.lab.pod("here-1"), family)]
    net.kproxy.put(*web.slices("there"))
    assert net.kproxy.sync() == 0
    assert net.kproxy.sync(everything=True) == 0


def test_what_is_answered_between_look_and_release_stays(net: Net, web: Dns, family: IPFamily, silent: Pod) -> None:
    """The answer comes after the kernel has told that there is none."""
    address = web.cluster_ips[family]
    two = [Client(net.lab.pod("asking"), web, address) for _ in range(2)]
    web.put("silent")
    net.kproxy.sync()
    assert [client.ask_in_vain() for client in two] == [Outcome.DROPPED] * 2
    protocol = Protocol(web.protocol.lower())
    (look,) = looks(family, {protocol: {Destination(address, DNS)}})
    with net.lab.node.namespace.entered(), KernelConntrack(family) as conntrack, talkative(silent, web):
        target = socket_address(ip(silent, family), TARGET)
        told = [flow for flow in conntrack.flows(look) if flow.answering == target]
        assert {flow.protocol for flow in told} == {protocol}
        assert len(told) == 2
        assert two[0].answered_by() == "silent"
        assert conntrack.release(told) == 1
        assert conntrack.release(told) == 0
        assert [flow for flow in conntrack.flows(look) if flow.answering == target] == []
        assert goes_to(net, web, family) == [ip(silent, family)]


@contextlib.contextmanager
def talkative(silent: Pod, web: Dns) -> Iterator[None]:
    """Within this block the silent pod answers."""
    programs = ("iptables-legacy", "ip6tables-legacy")
    rule = ["INPUT", "-p", web.protocol.lower(), "-j", "ACCEPT"]
    for program in programs:
        silent.run([program, "-I", *rule])
    with contextlib.closing(silent.serve(TARGET, web.protocol)):
        yield
    for program in programs:
        silent.run([program, "-D", *rule])


def test_connections_of_neighbours_are_not_touched(net: Net, web: Dns, family: IPFamily, silent: Pod) -> None:
    """A host port, a service of another proxy's, and straight to a pod: unanswered, and nobody's business."""
    other_service = net.new_addresses()[family]
    node, pod = ip(net.lab.node, family), ip(silent, family)
    target = f"{pod}:{TARGET}" if family is IPFamily.IPV4 else f"[{pod}]:{TARGET}"
    protocol = web.protocol.lower()
    rules = f"""\
*nat
-A PREROUTING -d {node} -p {protocol} --dport 9053 -j DNAT --to-destination {target}
-A PREROUTING -d {other_service} -p {protocol} --dport {DNS} -j DNAT --to-destination {target}
COMMIT
"""
    net.lab.node.iptables_restore(rules, family)
    asking = net.lab.pod("asking")
    places = [(net.lab.client, node, 9053), (asking, other_service, DNS), (asking, pod, TARGET), (asking, pod, DNS)]
    for who, address, port in places:
        assert Client(who, web, address, port).ask_in_vain() is Outcome.DROPPED
    before = [net.entries(family, address, port, web.protocol) for _, address, port in places]
    assert [len(entries) for entries in before] == [1, 1, 1, 1]
    for pods in ("here-1",), (), ("silent",), ("there",):
        web.put(*pods)
        assert net.kproxy.sync() == 0
        assert net.kproxy.sync(everything=True) == 0
    net.kproxy.delete(web.name)
    assert net.restart().sync() == 0
    assert [net.entries(family, address, port, web.protocol) for _, address, port in places] == before
    net.lab.node.iptables_restore(rules.replace("-A ", "-D "), family)


def test_connections_in_a_zone_of_their_own_are_not_touched(net: Net, web: Dns, family: IPFamily) -> None:
    web.put("here-1")
    net.kproxy.sync()
    address = web.cluster_ips[family]
    add_unanswered(net, web, family, address, zone=7)
    before = net.entries(family, address, DNS, web.protocol)
    assert len(before) == 1
    assert net.kproxy.sync(everything=True) == 0
    assert net.entries(family, address, DNS, web.protocol) == before


def test_look_without_an_answer_tells_of_connections_alone(net: Net, web: Dns, family: IPFamily) -> None:
    address = web.cluster_ips[family]
    web.put("here-1")
    net.kproxy.sync()
    assert Client(net.lab.pod("asking"), web, address).answered_by() == "here-1"
    add_unanswered(net, web, family, address, number=2)
    protocol, place = Protocol(web.protocol.lower()), socket_address(address, DNS)
    with net.lab.node.namespace.entered(), KernelConntrack(family) as conntrack:
        for look in Look((Protocol.SCTP, Protocol.TCP)), Look((protocol,)), Look((protocol,), None, DNS):
            assert look.unanswered
            told = [flow for flow in conntrack.flows(look) if flow.destination == place]
            assert [flow.protocol for flow in told] == [protocol, protocol]
        assert conntrack.release(told) == 2
