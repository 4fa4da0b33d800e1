"""One kproxy after the other on a node of the lab, driven by hand, with clients that keep their ports."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import pytest
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket

from hack.lab import Answer, Flow, Lab, Outcome, Pod
from hack.lab.hosts import Host
from kproxy.api.types import EndpointSlice, Node, ObjectKey, Service
from kproxy.backends.iptables.backend import IptablesBackend
from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.kernel.legacy.applier import LegacyApplier
from kproxy.backends.iptables.kernel.legacy.entry import entry_layout
from kproxy.backends.iptables.kernel.legacy.image import TableImage
from kproxy.backends.iptables.kernel.legacy.lock import XtablesLock
from kproxy.backends.iptables.kernel.legacy.served import destinations_in_entries
from kproxy.backends.iptables.kernel.legacy.tableinfo import TableReader
from kproxy.backends.iptables.rules.served import is_list
from kproxy.conntrack.flows import PROTOCOL_NUMBERS
from kproxy.conntrack.message import LAYOUTS
from kproxy.conntrack.reconciler import Reconciler
from kproxy.node.facts import node_facts
from kproxy.plan.model import Destination
from kproxy.plan.planner import Planner
from kproxy.plan.settings import ProxySettings
from kproxy.state.model import IPFamily, Protocol
from kproxy.state.tracker import Tracker
from tests.kit.apiserver.objects import endpoint, make_node, make_service, make_slice, service_port, slice_port

FAMILIES = list(IPFamily)
DNS, TARGET = 53, 8080
NOBODY = {Outcome.DROPPED, Outcome.UNREACHABLE}
SILENCE = 0.1
"""Seconds without a word that count as a drop: a hundred times as long as an answer takes."""
PATIENCE = 30.0
"""Seconds for an answer that must come; a machine under load may take its time."""
SETTINGS = ProxySettings(cluster_cidrs={IPFamily.IPV4: "10.244.0.0/16", IPFamily.IPV6: "fd00:244::/56"})
NODE = msgspec.convert(make_node("node-a", addresses=["10.0.0.1", "fd00:a::1"]), Node)

source_ports = itertools.count(40000)
_node_ports = itertools.count(30000)


class Entry(NamedTuple):
    """A conntrack entry as pyroute2 reads it: independent of what is tested."""

    goes_to: str
    id: int
    packets: int
    """How many it has counted: ids return, counters of a new entry begin anew."""


class Kproxy:
    """State, plan, rules and conntrack of one run of kproxy on node-a. Making another one is a restart."""

    def __init__(self, lab: Lab, layout: Layout | None = None) -> None:
        self.lab = lab
        facts = node_facts("node-a", NODE)
        lock = XtablesLock(lab.node.xtables_lock)
        with lab.node.namespace.entered():
            self.appliers = {family: LegacyApplier(family, lock) for family in FAMILIES}
        self.backends = {family: IptablesBackend(family, self.appliers[family], layout) for family in FAMILIES}
        self.trackers = {family: Tracker(family, "node-a") for family in FAMILIES}
        self.planners = {family: Planner(SETTINGS, facts, self.trackers[family]) for family in FAMILIES}
        self.reconciler = Reconciler()
        self.first = True

    def put(self, *objects: dict[str, Any]) -> None:
        for raw in objects:
            for tracker in self.trackers.values():
                if raw["kind"] == "Service":
                    change = tracker.update_service(msgspec.convert(raw, Service))
                else:
                    change = tracker.update_slice(msgspec.convert(raw, EndpointSlice))
                assert change.problems == ()

    def delete(self, name: str) -> None:
        for tracker in self.trackers.values():
            tracker.delete_service(ObjectKey("default", name))
            for version in ("v4", "v6"):
                tracker.delete_slice(ObjectKey("default", f"{name}-{version}"))

    def sync(self, *, everything: bool = False) -> int:
        """Bring rules and conntrack in line; return how many flows were released."""
        released = 0
        with self.lab.node.namespace.entered():
            for family in FAMILIES:
                if self.first:
                    self.reconciler.remember(family, served(family))
                pending = frozenset(self.trackers[family].pending)
                changed = self.planners[family].update(pending)
                self.trackers[family].applied(pending)
                plan = self.planners[family].plan
                self.backends[family].apply(plan, changed, full=self.first or everything)
                released += self.reconciler.reconcile(plan, None if everything else changed) or 0
        self.first = False
        return released

    def close(self) -> None:
        for applier in self.appliers.values():
            applier.close()


def served(family: IPFamily) -> set[Destination]:
    """What the rules of the calling thread's namespace serve over UDP."""
    layout = entry_layout(family)
    reader = TableReader(layout)
    image = TableImage(layout, *reader.read("nat"))
    reader.close()
    lists = [chain for chain in image.chains if is_list(chain)]
    return {found for chain in lists for found in destinations_in_entries(layout, image.entries(chain))}


class Net:
    """The lab with some pods, and one kproxy after the other on node-a."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.kproxy = Kproxy(lab)
        self._numbers = itertools.count(100)

    def restart(self, layout: Layout | None = None) -> Kproxy:
        self.kproxy.close()
        self.kproxy = Kproxy(self.lab, layout)
        return self.kproxy

    def new_addresses(self) -> dict[IPFamily, str]:
        number = next(self._numbers)
        v4 = f"10.96.{number // 256}.{number % 256}"
        return {IPFamily.IPV4: v4, IPFamily.IPV6: f"fd00:10:96::{number}"}

    def flow(self, who: Host, address: str, port: int = DNS) -> Flow:
        return who.flow(address, port, source_port=next(source_ports))

    def entries(
        self, family: IPFamily, address: str, port: int = DNS, protocol: str = "UDP", *, source_port: int | None = None
    ) -> list[Entry]:
        """The node's conntrack entries of flows to an address, of all clients or those from one port."""
        found = []
        address_family = LAYOUTS[family].address_family
        wanted = NFCTAttrTuple(family=address_family, proto=PROTOCOL_NUMBERS[Protocol(protocol.lower())], dport=port)
        with self.lab.node.namespace.entered(), NFCTSocket(address_family) as sock:
            for message in sock.dump(tuple_orig=wanted):
                original = NFCTAttrTuple.from_netlink(address_family, message.get_attr("CTA_TUPLE_ORIG"))
                reply = NFCTAttrTuple.from_netlink(address_family, message.get_attr("CTA_TUPLE_REPLY"))
                ports = message.get_attr("CTA_TUPLE_ORIG").get_attr("CTA_TUPLE_PROTO")  # of SCTP, it does not tell
                if source_port not in (None, ports.get_attr("CTA_PROTO_SRC_PORT")):
                    continue
                if (original.daddr, ports.get_attr("CTA_PROTO_DST_PORT")) == (address, port):
                    packets = message.get_attr("CTA_COUNTERS_ORIG").get_attr("CTA_COUNTERS_PACKETS")
                    found.append(Entry(reply.saddr, message.get_attr("CTA_ID"), packets))
        return found


def udp_flows_to(node: Host, server: str) -> int:
    """How many UDP flows a node remembers that lead to a server, given by its address."""
    family = IPFamily.IPV6 if ":" in server else IPFamily.IPV4
    address_family = LAYOUTS[family].address_family
    with node.namespace.entered(), NFCTSocket(address_family) as sock:
        wanted = NFCTAttrTuple(family=address_family, proto=PROTOCOL_NUMBERS[Protocol.UDP])
        replies = (message.get_attr("CTA_TUPLE_REPLY") for message in sock.dump(tuple_orig=wanted))
        return sum(NFCTAttrTuple.from_netlink(address_family, reply).saddr == server for reply in replies)


class Dns:
    """A service of the test at hand, of UDP if nothing else is said, with addresses of both families."""

    def __init__(self, net: Net, name: str, protocol: str = "UDP") -> None:
        self.net = net
        self.protocol = protocol
        self.name = name
        self.cluster_ips = net.new_addresses()
        self.node_port = next(_node_ports)

    def service(self, port: int = DNS, *, kind: str = "ClusterIP", vip: str = "", **spec: Any) -> dict[str, Any]:
        return make_service(
            self.name,
            cluster_ip=list(self.cluster_ips.values()),
            type=kind,
            ports=[
                service_port(port, protocol=self.protocol, node_port=self.node_port if kind == "NodePort" else None)
            ],
            spec=spec,
            status={"loadBalancer": {"ingress": [{"ip": vip, "ipMode": "VIP"}]}} if vip else None,
        )

    def slices(
        self, *pods: str, port: int = TARGET, leaving: Sequence[str] = (), **conditions: bool
    ) -> Iterator[dict[str, Any]]:
        """Yield a slice for each family; the pods in ``leaving`` are in these conditions, the others are ready."""
        for version, attribute in (("v4", "ip"), ("v6", "ip6")):
            entries = []
            for name in pods:
                pod = self.net.lab.pod(name)
                these: dict[str, Any] = conditions if name in leaving else {}
                entries.append(endpoint(getattr(pod, attribute), node=pod.node.name, **these))
            yield make_slice(
                self.name,
                name=f"{self.name}-{version}",
                endpoints=entries,
                address_type=f"IP{version}",
                ports=[slice_port(port, protocol=self.protocol)],
            )

    def put(self, *pods: str) -> None:
        self.net.kproxy.put(self.service(), *self.slices(*pods))


@pytest.fixture(scope="module")
def net(lab: Lab) -> Iterator[Net]:
    """here-1, here-2 and asking are pods on node-a, there is one on node-b."""
    for name, node in (("here-1", "node-a"), ("here-2", "node-a"), ("there", "node-b"), ("asking", "node-a")):
        pod = lab.add_pod(name, node)
        for protocol in ("UDP", "TCP", "SCTP"):
            pod.serve(TARGET, protocol)
            pod.serve(TARGET + 1, protocol, name=f"{name}-moved")
    lab.node.namespace.sysctl("net.netfilter.nf_conntrack_acct", 1)
    # What an unanswered INIT is remembered for is only 3 seconds by default, and would be over by itself.
    lab.node.namespace.sysctl("net.netfilter.nf_conntrack_sctp_timeout_cookie_wait", 120)
    made = Net(lab)
    made.kproxy.sync()
    yield made
    made.kproxy.close()


def mute(lab: Lab, name: str) -> Pod:
    """Add a pod on node-a that is there and never says a word."""
    pod = lab.add_pod(name)
    for program in ("iptables-legacy", "ip6tables-legacy"):
        for protocol in ("tcp", "sctp"):
            pod.run([program, "-A", "INPUT", "-p", protocol, "-j", "DROP"])
    return pod


@pytest.fixture
def dns(net: Net, request: pytest.FixtureRequest) -> Iterator[Dns]:
    """A service that is deleted after the test."""
    made = Dns(net, _name_after(request))
    yield made
    net.kproxy.delete(made.name)
    net.kproxy.sync()


@pytest.fixture(params=["TCP", "SCTP"])
def web(net: Net, request: pytest.FixtureRequest) -> Iterator[Dns]:
    """A service of a protocol with connections that is deleted after the test."""
    made = Dns(net, _name_after(request), request.param)
    yield made
    net.kproxy.delete(made.name)
    net.kproxy.sync()


def _name_after(request: pytest.FixtureRequest) -> str:
    words = "".join(letter if letter.isalnum() else "-" for letter in request.node.name.lower())
    return words[-50:].strip("-")


def ip(host: Host, family: IPFamily) -> str:
    return host.ip if family is IPFamily.IPV4 else host.ip6


def answers(flow: Flow, timeout: float = PATIENCE) -> Answer:
    """Ask twice: what comes back must not be about one packet. See `silence` for where nothing should."""
    first, second = flow.ask(timeout), flow.ask(timeout)
    assert (first.outcome, first.server) == (second.outcome, second.server)
    return second


def silence(flow: Flow) -> Answer:
    """Ask twice where nobody should answer."""
    return answers(flow, 5 * SILENCE)
