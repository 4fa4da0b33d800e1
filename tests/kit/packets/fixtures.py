"""A lab with kproxy at work in it, as a fixture. See `tests.kit.packets`."""

from collections.abc import Iterator, Sequence

import pytest

from hack.lab import Lab
from tests.kit.apiserver.process import ApiServerProcess
from tests.kit.packets import PROTOCOLS, TARGET_PORT, World, nodes

LAYOUTS = ("classic", "large")


@pytest.fixture(scope="module", params=LAYOUTS)
def kproxy_args(request: pytest.FixtureRequest) -> Sequence[str]:
    """Further flags for the kproxy of `world`: all must be so whatever the rules look like.

    A module that is about a setting has a fixture of this name of its own.
    """
    return "--layout", request.param


@pytest.fixture(scope="module")
def idle_world(lab: Lab) -> Iterator[World]:
    """A lab with an API server on node-a, and no kproxy yet.

    web-1 and web-2 are pods on node-a, web-3 one on node-b; they answer at 8080. asker is a pod on node-a.
    """
    for name, node in (("web-1", "node-a"), ("web-2", "node-a"), ("web-3", "node-b")):
        pod = lab.add_pod(name, node)
        for protocol in PROTOCOLS:
            pod.serve(TARGET_PORT, protocol)
    lab.add_pod("asker")
    with ApiServerProcess(netns=lab.node.namespace.name) as server:
        server.control.put(*nodes(lab))
        yield World(lab, server)


@pytest.fixture(scope="module")
def world(idle_world: World, kproxy_args: Sequence[str]) -> Iterator[World]:
    """`idle_world` with kproxy at work on node-a, which must end well and have had no accident."""
    idle_world.start(*kproxy_args)
    yield idle_world
    assert idle_world.kproxy.stop() == 0
    assert "Traceback" not in idle_world.kproxy.log()
    idle_world.clean_up()
