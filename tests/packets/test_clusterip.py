"""ClusterIPs, with packets: how connections spread, whom servers see, and what a Service without endpoints says."""

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import pytest

from hack.lab import Outcome
from hack.lab.addresses import Pair
from tests.kit.apiserver.objects import endpoint, make_service, make_slice, service_port, slice_port
from tests.kit.packets import (
    FAMILIES,
    PORT,
    PROTOCOLS,
    SILENCE,
    TARGET_PORT,
    Exposed,
    World,
    address,
    assert_all,
    assert_even,
    assert_refused,
    behind,
    bridge,
    cluster_ips,
    each_family,
    each_protocol,
    of,
    patience_for,
    service,
    slices,
)

pytestmark = pytest.mark.kernel

WEB = ("web-1", "web-2", "web-3")
TRIES = {"TCP": 900, "UDP": 900, "SCTP": 450}


@pytest.fixture(scope="module")
def shop(world: World) -> Exposed:
    return world.expose("shop", 10, [world.lab.pod(name) for name in WEB], protocols=PROTOCOLS)


# Where connections go.


@each_protocol
@each_family
def test_connections_spread_evenly_over_pods(world: World, shop: Exposed, family: str, protocol: str) -> None:
    tally = world.lab.pod("asker").ask_many(shop.ip(family), PORT, protocol, times=TRIES[protocol])
    assert not tally.failures
    assert_even(tally.servers, WEB)


@each_family
def test_an_address_in_two_slices_gets_one_share(world: World, family: str) -> None:
    one, two = world.lab.pod("web-1"), world.lab.pod("web-2")
    twice = world.expose("twice", 11, [one, two])
    again = [part | {"metadata": part["metadata"] | {"name": f"more-{number}"}} for number, part in
             enumerate(slices("twice", [one]))]  # fmt: skip
    world.put(*again)
    tally = world.lab.pod("asker").ask_many(twice.ip(family), PORT, times=900)
    assert_even(tally.servers, ["web-1", "web-2"])
    world.remove("twice")
    for part in again:
        world.control.delete("endpointslices", "default", part["metadata"]["name"])


def test_each_port_of_a_service_leads_to_its_own_target(world: World) -> None:
    pod = world.lab.pod("web-1")
    ports = [service_port(81, name="one", target_port="a"), service_port(82, name="two", target_port="b")]
    world.put(
        make_service("ports", cluster_ip=cluster_ips(12), ports=ports),
        make_slice("ports", endpoints=[pod.ip], ports=[slice_port(9001, name="one"), slice_port(9002, name="two")]),
    )
    asker = world.lab.pod("asker")
    with closing(pod.serve(9001, name="at-9001")), closing(pod.serve(9002, name="at-9002")):
        assert [asker.ask("10.96.0.12", port).server for port in (81, 82)] == ["at-9001", "at-9002"]


def test_a_named_target_port_may_be_another_one_in_each_slice(world: World) -> None:
    one, two = world.lab.pod("web-1"), world.lab.pod("web-2")
    world.put(
        service("named", 13),
        make_slice("named", name="old", endpoints=[one.ip], ports=[slice_port(TARGET_PORT, name="tcp")]),
        make_slice("named", name="new", endpoints=[two.ip], ports=[slice_port(9003, name="tcp")]),
    )
    with closing(two.serve(9003, name="at-9003")):
        tally = world.lab.pod("asker").ask_many("10.96.0.13", PORT, times=60)
    assert_all(tally, servers=["web-1", "at-9003"])


def test_a_port_without_a_name_leads_to_a_slice_port_without_one(world: World) -> None:
    world.put(
        make_service("unnamed", cluster_ip="10.96.0.14", ports=[service_port(PORT, target_port=TARGET_PORT)]),
        make_slice("unnamed", endpoints=[world.lab.pod("web-1").ip], ports=[slice_port(TARGET_PORT)]),
    )
    assert world.lab.pod("asker").ask("10.96.0.14", PORT).server == "web-1"


def test_one_number_in_three_protocols_is_three_ports(world: World) -> None:
    ports = [service_port(53, name=protocol.lower(), protocol=protocol, target_port="x") for protocol in PROTOCOLS]
    pods = {"TCP": "web-1", "UDP": "web-2", "SCTP": "web-3"}
    world.put(
        make_service("dns", cluster_ip="10.96.0.15", ports=ports),
        *(
            make_slice("dns", name=f"dns-{protocol.lower()}", endpoints=[world.lab.pod(pod).ip],
                       ports=[slice_port(TARGET_PORT, name=protocol.lower(), protocol=protocol)])
            for protocol, pod in pods.items()
        ),
    )  # fmt: skip
    asker = world.lab.pod("asker")
    assert {protocol: asker.ask("10.96.0.15", 53, protocol).server for protocol in PROTOCOLS} == pods


# Whom the server sees.


@each_protocol
@each_family
def test_servers_see_the_pod_that_asks(world: World, shop: Exposed, family: str, protocol: str) -> None:
    asker = world.lab.pod("asker")
    tally = asker.ask_many(shop.ip(family), PORT, protocol, times=60)
    assert_all(tally, servers=WEB, source=address(asker, family))


@each_protocol
@each_family
def test_a_pod_reaches_itself_and_then_sees_its_node(world: World, family: str, protocol: str) -> None:
    pod = world.lab.pod("web-1")
    mirror = world.expose("mirror", 16, [pod], protocols=PROTOCOLS)
    tally = pod.ask_many(mirror.ip(family), PORT, protocol, times=20)
    assert_all(tally, servers=["web-1"], source=of(bridge(), family))


@each_family
def test_a_pod_among_many_is_hidden_only_from_itself(world: World, shop: Exposed, family: str) -> None:
    pod = world.lab.pod("web-1")
    tally = pod.ask_many(shop.ip(family), PORT, times=120)
    assert_all(tally, servers=WEB)
    seen = {(answer.server, answer.source) for answer in tally.answers}
    own = address(pod, family)
    assert seen == {("web-1", of(bridge(), family)), ("web-2", own), ("web-3", own)}


@pytest.mark.parametrize("who", ["node", "client"])
@each_family
def test_whoever_is_no_pod_is_masqueraded(world: World, shop: Exposed, family: str, who: str) -> None:
    """Else the pod of another node would answer past this one."""
    host = world.lab.node if who == "node" else world.lab.client
    tally = host.ask_many(shop.ip(family), PORT, times=90)
    assert_all(tally, servers=WEB)
    node = address(world.lab.node, family)
    assert set(tally.sources) == {of(bridge(), family), node}
    assert {answer.source for answer in tally.answers if answer.server == "web-3"} == {node}


# Where there is nobody.


@each_protocol
@each_family
def test_without_endpoints_a_service_refuses_at_once(world: World, family: str, protocol: str) -> None:
    empty = world.expose("empty", 17, [], protocols=PROTOCOLS)
    for host in (world.lab.pod("asker"), world.lab.client):
        assert_refused(host.ask(empty.ip(family), PORT, protocol))
    if protocol == "TCP":  # to a node's own datagrams, send(2) says EPERM, for REJECT and DROP alike
        assert_refused(world.lab.node.ask(empty.ip(family), PORT))


@each_family
def test_a_service_comes_and_goes_with_its_endpoints(world: World, family: str) -> None:
    asker, pod = world.lab.pod("asker"), world.lab.pod("web-2")
    ebb = world.expose("ebb", 18, [])
    for _ in range(2):
        assert_refused(asker.ask(ebb.ip(family), PORT))
        world.rescale("ebb", [pod])
        assert asker.ask(ebb.ip(family), PORT).server == "web-2"
        world.rescale("ebb", [])


@each_family
def test_a_deleted_service_is_no_more_than_an_address_that_nobody_has(world: World, family: str) -> None:
    asker, pod = world.lab.pod("asker"), world.lab.pod("web-2")
    brief = world.expose("brief", 19, [pod])
    for _ in range(2):
        assert asker.ask(brief.ip(family), PORT).server == "web-2"
        world.remove("brief", endpoints_too=False)  # slices outlive their service for a while
        assert asker.ask(brief.ip(family), PORT, timeout=SILENCE).outcome is Outcome.DROPPED
        world.put(service("brief", 19))
    world.remove("brief")


def test_only_the_ports_of_a_service_lead_to_it(world: World, shop: Exposed) -> None:
    asker = world.lab.pod("asker")
    assert asker.ask(shop.ip("ipv4"), PORT + 1, timeout=SILENCE).outcome is Outcome.DROPPED
    only_udp = world.expose("only-udp", 20, [world.lab.pod("web-1")], protocols=["UDP"])
    assert asker.ask(only_udp.ip("ipv4"), PORT, "UDP").server == "web-1"
    assert asker.ask(only_udp.ip("ipv4"), PORT, "TCP", timeout=SILENCE).outcome is Outcome.DROPPED


def test_ports_can_be_added_and_taken_away(world: World) -> None:
    asker, pod = world.lab.pod("asker"), world.lab.pod("web-1")
    moving = world.expose("moving", 21, [pod])
    assert asker.ask(moving.ip("ipv4"), PORT).server == "web-1"
    world.put(service("moving", 21, protocols=["TCP", "UDP"]), *slices("moving", [pod], protocols=["TCP", "UDP"]))
    assert asker.ask(moving.ip("ipv4"), PORT, "UDP").server == "web-1"
    world.put(service("moving", 21, protocols=["UDP"]))
    assert asker.ask(moving.ip("ipv4"), PORT, "UDP").server == "web-1"
    assert asker.ask(moving.ip("ipv4"), PORT, "TCP", timeout=SILENCE).outcome is Outcome.DROPPED


def test_a_service_can_have_one_family_alone(world: World) -> None:
    world.put(
        make_service("six", cluster_ip="fd00:10:96::16", ports=[service_port(PORT, name="tcp")]),
        *slices("six", [world.lab.pod("web-1")]),
    )
    asker = world.lab.pod("asker")
    assert asker.ask("fd00:10:96::16", PORT).server == "web-1"
    assert asker.ask("10.96.0.22", PORT, timeout=SILENCE).outcome is Outcome.DROPPED


# Which endpoints count.

CONDITIONS: list[tuple[str, Mapping[str, Any], bool]] = [
    ("ready", {"ready": True, "serving": True, "terminating": False}, True),
    ("nothing said", {"ready": None, "serving": None, "terminating": None}, True),
    ("not ready", {"ready": False, "serving": False, "terminating": False}, False),
    ("not ready but serving, and not on its way out", {"ready": False, "serving": True, "terminating": False}, False),
    ("published though not ready", {"ready": True, "serving": False, "terminating": False}, True),
    ("terminating and still serving", {"ready": False, "serving": True, "terminating": True}, True),
    ("terminating and no longer serving", {"ready": False, "serving": False, "terminating": True}, False),
    ("terminating, serving not said", {"ready": False, "serving": None, "terminating": True}, True),
]


@pytest.mark.parametrize(
    ("conditions", "used"), [case[1:] for case in CONDITIONS], ids=[case[0] for case in CONDITIONS]
)
def test_endpoints_are_used_according_to_their_conditions(
    world: World, conditions: Mapping[str, Any], used: bool
) -> None:
    pod, asker = world.lab.pod("web-1"), world.lab.pod("asker")
    condition = world.expose("condition", 23, [behind(pod, **conditions)])
    for family in FAMILIES:
        answer = asker.ask(condition.ip(family), PORT)
        assert (answer.server == "web-1") is used
        assert used or answer.outcome is Outcome.REFUSED


def test_terminating_endpoints_get_nothing_while_others_are_ready(world: World) -> None:
    going = behind(world.lab.pod("web-1"), ready=False, serving=True, terminating=True)
    leaving = world.expose("leaving", 24, [going, world.lab.pod("web-3")])
    for family in FAMILIES:
        assert_all(world.lab.pod("asker").ask_many(leaving.ip(family), PORT, times=40), servers=["web-3"])


# What is left alone.

LEFT_ALONE: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = [
    ("of another proxy", {"labels": {"service.kubernetes.io/service-proxy-name": "other"}}, {}),
    ("of type ExternalName", {"type": "ExternalName", "spec": {"externalName": "example.org"}}, {}),
    ("with slices of headless ones", {}, {"labels": {"service.kubernetes.io/headless": ""}}),
]


@pytest.mark.parametrize(("of_service", "of_slice"), [case[1:] for case in LEFT_ALONE], ids=[c[0] for c in LEFT_ALONE])
def test_services_that_are_none_of_our_business(
    world: World, of_service: Mapping[str, Any], of_slice: Mapping[str, Any]
) -> None:
    pod, asker = world.lab.pod("web-1"), world.lab.pod("asker")
    ports = [service_port(PORT, target_port=TARGET_PORT)]
    world.put(
        make_service("alone", cluster_ip="10.96.0.25", ports=ports, **of_service),
        make_slice("alone", endpoints=[pod.ip], ports=[TARGET_PORT], **of_slice),
    )
    outcome = Outcome.REFUSED if of_slice else Outcome.DROPPED  # a Service whose slices don't count has no endpoints
    assert asker.ask("10.96.0.25", PORT, timeout=patience_for(outcome)).outcome is outcome
    world.put(
        make_service("alone", cluster_ip="10.96.0.25", ports=ports),
        make_slice("alone", endpoints=[pod.ip], ports=[TARGET_PORT]),
    )
    assert asker.ask("10.96.0.25", PORT).server == "web-1"
    world.remove("alone")
    world.control.delete("endpointslices", "default", "alone-1")


def test_headless_services_and_slices_of_names_harm_nobody(world: World, shop: Exposed) -> None:
    pod = world.lab.pod("web-1")
    named = make_slice("shop", name="names", address_type="FQDN", ports=[slice_port(TARGET_PORT, name="tcp")])
    named["endpoints"] = [{"addresses": ["web.example.org"], "conditions": {"ready": True}}]
    world.put(
        make_service("headless", cluster_ip="None", ports=[service_port(PORT, target_port=TARGET_PORT)]),
        make_slice("headless", endpoints=[endpoint(pod.ip)], ports=[TARGET_PORT]),
        named,
    )
    tally = world.lab.pod("asker").ask_many(shop.ip("ipv4"), PORT, times=60)
    assert_all(tally, servers=WEB)
    assert world.lab.pod("asker").ask(pod.ip, TARGET_PORT).server == "web-1"


def test_a_service_made_anew_at_another_address_has_left_the_old_one(world: World) -> None:
    asker, pod = world.lab.pod("asker"), world.lab.pod("web-1")
    before = world.expose("nomad", 26, [pod])
    world.put(service("nomad", 27))
    after = Pair("10.96.0.27", "fd00:10:96::27")
    for family in FAMILIES:
        assert asker.ask(of(after, family), PORT).server == "web-1"
        assert asker.ask(before.ip(family), PORT, timeout=SILENCE).outcome is Outcome.DROPPED
