"""UDP clients that keep their port, with packets: to conntrack they are flows that never end, unless kproxy ends them.

What kproxy does to conntrack is tested on its own; here is what clients see of it, with the whole of kproxy at work.
"""

from collections.abc import Callable
from typing import Any

import pytest

from hack.lab import Answer, Flow, Host, Outcome, until
from tests.kit.apiserver.kinds import Json
from tests.kit.packets import (
    PATIENCE,
    PORT,
    Exposed,
    World,
    address,
    behind,
    each_family,
    external_ips,
    of,
    slices,
)

pytestmark = pytest.mark.kernel

UDP = ("UDP",)


def expose(world: World, name: str, number: int, *pods: str, **more: Any) -> Exposed:
    return world.expose(name, number, [world.lab.pod(pod) for pod in pods], protocols=UDP, **more)


def slices_of(name: str, world: World, *pods: str) -> list[Json]:
    return slices(name, [world.lab.pod(pod) for pod in pods], protocols=UDP)


def await_answer(flow: Flow, arrived: Callable[[Answer], bool]) -> None:
    """Ask until the answer is right. The questions keep conntrack's entry alive: only kproxy can end it."""
    until(lambda: arrived(flow.ask(timeout=0.1)), PATIENCE, "the flow to be where it belongs")


@pytest.mark.parametrize("way", ["ClusterIP", "node port", "external IP"])
@each_family
def test_a_client_that_asks_all_the_time_comes_to_the_new_pod(world: World, family: str, way: str) -> None:
    spec = {"externalIPs": list(external_ips(10))}
    moving = expose(world, "moving", 10, "web-1", type="NodePort", spec=spec)
    asker, client = world.lab.pod("asker"), world.lab.client
    tries: dict[str, tuple[Host, str, int]] = {
        "ClusterIP": (asker, moving.ip(family), PORT),
        "node port": (client, address(world.lab.node, family), moving.node_port),
        "external IP": (client, of(external_ips(10), family), PORT),
    }
    host, ip, port = tries[way]
    with host.flow(ip, port) as flow:
        assert flow.ask(timeout=PATIENCE).server == "web-1"
        for name in ("web-3", "web-2", "web-1"):
            world.control.put(*slices_of("moving", world, name))
            await_answer(flow, lambda answer, name=name: answer.server == name)  # type: ignore[misc]


@each_family
def test_scaled_to_zero_is_refused_and_back_again_answers(world: World, family: str) -> None:
    tide = expose(world, "tide", 11, "web-1")
    with world.lab.pod("asker").flow(tide.ip(family), PORT) as flow:
        assert flow.ask(timeout=PATIENCE).server == "web-1"
        world.control.put(*slices_of("tide", world))
        await_answer(flow, lambda answer: answer.outcome is Outcome.REFUSED)
        world.control.put(*slices_of("tide", world, "web-2"))
        await_answer(flow, lambda answer: answer.server == "web-2")


@each_family
def test_a_client_from_before_the_service_finds_it(world: World, family: str) -> None:
    early = Exposed("early", 12)
    with world.lab.pod("asker").flow(early.ip(family), PORT) as flow:
        assert flow.ask(timeout=0.1).outcome is Outcome.DROPPED
        expose(world, "early", 12, "web-1")
        await_answer(flow, lambda answer: answer.server == "web-1")
        world.remove("early")
        await_answer(flow, lambda answer: answer.outcome is Outcome.DROPPED)


@each_family
def test_clients_whose_pod_stays_stay_with_it(world: World, family: str) -> None:
    """Also those whose pod terminates but still serves: only new ones go elsewhere."""
    steady = expose(world, "steady", 13, "web-1", "web-2", "web-3")
    asker = world.lab.pod("asker")
    flows = [asker.flow(steady.ip(family), PORT) for _ in range(30)]
    before = [flow.ask(timeout=PATIENCE).server for flow in flows]
    assert set(before) == {"web-1", "web-2", "web-3"}
    leaving = behind(world.lab.pod("web-1"), ready=False, serving=True, terminating=True)
    world.rescale("steady", [leaving, world.lab.pod("web-2"), world.lab.pod("web-3")], protocols=UDP)
    assert [flow.ask(timeout=PATIENCE).server for flow in flows] == before
    world.rescale("steady", [world.lab.pod("web-2"), world.lab.pod("web-3")], protocols=UDP)
    for flow, server in zip(flows, before, strict=True):
        if server == "web-1":
            await_answer(flow, lambda answer: answer.server in ("web-2", "web-3"))
        assert flow.ask(timeout=PATIENCE).server == server or server == "web-1"
        flow.close()


@each_family
def test_what_changed_while_kproxy_was_away_is_made_good(world: World, family: str) -> None:
    moved, kept = expose(world, "moved", 14, "web-1"), expose(world, "kept", 15, "web-1", "web-2", "web-3")
    gone = expose(world, "gone", 16, "web-1")
    asker = world.lab.pod("asker")
    with (
        asker.flow(moved.ip(family), PORT) as to_moved,
        asker.flow(kept.ip(family), PORT) as to_kept,
        asker.flow(gone.ip(family), PORT) as to_gone,
    ):
        assert to_moved.ask(timeout=PATIENCE).server == to_gone.ask(timeout=PATIENCE).server == "web-1"
        server = to_kept.ask(timeout=PATIENCE).server
        assert world.kproxy.stop() == 0
        world.control.put(*slices_of("moved", world, "web-2"))
        world.control.delete("services", "default", "gone")
        assert to_moved.ask(timeout=PATIENCE).server == to_gone.ask(timeout=PATIENCE).server == "web-1"
        world.start()
        await_answer(to_moved, lambda answer: answer.server == "web-2")
        await_answer(to_gone, lambda answer: answer.outcome is Outcome.DROPPED)
        assert to_kept.ask(timeout=PATIENCE).server == server
