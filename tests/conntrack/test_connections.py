"""Connections of TCP and SCTP that nobody answers are released when they lead nowhere; all others are let alone."""

import contextlib
from collections.abc import Iterator

import pytest
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket

from hack.lab import Answer, Lab, Outcome, Pod
from hack.lab.hosts import Host
from kproxy.conntrack.flows import PROTOCOL_NUMBERS, socket_address
from kproxy.conntrack.kernel import KernelConntrack
from kproxy.conntrack.looks import Look, looks
from kproxy.conntrack.message import LAYOUTS
from kproxy.plan.model import Destination
from kproxy.state.model import IPFamily, Protocol
from tests.kit.packets.conntrack import DNS, NOBODY, PATIENCE, SILENCE, TARGET, Dns, Net, ip, mute, source_ports

pytestmark = [pytest.mark.kernel, pytest.mark.parametrize("family", list(IPFamily))]


class Client:
    """Somebody who asks from the same port each time: to conntrack, as if the first packet came again."""

    def __init__(self, who: Host, web: Dns, address: str, port: int = DNS) -> None:
        self._who, self._web, self._to = who, web, (address, port)
        self.source_port = next(source_ports)

    def ask(self, timeout: float = SILENCE) -> Answer:
        return self._who.ask(*self._to, self._web.protocol, timeout=timeout, source_port=self.source_port)

    def answered_by(self) -> str:
        """Ask, and wait for as long as it takes: an answer may be late on a machine that has other things to do."""
        return self._who.ask(*self._to, self._web.protocol, timeout=PATIENCE, source_port=self.source_port).server


@pytest.fixture(scope="module")
def silent(lab: Lab, net: Net) -> Pod:
    assert net.lab is lab
    return mute(lab, "silent")


def goes_to(net: Net, web: Dns, family: IPFamily) -> list[str]:
    """Where the connections to a service's ClusterIP go."""
    return [entry.goes_to for entry in net.entries(family, web.cluster_ips[family], DNS, web.protocol)]


# --- too early -----------------------------------------------------------------------------------------------------


def test_connection_from_before_the_service_finds_it(net: Net, web: Dns, family: IPFamily) -> None:
    address = web.cluster_ips[family]
    client = Client(net.lab.pod("asking"), web, address)
    assert client.ask().outcome in NOBODY
    assert goes_to(net, web, family) == [address], "masqueraded perhaps, but sent nowhere else"
    web.put("here-2")
    assert net.kproxy.sync() == 1
    assert client.answered_by() == "here-2"


def test_connection_from_the_node_itself_finds_it(net: Net, web: Dns, family: IPFamily) -> None:
    client = Client(net.lab.node, web, web.cluster_ips[family])
    assert client.ask().outcome in NOBODY
    web.put("there")
    assert net.kproxy.sync() == 1
    assert client.answered_by() == "there"


def test_connection_from_before_kproxy_finds_its_service(net: Net, web: Dns, family: IPFamily) -> None:
    """kproxy starts on a node that has been waiting for it."""
    client = Client(net.lab.pod("asking"), web, web.cluster_ips[family])
    assert client.ask().outcome in NOBODY
    net.restart()
    web.put("here-1")
    assert net.kproxy.sync() == 1
    assert client.answered_by() == "here-1"


def test_connection_from_a_gap_in_the_rules_finds_its_service(net: Net, web: Dns, family: IPFamily) -> None:
    web.put("here-1")
    net.kproxy.sync()
    net.lab.node.iptables_restore("*nat\n-F KUBE-SERVICES\nCOMMIT\n", family)
    client = Client(net.lab.pod("asking"), web, web.cluster_ips[family])
    assert client.ask().outcome in NOBODY
    assert net.kproxy.sync(everything=True) == 1
    assert client.answered_by() == "here-1"


def test_connection_from_before_a_service_without_endpoints_is_refused(net: Net, web: Dns, family: IPFamily) -> None:
    client = Client(net.lab.pod("asking"), web, web.cluster_ips[family])
    assert client.ask().outcome in NOBODY
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
    assert client.ask().outcome in NOBODY
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
    assert client.ask().outcome is Outcome.DROPPED
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
    assert client.ask().outcome is Outcome.DROPPED
    net.kproxy.put(*web.slices("there"))
    assert net.kproxy.sync() == 1
    assert client.answered_by() == "there"


@pytest.mark.usefixtures("silent")
def test_connection_to_the_last_endpoint_is_refused_once_it_goes(net: Net, web: Dns, family: IPFamily) -> None:
    client = Client(net.lab.pod("asking"), web, web.cluster_ips[family])
    web.put("silent")
    net.kproxy.sync()
    assert client.ask().outcome is Outcome.DROPPED
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
    assert client.ask().outcome is Outcome.DROPPED
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
    assert client.ask().outcome is Outcome.DROPPED
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
    assert client.ask().outcome is Outcome.DROPPED
    net.kproxy.delete(web.name)
    assert net.kproxy.sync() == 1
    assert client.ask().outcome in NOBODY
    assert goes_to(net, web, family) == [web.cluster_ips[family]]


# --- what stays ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("silent")
def test_connection_to_an_endpoint_that_is_there_still_waits_on(net: Net, web: Dns, family: IPFamily) -> None:
    """Be it slow, be it leaving: it may answer yet."""
    client = Client(net.lab.pod("asking"), web, web.cluster_ips[family])
    web.put("silent")
    net.kproxy.sync()
    assert client.ask().outcome is Outcome.DROPPED
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
    assert [client.ask().outcome for client in two] == [Outcome.DROPPED] * 2
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
        assert Client(who, web, address, port).ask().outcome is Outcome.DROPPED
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


def test_a_hundred_are_released_at_once(net: Net, web: Dns, family: IPFamily) -> None:
    web.put("here-1")
    net.kproxy.sync()
    address = web.cluster_ips[family]
    add_unanswered(net, web, family, address, number=100)
    assert len(net.entries(family, address, DNS, web.protocol)) == 100
    assert net.kproxy.sync(everything=True) == 100
    assert net.entries(family, address, DNS, web.protocol) == []


def add_unanswered(net: Net, web: Dns, family: IPFamily, address: str, *, number: int = 1, zone: int = 0) -> None:
    """Put connections into conntrack that lead to a pod which is no endpoint."""
    source, there = ip(net.lab.pod("asking"), family), ip(net.lab.pod("there"), family)
    address_family, protocol = LAYOUTS[family].address_family, PROTOCOL_NUMBERS[Protocol(web.protocol.lower())]
    with net.lab.node.namespace.entered(), NFCTSocket(address_family) as sock:
        for port in range(20000, 20000 + number):
            one_way = NFCTAttrTuple(address_family, source, address, protocol, port, DNS)
            back = NFCTAttrTuple(address_family, there, source, protocol, TARGET, port)
            more = {"zone": zone} if zone else {}
            sock.entry("add", timeout=60, tuple_orig=one_way, tuple_reply=back, **more)


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
