"""Round robin, with packets: each pod gets exactly its turn, whichever way clients come."""

import itertools
from collections import Counter

import pytest

from hack.lab import Host
from tests.kit.apiserver.kinds import Json
from tests.kit.packets import PORT, PROTOCOLS, Exposed, World, address, each_family, each_protocol, service, slices

pytestmark = pytest.mark.kernel

WEB = ("web-1", "web-2", "web-3")
ROUNDS = 4
SOURCE_PORTS = itertools.count(20_000)
"""None twice: conntrack remembers where connections from a port went."""


def in_turn(name: str, number: int) -> Json:
    made = service(name, number, protocols=PROTOCOLS, type="NodePort")
    made["metadata"]["annotations"] = {"kproxy.dev/load-balancing": "round-robin"}
    return made


@pytest.fixture(scope="module")
def turns(world: World) -> Exposed:
    pods = [world.lab.pod(name) for name in WEB]
    world.put(in_turn("turns", 30), *slices("turns", pods, protocols=PROTOCOLS))
    return Exposed("turns", 30)


def servers(host: Host, ip: str, port: int, protocol: str, times: int) -> list[str]:
    """Who answered, one connection after the other."""
    answers = [host.ask(ip, port, protocol, source_port=next(SOURCE_PORTS)) for _ in range(times)]
    return [answer.server for answer in answers]


@each_protocol
@each_family
def test_every_pod_has_its_turn(world: World, turns: Exposed, family: str, protocol: str) -> None:
    asker, client, node = world.lab.pod("asker"), world.lab.client, world.lab.node
    got = servers(asker, turns.ip(family), PORT, protocol, len(WEB) * ROUNDS)
    assert Counter(got) == dict.fromkeys(WEB, ROUNDS)
    assert got == got[: len(WEB)] * ROUNDS, "one after the other, in the same order all the time"
    # Whoever comes by another address takes part in the same turn.
    got = []
    for _ in range(ROUNDS * len(WEB)):
        got += servers(client, address(node, family), turns.node_port, protocol, 1)
        got += servers(asker, turns.ip(family), PORT, protocol, 1)
    assert Counter(got) == dict.fromkeys(WEB, 2 * ROUNDS)


def test_the_annotation_can_be_taken_back(world: World, turns: Exposed) -> None:
    world.put(service("turns", 30, protocols=PROTOCOLS, type="NodePort"))
    asker = world.lab.pod("asker")
    got = servers(asker, turns.ip("ipv4"), PORT, "TCP", 60)
    assert got != got[: len(WEB)] * (60 // len(WEB)), "a chance of one in 3**57"
