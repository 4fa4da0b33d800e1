"""What people and programs are told of a connection: the document of ``kproxy explain -o json``, field by field."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from kproxy.backends.packet import DROPPED, REFUSED, UNTOUCHED, Outcome, PacketState
from kproxy.explain.answer import Kernel, explain
from kproxy.explain.model import EXIT_CODES, Answer, Verdict
from kproxy.explain.question import ask
from kproxy.state.model import IPFamily, endpoint_text
from tests.explain.test_decision import MODES, views
from tests.flows.scenarios import Flow, Scenario, read_scenarios, scenarios
from tests.kit.yaml_text import to_yaml

_VERDICTS = {REFUSED: Verdict.REJECT, DROPPED: Verdict.DROP, UNTOUCHED: Verdict.NONE}


def scenario(folder: Path, **said: Any) -> Scenario:
    """Make a scenario of the table's language by itself."""
    path = folder / "one.yaml"
    path.write_text(to_yaml([{"scenario": "one", "families": ["ipv4"], "flows": [], **said}]))
    return next(read_scenarios(path))


def answer(told: Scenario, text: str, *, mode: str = "iptables", **asked: str) -> Answer:
    return explain([views(told, mode)(IPFamily.IPV4)], ask(text, **asked))


WEB = {"clusterIP": "10.96.0.80", "ports": [{"name": "http", "port": 80}]}
TWO = [{"ip": "10.244.0.11", "node": "node-a"}, {"ip": "10.244.1.12", "node": "node-b"}]


def shop(folder: Path, endpoints: list[dict[str, Any]] = TWO, port: str = "http", **spec: Any) -> Scenario:
    slices = {"web": {"ports": [{"name": port, "port": 8080}], "endpoints": endpoints}}
    return scenario(folder, services={"web": {**WEB, **spec}}, slices=slices)


# --- as the table of flows says --------------------------------------------------------------------------------------


def explainable(one: Scenario) -> Iterator[Flow]:
    """New connections of clients that affinity remembers nothing of, through a firewall of which nothing is known."""
    world = one.world()
    if not (world.forward_accept and world.input_accept):
        return
    yield from (flow for flow in one.flows if flow.packet.state is PacketState.NEW and flow.after is None)


def interface_of(flow: Flow) -> Callable[[str], str | None]:
    return lambda _: flow.packet.in_interface or None


def masquerade(flow: Flow, wanted: tuple[Outcome, ...]) -> bool | str:
    """Return what the whole of a flow's outcomes is called."""
    masqueraded = [outcome.to for outcome in wanted if outcome.masqueraded]
    if len(masqueraded) == len(wanted):
        return True
    to_itself = [to for to in masqueraded if to.strip("[").startswith(flow.packet.source)]
    return bool(masqueraded) and (to_itself != masqueraded or "hairpin")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("one", scenarios(), ids=str)
def test_every_flow_of_the_table(one: Scenario, mode: str) -> None:
    view_for = views(one, mode)
    for flow in explainable(one):
        packet = flow.packet
        text = endpoint_text(packet.destination, packet.port)
        view = view_for(flow.family)
        kernel = Kernel(interface_of=interface_of(flow))
        found = explain([view], ask(text, sender=packet.source, protocol=packet.protocol), kernel)
        wanted = flow.wanted(mode)
        if wanted[0].to in _VERDICTS:
            assert found.verdict is _VERDICTS[wanted[0].to], flow.text
            assert all(endpoint.share == 0 and endpoint.reason for endpoint in found.endpoints), flow.text
            continue
        assert found.verdict is Verdict.FORWARD, flow.text
        share = round(float(Fraction(1, len(wanted))), 9)
        shares = {(one.address, one.masquerade): one.share for one in found.endpoints if one.share}
        assert shares == {(outcome.to, outcome.masqueraded): share for outcome in wanted}, flow.text
        assert found.masquerade == masquerade(flow, wanted), flow.text
        assert all(endpoint.reason for endpoint in found.endpoints if not endpoint.share), flow.text


# --- endpoints -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "spec", "why"),
    [
        ({"ready": False}, {}, "not ready"),
        ({"ready": False, "serving": True, "terminating": True}, {}, "terminating, while others are ready"),
        ({"ready": False, "serving": False, "terminating": True}, {}, "terminating, and no longer serving"),
        ({}, {"internalTrafficPolicy": "Local"}, "on another node, and the traffic policy is Local"),
    ],
)
def test_why_an_endpoint_gets_nothing(tmp_path: Path, endpoint: dict[str, Any], spec: Any, why: str) -> None:
    here, there = TWO
    found = answer(shop(tmp_path, [here, {**there, **endpoint}], **spec), "shop/web")
    assert [(one.address, one.share, one.reason) for one in found.endpoints] == [
        ("10.244.0.11:8080", 1.0, None),
        ("10.244.1.12:8080", 0.0, why),
    ]


def test_an_endpoint_of_another_zone(tmp_path: Path) -> None:
    here, there = TWO
    hinted = [{**here, "zones": ["zone-a"]}, {**there, "zones": ["zone-b"]}]
    told = scenario(
        tmp_path,
        node={"zone": "zone-a"},
        services={"web": WEB},
        slices={"web": {"ports": [{"name": "http", "port": 8080}], "endpoints": hinted}},
    )
    found = answer(told, "shop/web")
    assert "topology hints" in found.reason
    assert [one.reason for one in found.endpoints] == [None, "meant for another zone, by its topology hint"]


def test_a_slice_whose_port_has_another_name(tmp_path: Path) -> None:
    found = answer(shop(tmp_path, port="web"), "shop/web")
    assert found.verdict is Verdict.REJECT
    assert "no port named 'http' (TCP), they have 'web' (TCP)" in found.reason
    assert {one.reason for one in found.endpoints} == {"its port is named 'web' (TCP), the Service's 'http' (TCP)"}


def test_no_slice_at_all(tmp_path: Path) -> None:
    found = answer(scenario(tmp_path, services={"web": WEB}), "shop/web")
    assert found.verdict is Verdict.REJECT
    assert "no EndpointSlice belongs to it" in found.reason


# --- verdicts --------------------------------------------------------------------------------------------------------


def test_a_source_range_keeps_others_out(tmp_path: Path) -> None:
    told = shop(
        tmp_path,
        type="LoadBalancer",
        loadBalancerSourceRanges=["192.0.2.128/25"],
        loadBalancer=[{"ip": "203.0.113.10"}],
    )
    found = answer(told, "203.0.113.10:80", sender="192.0.2.7")
    assert found.verdict is Verdict.DROP
    assert "192.0.2.128/25" in found.reason
    assert answer(told, "203.0.113.10:80", sender="192.0.2.200").verdict is Verdict.FORWARD


def test_who_connects(tmp_path: Path) -> None:
    told = shop(tmp_path)
    assert (answer(told, "shop/web").sender, answer(told, "shop/web").masquerade) == ("pod", "hairpin")
    assert answer(told, "shop/web", sender="outside").masquerade is True
    node = answer(told, "shop/web", sender="node")
    assert (node.source, node.masquerade) == ("10.0.0.1", True)


@pytest.mark.parametrize(
    "text", ["shop/web", "shop/web:http", "shop/web:80", "web.shop.svc", "web.shop.svc.cluster.local:http"]
)
def test_ways_to_name_a_service(tmp_path: Path, text: str) -> None:
    found = answer(shop(tmp_path), text)
    assert (found.service, found.address, found.verdict) == ("shop/web:http", "10.96.0.80:80", Verdict.FORWARD)


def test_a_node_port_by_itself(tmp_path: Path) -> None:
    told = shop(tmp_path, type="NodePort", ports=[{"name": "http", "port": 80, "nodePort": 30080}])
    found = answer(told, ":30080", sender="outside")
    assert (found.address, found.frontend and found.frontend.kind) == ("10.0.0.1:30080", "node port")


def test_a_name_means_its_port_s_protocol(tmp_path: Path) -> None:
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}]
    told = scenario(tmp_path, services={"dns": {"clusterIP": "10.96.0.10", "ports": ports}})
    assert answer(told, "shop/dns:dns").protocol == "udp"
    assert answer(told, "shop/dns:53", protocol="tcp").service == "shop/dns:dns-tcp"
    assert answer(told, "shop/dns").notes == ("shop/dns has other ports, too: dns-tcp (53/TCP)",)


def test_a_name_alone_means_the_first_port_of_the_spec(tmp_path: Path) -> None:
    ports = [{"name": "web", "port": 80}, {"name": "admin", "port": 8080}]
    told = scenario(tmp_path, services={"web": {"clusterIP": "10.96.0.10", "ports": ports}})
    assert answer(told, "shop/web").service == "shop/web:web"


def test_an_endpoint_that_is_sent_to_itself(tmp_path: Path) -> None:
    alone = answer(shop(tmp_path, [TWO[0]]), "shop/web", sender="10.244.0.11")
    assert alone.masquerade is True
    assert alone.masquerade_reason == "an endpoint that is sent to itself must see another address than its own"
    assert answer(shop(tmp_path), "shop/web", sender="10.244.0.11").masquerade == "hairpin"


def test_localhost_is_whoever_says_it(tmp_path: Path) -> None:
    told = shop(tmp_path, type="NodePort", ports=[{"name": "http", "port": 80, "nodePort": 30080}])
    (note,) = answer(told, "127.0.0.1:30080").notes
    assert note.endswith("(--from node)")
    assert answer(told, "127.0.0.1:30080", sender="node").notes == ()


def test_endpoints_in_turn(tmp_path: Path) -> None:
    told = shop(tmp_path, annotations={"kproxy.dev/load-balancing": "round-robin"})
    assert answer(told, "shop/web").balancing == "in turn"
    assert answer(shop(tmp_path), "shop/web").balancing == "at random"


# --- near misses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "asked", "near"),
    [
        ("10.96.0.80:81", {}, "10.96.0.80 is shop/web, which has no port 81; it has 80/TCP http"),
        ("10.96.0.80:80", {"protocol": "udp"}, "10.96.0.80 is shop/web, which has no port 80/UDP; it has 80/TCP http "
         "(--protocol tcp)"),
        (":30080", {"protocol": "udp"}, "30080/TCP is the node port of shop/web:http; node ports answer at all "
         "addresses of this node (--protocol tcp)"),
        ("shop/web", {"protocol": "udp"}, "shop/web has 80/TCP http"),
        ("shop/web:81", {}, "shop/web has no port '81'; it has 80/TCP http"),
        ("shop/wbe", {}, "there is shop/web"),
        ("store/web", {}, "there is shop/web"),
        ("shpo/wbe", {}, "there is shop/web"),
        ("10.244.0.11:8080", {}, "10.244.0.11:8080 is an endpoint of shop/web:http: who connects to it directly passes "
         "no Service"),
        ("10.244.0.11:80", {}, "10.244.0.11 is an endpoint of shop/web:http, at port 8080"),
        ("10.0.0.9:30080", {}, "30080/TCP is the node port of shop/web:http; node ports answer at all addresses of "
         "this node"),
    ],
)  # fmt: skip
def test_what_may_have_been_meant(tmp_path: Path, text: str, asked: dict[str, str], near: str) -> None:
    told = shop(tmp_path, type="NodePort", ports=[{"name": "http", "port": 80, "nodePort": 30080}])
    found = answer(told, text, **asked)
    assert found.verdict is Verdict.NONE
    assert EXIT_CODES[found.verdict] == 4
    assert near in found.near


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"clusterIP": "None"}, "it is headless"),
        ({"type": "ExternalName", "externalName": "example.com"}, "it is of type ExternalName"),
        ({"labels": {"service.kubernetes.io/service-proxy-name": "other"}}, "another proxy takes care of it"),
    ],
)
def test_services_that_no_proxy_serves(tmp_path: Path, spec: dict[str, Any], why: str) -> None:
    found = answer(shop(tmp_path, **spec), "shop/web")
    assert (found.verdict, len(found.near)) == (Verdict.NONE, 1)
    assert why in found.near[0]
