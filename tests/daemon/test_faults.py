"""Whatever goes wrong between a kproxy at work and its API server, no rule that should stay is ever missing.

The node's tables are watched all the time; afterwards they are what the API server's objects make them.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http import HTTPStatus

import pytest

from hack.lab import Load, Outcome, select, until
from kproxy.state.model import IPFamily
from tests.kit.apiserver.faults import Corrupt, ErrorEvent, Fault, Replay, Reset, Silence, Status, Truncate
from tests.kit.packets import FAMILIES, PATIENCE, PORT, SILENCE, Exposed, World, service, slices
from tests.kit.packets.tablewatch import TableWatch, expected_rules, own_rules

pytestmark = pytest.mark.kernel

PODS = ("web-1", "web-2", "web-3")
KINDS = ("services", "endpointslices")
IDLE = 1
"""Seconds of silence after which a watch is dead here, the fewest that can be set. Health waits for twice as many."""


@pytest.fixture(scope="module")
def kproxy_args() -> Sequence[str]:
    return "--layout", "classic", "--watch-idle-timeout", f"{IDLE}s"


@pytest.fixture
def here(world: World) -> Iterator[World]:
    """Services that will stay as they are (calm), change, and go."""
    world.control.set(bookmark_period=IDLE / 4)
    pods = [world.lab.pod(name) for name in PODS]
    world.control.put(service("calm", 20), *slices("calm", pods))
    world.control.put(service("changing", 21), *slices("changing", pods[:1]))
    world.expose("leaving", 22, pods)
    yield world
    world.control.clear_faults()
    world.control.call("accept")
    for name in ("changing", "leaving", "coming"):
        world.control.delete("services", "default", name)
    world.settle()


def change(world: World) -> None:
    """Change some objects, add some, delete some, and leave some as they are."""
    world.control.put(*slices("changing", [world.lab.pod("web-2")]))
    world.control.delete("services", "default", "leaving")
    for family in FAMILIES:
        world.control.delete("endpointslices", "default", f"leaving-{family}")
    world.control.put(service("coming", 23), *slices("coming", [world.lab.pod("web-3")]))


@contextmanager
def nothing_lost(world: World) -> Iterator[None]:
    """Check that no rule of a Service that stays goes, in neither family, and that its clients notice nothing."""
    with ExitStack() as stack:
        watches = [
            stack.enter_context(TableWatch(world.lab.node, family, "default/calm:", "kubernetes service portals"))
            for family in IPFamily
        ]
        asker = world.lab.pod("asker")
        loads: list[Load] = [stack.enter_context(asker.load(f, PORT, every=0.02)) for f in calm_ips()]
        connection = stack.enter_context(asker.connect(calm_ips()[0], PORT))
        yield
        assert connection.echo()
    for watch in watches:
        assert watch.lost == set()
        assert watch.looks > 5 * watch.states > 5  # what was there for a moment may be missed, but not much of it
    assert [load.tally.failures for load in loads] == [(), ()]


def calm_ips() -> list[str]:
    return [Exposed("calm", 20).ip(family) for family in FAMILIES]


def assert_in_step(world: World) -> None:
    """Check that all is in force that the API server holds."""
    world.settle()
    for family in FAMILIES:
        assert own_rules(world.lab.node.iptables_save(family)) == expected_rules(world, family)
    asker = world.lab.pod("asker")
    assert asker.ask(Exposed("changing", 21).ip("ipv4"), PORT).server == "web-2"
    assert asker.ask(Exposed("leaving", 22).ip("ipv4"), PORT, timeout=SILENCE).outcome is Outcome.DROPPED
    assert asker.ask(Exposed("coming", 23).ip("ipv4"), PORT).server == "web-3"


def test_the_watch_of_the_tables_sees_what_is_missing(here: World) -> None:
    node = here.lab.node
    with TableWatch(node, IPFamily.IPV4, "default/calm:") as watch:
        node.run(["iptables-legacy", "-t", "nat", "-F", "KUBE-SERVICES"])
        until(lambda: watch.lost, PATIENCE, "the watch to see it")
    assert {chain for chain, _ in watch.lost} == {"KUBE-SERVICES"}


# What the requests meet that follow the end of all watches, one after the other.
ANSWERS: dict[str, Sequence[Fault]] = {
    "410": [Status(410)],
    "410 event": [ErrorEvent(410)],
    "410, then a list reset midway": [Status(410), Reset(after=2)],
    "410 event, then a list cut off within an object": [ErrorEvent(410), Truncate(after=1)],
    "410, then a list that falls silent": [Status(410), Silence(after=2)],
    "410, then a list without its end": [Status(410), Truncate(frame="bookmark", at=1.0)],
    "500, until the place is given up": [Status(500)] * 3,
    "503 with Retry-After": [Status(503, retry_after=1)],
    "429 with Retry-After": [Status(429, retry_after=1)],
    "reset midway": [Reset(after=1)],
    "cut off within an event": [Truncate(after=1)],
    "no JSON": [Corrupt(after=1)],
    "an old event again": [Replay(after=1)],
    "silence": [Silence(after=1)],
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers(here: World, name: str) -> None:
    with nothing_lost(here):
        for fault in ANSWERS[name]:
            for kind in KINDS:
                here.control.add_fault(fault, resource=kind, verb="watch")
        here.control.call("end_watches")
        change(here)
        assert_in_step(here)


def stopped(world: World) -> None:
    world.control.call("stop")
    change(world)
    world.control.call("start")


def refused(world: World) -> None:
    world.control.call("refuse")
    world.control.call("cut_connections")
    change(world)
    world.control.call("accept")


def forgotten(world: World) -> None:
    """What happened meanwhile is not in the server's history any more."""
    world.control.call("refuse")
    world.control.call("cut_connections")
    change(world)
    world.control.call("compact")
    world.control.call("accept")


def new_epoch(world: World) -> None:
    """The server's history begins anew, as when it was set up afresh with the same objects."""
    change(world)
    world.control.call("new_epoch")


def frozen(world: World) -> None:
    """It takes connections and answers none."""
    world.control.call("freeze")
    change(world)
    time.sleep(IDLE * 1.5)
    world.control.call("thaw")


ACTS: dict[str, Callable[[World], None]] = {
    act.__name__.replace("_", " "): act for act in (stopped, refused, forgotten, new_epoch, frozen)
}


@pytest.mark.parametrize("name", ACTS)
def test_server(here: World, name: str) -> None:
    with nothing_lost(here):
        ACTS[name](here)
        assert_in_step(here)


@pytest.mark.parametrize("how", ["go_back", "go_back_and_on", "go_back_unnoticed", "SIGHUP"])
def test_a_backup_that_is_put_back(here: World, how: str) -> None:
    """What was deleted since is in force again, what was added since is not, and what was changed is as it was."""
    here.settle()
    before = [own_rules(here.lab.node.iptables_save(family)) for family in FAMILIES]
    here.control.call("back_up")
    change(here)
    assert_in_step(here)
    with nothing_lost(here):
        if how == "SIGHUP":
            here.control.call("go_back_unnoticed")
            os.kill(here.kproxy.process.pid, signal.SIGHUP)
        elif how == "go_back":
            here.control.call("go_back")
        elif how == "go_back_and_on":
            here.control.call("go_back_and_on")
        else:
            here.control.call("go_back_unnoticed")

        def restored() -> bool:
            return [own_rules(here.lab.node.iptables_save(family)) for family in FAMILIES] == before

        until(restored, PATIENCE, "the rules of the backup")
    relists = select(here.kproxy.metrics(), "kproxy_watch_relists_total", kind="Service")
    assert sum(relists.values()) >= 1
    until(lambda: here.kproxy.get("/healthz")[0] == HTTPStatus.OK, PATIENCE, "health to be 200")
    change(here)
    assert_in_step(here)


@pytest.mark.parametrize("how", ["refused", "silent", "forbidden"])
def test_a_watch_that_cannot_be_restored_turns_health_to_503(here: World, how: str) -> None:
    before = [own_rules(here.lab.node.iptables_save(family)) for family in FAMILIES]
    with nothing_lost(here):
        if how == "refused":
            here.control.call("refuse")
        else:
            for kind in KINDS:
                here.control.add_fault(Silence() if how == "silent" else Status(403), resource=kind, times=None)
        here.control.call("cut_connections")
        change(here)
        until(lambda: here.kproxy.get("/healthz")[0] == HTTPStatus.SERVICE_UNAVAILABLE, PATIENCE, "health to be 503")
        body = json.loads(here.kproxy.get("/healthz")[1])
        assert any(reason.startswith("watching ") for reason in body["reasons"]), body
        assert body["nodeEligible"]
        # A restart would not help, and what is in force is better than nothing.
        assert here.kproxy.get("/livez")[0] == HTTPStatus.OK
        assert max(select(here.kproxy.metrics(), "kproxy_watch_age_seconds").values()) >= IDLE
        assert [own_rules(here.lab.node.iptables_save(family)) for family in FAMILIES] == before
        here.control.clear_faults()
        here.control.call("accept")
        here.control.call("cut_connections")
        assert_in_step(here)
        until(lambda: here.kproxy.get("/healthz")[0] == HTTPStatus.OK, PATIENCE, "health to be 200 again")


def test_metrics_tell_what_happened(here: World) -> None:
    def failures() -> float:
        return sum(select(here.kproxy.metrics(), "kproxy_watch_failures_total").values())

    def lists() -> float:
        return sum(select(here.kproxy.metrics(), "kproxy_watch_lists_total").values())

    failed, listed = failures(), lists()
    here.control.add_fault(Status(410), resource="services", verb="watch")
    here.control.add_fault(Status(500), resource="endpointslices", verb="watch")
    here.control.call("end_watches")
    change(here)
    assert_in_step(here)
    assert failures() > failed
    assert lists() == listed + 1
