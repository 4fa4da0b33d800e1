"""kproxy and its API server: what waits for it, what goes on without it, and how soon kproxy ends in each state."""

import time
from collections.abc import Callable, Iterator

import pytest

from hack.lab import Outcome, until
from tests.kit.apiserver.faults import Hang
from tests.kit.apiserver.objects import endpoint, make_service, make_slice, service_port, slice_port
from tests.kit.packets import FAMILIES, PATIENCE, PORT, SILENCE, Exposed, World, service, slices

pytestmark = pytest.mark.kernel

A_WHILE = 1.0
"""Seconds to look on while nothing may happen."""


@pytest.fixture
def here(idle_world: World) -> Iterator[World]:
    """The lab without kproxy, and with an API server that is well and knows no Services."""
    idle_world.clean_up()
    yield idle_world
    idle_world.control.clear_faults()
    idle_world.control.call("accept")
    if idle_world.kproxy.process.exit_code is None:
        assert idle_world.kproxy.stop(timeout=PATIENCE) == 0
    assert "Traceback" not in idle_world.kproxy.log()


def put_web(world: World, pod: str) -> Exposed:
    """A Service at the API server, whether kproxy hears of it or not."""
    world.control.put(service("web", 10), *slices("web", [world.lab.pod(pod)]))
    return Exposed("web", 10)


def server_of(world: World, service: Exposed) -> str:
    return world.lab.pod("asker").ask(service.ip("ipv4"), PORT, timeout=PATIENCE).server


def rules(world: World) -> list[str]:
    """kproxy's rules of both families."""
    saved = (line for family in FAMILIES for line in world.lab.node.iptables_save(family).splitlines())
    return [line for line in saved if "KUBE-" in line]


def assert_stays(look: Callable[[], bool]) -> None:
    """Check that something is so, and remains so for a while."""
    deadline = time.monotonic() + A_WHILE
    while time.monotonic() < deadline:
        assert look()


def wait_for_log(world: World, text: str) -> str:
    """Wait for a line of kproxy's log that holds the text, and return it."""

    def found() -> str:
        assert world.kproxy.process.exit_code is None, world.kproxy.log()
        return next((line for line in world.kproxy.log().splitlines() if text in line), "")

    return until(found, PATIENCE, f"kproxy to log {text!r}")


# Before everything is known.

KINDS = {"services": "Service", "endpointslices": "EndpointSlice", "nodes": "Node"}


@pytest.mark.parametrize("late", ["services", "endpointslices"])
def test_nothing_is_written_before_services_and_slices_have_been_listed(here: World, late: str) -> None:
    web = put_web(here, "web-1")
    here.control.add_fault(Hang(), resource=late, times=None)
    here.launch()
    for resource in KINDS.keys() - {late}:
        wait_for_log(here, f"listed kind={KINDS[resource]}")
    assert_stays(lambda: rules(here) == [])
    here.control.clear_faults()
    here.control.call("cut_connections")
    here.settle()
    assert server_of(here, web) == "web-1"


def test_rules_of_before_stay_in_force_until_all_is_known_again(here: World) -> None:
    web = put_web(here, "web-1")
    here.start()
    assert here.kproxy.stop() == 0
    put_web(here, "web-2")
    here.control.add_fault(Hang(), resource="endpointslices", times=None)
    before = rules(here)
    here.launch()
    wait_for_log(here, "listed kind=Service")
    assert_stays(lambda: server_of(here, web) == "web-1")
    assert rules(here) == before
    here.control.clear_faults()
    here.control.call("cut_connections")
    here.settle()
    assert server_of(here, web) == "web-2"


# Without an API server.


def test_an_api_server_that_cannot_be_reached_is_waited_for(here: World) -> None:
    web = put_web(here, "web-1")
    here.control.call("refuse")
    here.launch()
    line = wait_for_log(here, "refused")
    assert here.server.url.removeprefix("https://") in line
    assert_stays(lambda: here.kproxy.process.exit_code is None)
    # A line for each watch now and then, and not for each try.
    assert len(here.kproxy.log().splitlines()) < 20
    here.control.call("accept")
    here.settle()
    assert server_of(here, web) == "web-1"


def test_services_go_on_while_the_api_server_is_away(here: World) -> None:
    web = put_web(here, "web-1")
    here.start()
    here.control.call("refuse")
    here.control.call("cut_connections")
    wait_for_log(here, "refused")
    put_web(here, "web-2")
    assert_stays(lambda: server_of(here, web) == "web-1")
    here.control.call("accept")
    here.settle()
    assert server_of(here, web) == "web-2"


def test_wrong_credentials_are_named_and_may_become_right(here: World) -> None:
    web = put_web(here, "web-1")
    kubeconfig = here.server.kubeconfig.read_text()
    here.server.kubeconfig.write_text(kubeconfig.replace("token: ", "token: x"))
    assert here.server.kubeconfig.read_text() != kubeconfig
    try:
        here.launch()
        line = wait_for_log(here, "401")
        assert "token" in line or "credentials" in line
        assert_stays(lambda: here.kproxy.process.exit_code is None)
        assert len(here.kproxy.log().splitlines()) < 20
    finally:
        here.server.kubeconfig.write_text(kubeconfig)
    here.settle()
    assert server_of(here, web) == "web-1"


# The end.

WITHIN = 5.0
"""Seconds from SIGTERM to the end: the one that is promised, and some for a machine under load.

What kproxy waits for in these states would take longer.
"""


def unreachable(world: World) -> None:
    world.control.call("refuse")
    world.launch()
    wait_for_log(world, "refused")


def silent(world: World) -> None:
    world.control.call("black_hole")
    world.launch()
    wait_for_log(world, "serving server=metrics")


def listing(world: World) -> None:
    world.control.add_fault(Hang(), times=None)
    before = world.control.state().count
    world.launch()
    until(lambda: world.control.state().count > before, PATIENCE, "a first request")


def at_work(world: World) -> None:
    put_web(world, "web-1")
    world.start()


@pytest.mark.parametrize("state", [at_work, listing, unreachable, silent])
def test_sigterm_ends_it_at_once_in_whatever_state(here: World, state: Callable[[World], None]) -> None:
    state(here)
    before = rules(here)
    started = time.monotonic()
    assert here.kproxy.stop(timeout=PATIENCE) == 0
    assert time.monotonic() - started < WITHIN
    assert rules(here) == before


# Objects that make no sense.


def test_bad_objects_do_not_keep_others_from_being_served(here: World) -> None:
    pod = here.lab.pod("web-1")
    here.start()
    bad = [
        make_service("no-address", cluster_ip="10.96.0.20") | {"spec": {"clusterIP": "10.96.0.999", "ports": []}},
        make_service("huge-port", cluster_ip="10.96.0.21", ports=[service_port(70000, name="a"), service_port(80)]),
        make_service("no-list", cluster_ip="10.96.0.22") | {"spec": {"clusterIP": "10.96.0.22", "ports": "eighty"}},
        make_service("megabyte", cluster_ip="10.96.0.23", annotations={"x": "y" * 1_000_000}),
        make_slice("huge-port", endpoints=[endpoint(pod.ip), {"addresses": ["10.0.0.1.2"]}], ports=[slice_port(8080)]),
        make_slice("megabyte", endpoints=[endpoint(pod.ip)], ports=[slice_port(8080), slice_port(-1, name="b")]),
    ]
    here.control.put(*bad)
    web = here.expose("web", 10, [pod])
    asker = here.lab.pod("asker")
    assert server_of(here, web) == "web-1"
    # What is right about them takes effect.
    for ip in ("10.96.0.21", "10.96.0.23"):
        assert asker.ask(ip, 80).server == "web-1"
    assert asker.ask("10.96.0.22", 80, timeout=SILENCE).outcome is Outcome.DROPPED
    log = [line for line in here.kproxy.log().splitlines() if "warning" in line]
    for name, field in (
        ("no-address", "clusterIP"),
        ("huge-port", "ports[0].port"),
        ("no-list", "ports"),
        ("huge-port-1", "addresses"),
        ("megabyte-1", "ports[1].port"),
    ):
        about = [line for line in log if f"default/{name}" in line.replace('"', " ").split() and field in line]
        assert len(about) == 1, (name, log)
        assert len(about[0]) < 500
