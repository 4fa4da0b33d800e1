"""Session affinity, with packets: a client keeps its pod, for as long as it should and no longer."""

import time
from collections.abc import Iterable
from itertools import pairwise

import pytest

from hack.lab import Host, Pod
from hack.lab.addresses import pod_net
from tests.kit.apiserver.kinds import Json
from tests.kit.packets import (
    PORT,
    PROTOCOLS,
    Exposed,
    World,
    address,
    assert_all,
    carried,
    each_family,
    each_protocol,
    of,
    service,
)

pytestmark = pytest.mark.kernel

WEB = ("web-1", "web-2", "web-3")
LONG = 10800
"""Seconds; the API server's default."""


def all_pods(world: World) -> list[Pod]:
    return [world.lab.pod(name) for name in WEB]


MANY = [pod_net(1).host(number) for number in range(150, 200)]
"""Addresses for clients by the dozen: so many that each pod gets some, but for a chance of one in a hundred million."""


def affinity(seconds: int) -> Json:
    return {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}}


def expose(world: World, name: str, number: int, backends: Iterable[Pod], seconds: int = LONG) -> Exposed:
    spec = {**affinity(seconds), "externalTrafficPolicy": "Local"}  # so that clients outside are told apart
    return world.expose(name, number, backends, protocols=PROTOCOLS, type="NodePort", spec=spec)


def server_of(host: Host, target: tuple[str, int], protocol: str = "TCP", source: str = "", times: int = 12) -> str:
    """The one server that a client is sent to, each time."""
    tally = host.ask_many(*target, protocol, times=times, source=source)
    assert_all(tally, servers=set(tally.servers))
    assert len(tally.servers) == 1, tally.servers
    return next(iter(tally.servers))


@each_protocol
@each_family
def test_a_client_keeps_its_pod(world: World, family: str, protocol: str) -> None:
    sticky = expose(world, "sticky", 10, all_pods(world))
    server_of(world.lab.pod("asker"), (sticky.ip(family), PORT), protocol, times=40)


@each_family
def test_clients_are_told_apart_by_address(world: World, family: str) -> None:
    """Each address draws for itself: with many of them, every pod gets some."""
    sticky = expose(world, "told-apart", 11, all_pods(world))
    target = (sticky.ip(family), PORT)
    asker, sources = world.lab.pod("asker"), [of(pair, family) for pair in MANY]
    with carried(asker, *sources):
        first, again = ([asker.ask(*target, source=source).server for source in sources] for _ in range(2))
    assert again == first
    assert set(first) == set(WEB)


@each_family
def test_ways_in_share_what_they_know_of_a_client(world: World, family: str) -> None:
    shared = expose(world, "shared", 12, [world.lab.pod("web-1"), world.lab.pod("web-2")])
    client = world.lab.client
    by_node_port = server_of(client, (address(world.lab.node, family), shared.node_port))
    assert server_of(client, (shared.ip(family), PORT)) == by_node_port


@each_family
def test_a_client_stays_when_pods_are_added(world: World, family: str) -> None:
    one, two, three = all_pods(world)
    growing = expose(world, "growing", 13, [one])
    asker, target = world.lab.pod("asker"), (growing.ip(family), PORT)
    assert server_of(asker, target) == "web-1"
    for backends in ([one, two], [three, one, two], [one, two]):
        world.rescale("growing", backends, protocols=PROTOCOLS)
        assert server_of(asker, target) == "web-1"


@each_protocol
@each_family
def test_another_pod_takes_over_at_once_and_for_good(world: World, family: str, protocol: str) -> None:
    fallen = expose(world, "fallen", 14, all_pods(world))
    asker, target = world.lab.pod("asker"), (fallen.ip(family), PORT)
    left = dict(zip(WEB, all_pods(world), strict=True))
    while len(left) > 1:
        del left[server_of(asker, target, protocol)]
        world.rescale("fallen", left.values(), protocols=PROTOCOLS)
        assert server_of(asker, target, protocol) in left


@each_family
def test_affinity_can_be_switched_on_and_off(world: World, family: str) -> None:
    asker = world.lab.pod("asker")
    fickle = world.expose("fickle", 15, all_pods(world))
    assert_all(asker.ask_many(fickle.ip(family), PORT, times=60), servers=WEB)
    world.put(service("fickle", 15, spec=affinity(LONG)))
    server_of(asker, (fickle.ip(family), PORT), times=40)
    world.put(service("fickle", 15))
    assert_all(asker.ask_many(fickle.ip(family), PORT, times=60), servers=WEB)


def test_affinity_ends_after_its_timeout(world: World) -> None:
    """Many clients at once, as each has a chance to draw the same pod again."""
    seconds = 1
    brief = expose(world, "brief", 16, all_pods(world), seconds)
    target = (brief.ip("ipv4"), PORT)
    asker, sources = world.lab.pod("asker"), [pair.v4 for pair in MANY]
    with carried(asker, *sources):
        before = [asker.ask(*target, source=source).server for source in sources]
        time.sleep(seconds + 0.1)
        after = [asker.ask(*target, source=source).server for source in sources]
    assert set(before) == set(after) == set(WEB)
    assert before != after


def test_each_new_connection_prolongs_affinity(world: World) -> None:
    seconds = 2
    renewed = expose(world, "renewed", 17, all_pods(world), seconds)
    asker, sources = world.lab.pod("asker"), [pair.v4 for pair in MANY[:10]]
    rounds: list[tuple[float, float, list[str]]] = []
    with carried(asker, *sources):
        while not rounds or rounds[-1][0] - rounds[0][0] < 2 * seconds:
            began = time.monotonic()
            servers = [asker.ask(renewed.ip("ipv4"), PORT, source=source).server for source in sources]
            rounds.append((began, time.monotonic(), servers))
            time.sleep(seconds / 8)
    for (began, _, before), (_, ended, after) in pairwise(rounds):
        assert before == after or ended - began > seconds / 2  # unless this machine was held up for so long
