"""What is wrong with a node is told by a table of checks: once, when it becomes so."""

import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kproxy.api.types import Node
from kproxy.config import ProxyMode
from kproxy.node import survey
from kproxy.node.facts import node_facts, problems_of
from kproxy.node.problems import Seen, View, problems, reasons
from kproxy.plan.settings import PRIMARY, DetectLocalMode, NodeFacts, ProxySettings
from kproxy.report.events import EventRecorder
from kproxy.report.metrics import Metrics
from kproxy.report.node import NodeReporter
from kproxy.state.model import IPFamily
from tests.kit.apiserver.objects import make_node
from tests.kit.logged import Logged

V4, V6 = IPFamily.IPV4, IPFamily.IPV6
FACTS = NodeFacts(name="node-a", ips={V4: "10.0.0.1"}, pod_cidrs={V4: "10.244.0.0/24"})
SETTINGS = ProxySettings(cluster_cidrs={V4: "10.244.0.0/16"})
SEEN = Seen(
    interfaces=frozenset({"lo", "eth0", "cni0", "veth1"}),
    forwarding={V4: True, V6: False},
    bridge_netfilter={V4: True, V6: False},
    open_files=1024,
)
WELL = View(settings=SETTINGS, facts=FACTS, seen=SEEN)
DUAL = {V4: "10.0.0.1", V6: "fd00:a::1"}


def view(settings: Any = None, facts: Any = None, seen: Any = None, **more: Any) -> View:
    replace = msgspec.structs.replace
    return View(
        settings=replace(SETTINGS, **settings or {}),
        facts=replace(FACTS, **facts or {}),
        seen=replace(SEEN, **seen or {}),
        **more,
    )


def mode(mode: DetectLocalMode, **more: str) -> dict[str, Any]:
    return {"detect_local_mode": mode, "cluster_cidrs": {}, **more}


BRIDGE, PREFIX = DetectLocalMode.BRIDGE_INTERFACE, DetectLocalMode.INTERFACE_NAME_PREFIX
ILL: dict[str, tuple[View, str, str]] = {
    "no Node object": (view(node_missing=True), "NoNodeObject", "'node-a'"),
    "no address for node ports": (
        view({"node_port_addresses": (PRIMARY,)}, {"ips": {}}),
        "NoNodeIP",
        "bindAddress",
    ),
    "clusterCIDR empty": (view({"cluster_cidrs": {}}), "NoClusterCIDR", "clusterCIDR is empty"),
    "clusterCIDR of one family": (
        view(None, {"ips": DUAL}, {"forwarding": {}, "bridge_netfilter": {}}),
        "NoClusterCIDR",
        "no IPv6 range",
    ),
    "NodeCIDR without podCIDRs": (
        view(mode(DetectLocalMode.NODE_CIDR), {"pod_cidrs": {}}),
        "NoPodCIDR",
        "--allocate-node-cidrs",
    ),
    "no such bridge": (view(mode(BRIDGE, bridge_interface="br0")), "NoBridge", "'br0'"),
    "no such prefix": (view(mode(PREFIX, interface_name_prefix="cali")), "NoPodInterface", "'cali'"),
    "ip_forward 0": (view(None, None, {"forwarding": {V4: False}}), "ForwardingOff", "net.ipv4.ip_forward=1"),
    "forwarding of IPv6": (
        view({"cluster_cidrs": {V4: "10.0.0.0/8", V6: "fd00::/8"}}, None, {"bridge_netfilter": {}}),
        "ForwardingOff",
        "sysctl -w net.ipv6.conf.all.forwarding=1",
    ),
    "br_netfilter off": (
        view(None, None, {"bridge_netfilter": {V4: False}}),
        "BridgeNetfilterOff",
        "net.bridge.bridge-nf-call-iptables=1",
    ),
    "no nf_conntrack": (view(None, None, {"conntrack": False}), "NoConntrack", "modprobe nf_conntrack"),
    "kube-proxy's table": (view(None, None, {"kube_proxy_table": True}), "KubeProxyTableLeft", "kube-proxy --cleanup"),
    "kube-ipvs0": (
        view(None, None, {"interfaces": frozenset({"lo", "kube-ipvs0"})}),
        "KubeProxyIPVSLeft",
        "ip link delete kube-ipvs0",
    ),
    "a low limit": (view(None, None, {"open_files": 64}), "FewDescriptors", "limit on open files is 64"),
    "ports without descriptors": (
        view(None, None, {"ports_without_descriptor": 110}),
        "FewDescriptors",
        "110 health-check node ports",
    ),
}


def test_a_node_that_is_well_has_no_problem() -> None:
    assert problems(WELL) == {}
    assert problems(view(None, None, {"interfaces": None, "open_files": None})) == {}


@pytest.mark.parametrize("case", list(ILL))
def test_what_is_wrong_is_named_with_its_remedy(case: str) -> None:
    seen, reason, words = ILL[case]
    found = problems(seen)
    assert list(found) == [reason]
    assert words in found[reason]
    assert "\n" not in found[reason]


def test_what_goes_by_the_node_object_waits_for_it() -> None:
    early = {reason for seen, reason, _ in ILL.values() if problems(msgspec.structs.replace(seen, settled=False))}
    assert early == set(reasons()) - {
        *("NoNodeObject", "NoNodeIP", "NoClusterCIDR", "NoPodCIDR", "ForwardingOff", "BridgeNetfilterOff")
    }


def test_each_reason_occurs() -> None:
    assert {reason for _, reason, _ in ILL.values()} == set(reasons())


@pytest.mark.parametrize(
    "well",
    [
        view(mode(BRIDGE, bridge_interface="cni0")),
        view(mode(PREFIX, interface_name_prefix="veth")),
        view(mode(DetectLocalMode.NODE_CIDR)),
        view(None, None, {"forwarding": {V4: None}, "bridge_netfilter": {V4: None}}),
    ],
)
def test_what_is_as_the_settings_say_is_no_problem(well: View) -> None:
    assert problems(well) == {}


class Made:
    """A reporter with all its surroundings made up."""

    def __init__(self) -> None:
        self.now = 0.0
        self.found: View = WELL
        self.posted: list[bytes] = []
        self.metrics = Metrics(ProxyMode.IPTABLES)
        self.gone: list[str] = []
        self.events = EventRecorder(self.post, "node-a")
        self.reporter = NodeReporter(self, self.metrics, self.events, gone=self.gone.append, clock=lambda: self.now)

        self.looks = 0

    def post(self, _: str, body: bytes) -> bytes:
        self.posted.append(body)
        return b""

    def node_changed(self, node: Node | None) -> None:
        """See `kproxy.report.node.Viewer`."""

    def view(self) -> View:
        self.looks += 1
        return self.found

    def sees(self, found: View) -> None:
        self.found = found
        self.now += 60
        self.reporter.idle()

    def metric(self, reason: str) -> float:
        text = self.metrics.exposition().decode()
        return float(text.partition(f'kproxy_node_problem{{reason="{reason}"}} ')[2].split()[0])


def test_a_problem_is_told_once_when_it_becomes_so_and_when_it_ends(logged: Logged) -> None:
    logged.hear_from(logging.INFO, "kproxy")
    made = Made()
    with made.events.running():
        made.sees(WELL)
        assert made.metric("ForwardingOff") == 0
        ill = ILL["ip_forward 0"][0]
        for _ in range(3):
            made.sees(ill)
        assert made.metric("ForwardingOff") == 1
        assert [record.levelname for record in logged.records] == ["WARNING"]
        made.sees(WELL)
    assert made.metric("ForwardingOff") == 0
    assert made.gone == ["ForwardingOff"]
    assert logged.messages[-1] == "a problem of the node is gone"
    (event,) = map(msgspec.json.decode, made.posted)
    assert (event["reason"], event["type"], event["regarding"]["kind"]) == ("ForwardingOff", "Warning", "Node")
    assert "net.ipv4.ip_forward=1" in event["note"]


def test_looking_is_cheap_and_rare() -> None:
    made = Made()
    for _ in range(100):
        made.now += 0.1
        made.reporter.idle()
    assert made.looks <= 3


def test_the_survey_reads_what_is_there(tmp_path: Path) -> None:
    for path, text in {
        "ipv4/ip_forward": "0",
        "ipv6/conf/all/forwarding": "1",
        "bridge/bridge-nf-call-iptables": "0",
        "netfilter/nf_conntrack_max": "9",
    }.items():
        file = tmp_path / "proc/sys/net" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    seen = survey.look(root=tmp_path)
    assert seen.forwarding == {V4: False, V6: True}
    assert seen.bridge_netfilter == {V4: False, V6: None}
    assert seen.conntrack
    assert "lo" in (seen.interfaces or ())
    assert not survey.look(root=tmp_path / "nowhere").conntrack


def node(**more: Any) -> Node:
    return msgspec.convert(make_node("node-a", **more), Node)


def test_bad_addresses_and_ranges_of_the_node_are_named() -> None:
    lines = [
        str(problem) for problem in problems_of(node(addresses=["10.0.0.1", "nonsense"], pod_cidrs=["10.244.0.0"]))
    ]
    assert lines == [
        "Node node-a: status.addresses[1].address: 'nonsense': not an IP address; it is left out",
        "Node node-a: spec.podCIDRs[0]: '10.244.0.0': not a CIDR such as 192.0.2.0/24; it is left out",
    ]
    assert problems_of(node(addresses=["10.0.0.1"], pod_cidrs=["10.244.0.0/24"])) == ()


@pytest.mark.parametrize(
    ("reported", "bind", "told", "ips"),
    [
        (["10.0.0.1", "fd00:a::1"], "0.0.0.0", [], DUAL),
        (["10.0.0.1", "fd00:a::1"], "::", [], DUAL),
        (["10.0.0.1", "fd00:a::1"], "10.9.9.9", [], {V4: "10.9.9.9", V6: "fd00:a::1"}),
        (["10.0.0.1", "fd00:a::1"], "fd00:9::9", [], {V4: "10.0.0.1", V6: "fd00:9::9"}),
        ([], "10.9.9.9", [], {V4: "10.9.9.9"}),
        (["10.0.0.1"], "127.0.0.1", [], {V4: "10.0.0.1"}),
        (["10.0.0.1"], "10.9.9.9", ["10.8.8.8"], {V4: "10.8.8.8"}),
        (["10.0.0.1"], "", [], {V4: "10.0.0.1"}),
    ],
)
def test_which_address_is_the_nodes(reported: list[str], bind: str, told: list[str], ips: dict[IPFamily, str]) -> None:
    """kube-proxy's order: bindAddress before the Node object, in its own family."""
    found = node_facts("node-a", node(addresses=reported) if reported else None, node_ips=told, bind_address=bind)
    assert found.ips == ips
