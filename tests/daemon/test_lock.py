"""Another program keeps the lock of the legacy tables for long: kproxy waits, says so, and catches up."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import pytest

from hack.lab import Outcome, select, until
from tests.kit.packets import FAMILIES, PATIENCE, PORT, SILENCE, Exposed, World, service, slices

pytestmark = pytest.mark.kernel

FAILURES = (
    "kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total",
    "kubeproxy_sync_proxy_rules_iptables_restore_failures_total",
)


@contextmanager
def lock_held(world: World) -> Iterator[None]:
    descriptor = os.open(world.lab.node.xtables_lock, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def failures(world: World) -> float:
    metrics = world.kproxy.metrics()
    return sum(value for name in FAILURES for value in select(metrics, name).values())


def test_a_change_waits_for_the_lock_and_is_applied_when_it_is_free(world: World) -> None:
    pods = [world.lab.pod(name) for name in ("web-1", "web-2", "web-3")]
    steady = world.expose("steady", 20, pods)
    moving = world.expose("moving", 21, pods[:1])
    asker = world.lab.pod("asker")
    failed = failures(world)
    with asker.load(steady.ip("ipv4"), PORT, every=0.02) as load:
        with lock_held(world):
            world.control.put(*slices("moving", pods[1:2]), service("fresh", 22), *slices("fresh", pods[:1]))
            until(lambda: failures(world) > failed, PATIENCE, "a failed sync to be counted")
            holder = f"xtables.lock has been held by process {os.getpid()} ("
            until(lambda: holder in world.kproxy.log(), PATIENCE, "the holder to be named, just after that")
            assert world.kproxy.get("/healthz")[0] == HTTPStatus.OK
            # What was in force still is.
            assert asker.ask(moving.ip("ipv4"), PORT).server == "web-1"
            assert asker.ask(Exposed("fresh", 22).ip("ipv4"), PORT, timeout=SILENCE).outcome is Outcome.DROPPED
            more = failures(world)
            until(lambda: failures(world) > more, PATIENCE, "another try")
        until(lambda: asker.ask(moving.ip("ipv4"), PORT).server == "web-2", PATIENCE, "the change to be in force")
    assert load.tally.failures == ()
    world.settle()
    for family in FAMILIES:
        assert asker.ask(Exposed("fresh", 22).ip(family), PORT).server == "web-1"
        assert asker.ask(moving.ip(family), PORT).server == "web-2"


def test_a_lock_held_for_a_moment_is_no_failure(world: World) -> None:
    pods = [world.lab.pod(name) for name in ("web-1", "web-2")]
    moving = world.expose("moving", 21, pods[:1])
    asker = world.lab.pod("asker")
    failed = failures(world)
    with lock_held(world):
        world.control.put(*slices("moving", pods[1:]))
        assert asker.ask_many(moving.ip("ipv4"), PORT, times=20).servers.keys() == {"web-1"}
    world.settle()
    assert asker.ask(moving.ip("ipv4"), PORT).server == "web-2"
    assert failures(world) == failed
