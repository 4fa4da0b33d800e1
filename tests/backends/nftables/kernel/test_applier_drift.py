"""Whatever others change in kproxy's table is noticed, counted and repaired; what is asked for is no repair."""

import errno
import os
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

from hack.lab import until
from kproxy.backends.nftables.backend import NftablesBackend
from kproxy.backends.nftables.kernel import applier, watch
from kproxy.backends.nftables.kernel.applier import NftApplier
from kproxy.backends.nftables.kernel.errors import NoNftablesError
from kproxy.backends.nftables.kernel.netlink import Message, Notices, NoticesLost
from tests.backends.nftables.kernel.kit import STICKY, WEB, put
from tests.kit.nft import assert_held, held, nft, plan_of, pods, service, tell_of_elements_twice

pytestmark = pytest.mark.kernel

EDITS = {
    "a flush of everything": ["flush ruleset"],
    "the table deleted": ["delete table ip kproxy"],
    "an element gone": ["delete element ip kproxy tcp/cluster-endpoints { 10.96.0.10 . 80 . 1 }"],
    "an element too many": ["add element ip kproxy tcp/cluster-4/off-cluster { 192.0.2.1 . 80 }"],
    "an endpoint replaced": [
        "delete element ip kproxy tcp/cluster-endpoints { 10.96.0.10 . 80 . 1 }",
        "add element ip kproxy tcp/cluster-endpoints { 10.96.0.10 . 80 . 1 : 192.0.2.1 . 80 }",
    ],
    "a rule too many": ["insert rule ip kproxy services drop"],
    "a chain emptied": ["flush chain ip kproxy services"],
    "a set emptied": ["flush set ip kproxy tcp/cluster-4/off-cluster"],
    "a chain too many": ["add chain ip kproxy strange"],
    "a set too many": ["add set ip kproxy strange { type ipv4_addr; }"],
    "a map too many": ["add map ip kproxy strange { type ipv4_addr : verdict; }"],
    "a counter too many": ["add counter ip kproxy strange"],
    "a base chain too many": ["add chain ip kproxy strange { type filter hook input priority 5; }"],
    "a base chain gone": ["flush chain ip kproxy nat-output", "delete chain ip kproxy nat-output"],
    "a set of another kind": [
        "flush chain ip kproxy guard-cluster-ips",
        "delete set ip kproxy cluster-ips",
        "add set ip kproxy cluster-ips { type ipv6_addr; }",
    ],
    "a set declared by type, as kproxy once did": [
        "flush chain ip kproxy guard-cluster-ips",
        "delete set ip kproxy cluster-ips",
        "add set ip kproxy cluster-ips { type ipv4_addr; elements = { 10.96.0.10, 10.96.0.11 }; }",
    ],
    "a set that is in use elsewhere in the table": [
        "add set ip kproxy strange { type ipv4_addr; }",
        "add chain ip kproxy elsewhere",
        "add rule ip kproxy elsewhere ip saddr @strange accept",
    ],
}


@pytest.mark.parametrize("edit", EDITS)
def test_edits_of_others_are_noticed_and_repaired(backend: NftablesBackend, edit: str) -> None:
    ruleset = put(backend, WEB, STICKY)
    before = listed()
    nft("-f", "-", text="\n".join(EDITS[edit]))
    assert backend.drifted()
    assert backend.drifted(), "it is drift until it is repaired"
    report = backend.apply(plan_of(WEB, STICKY), set(), full=True)
    assert report.full
    assert not backend.drifted()
    assert_held(ruleset)
    until(lambda: not backend.drifted() and listed() == before, 10, "the table to be as it was")


def listed() -> str:
    """The table as a set of lines: the order of elements is the kernel's business."""
    return "\n".join(sorted(" ".join(line.split()).strip("{}, ") for line in held().splitlines()))


def test_an_edit_is_noticed_even_if_it_comes_just_before_a_step(backend: NftablesBackend) -> None:
    put(backend, WEB)
    nft("flush", "chain", "ip", "kproxy", "services")
    put(backend, WEB, STICKY)
    assert backend.drifted()


def test_an_edit_is_noticed_even_if_it_comes_between_looking_and_writing(
    backend: NftablesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(backend, WEB)
    used = backend._applier
    assert isinstance(used, NftApplier)
    run = used._library.run

    def late(script: str) -> str:
        nft("flush", "chain", "ip", "kproxy", "refuse")
        return run(script)

    monkeypatch.setattr(used._library, "run", late)
    put(backend, WEB, STICKY)
    assert backend.drifted()


def test_more_notices_than_can_be_held_count_as_drift(backend: NftablesBackend) -> None:
    put(backend, WEB)
    elements = ", ".join(f"10.{n // 256}.{n % 256}.1" for n in range(30_000))
    nft("-f", "-", text=f"table ip neighbour {{ set s {{ type ipv4_addr; elements = {{ {elements} }}; }}; }}")
    nft("-f", "-", text="flush set ip neighbour s\n" + f"add element ip neighbour s {{ {elements} }}")
    assert backend.drifted()
    put(backend, WEB, full=True)
    assert not backend.drifted()


def lose_notices(backend: NftablesBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where others change more than the socket can hold."""

    def pending(_: Notices) -> Iterator[Message]:
        raise NoticesLost

    with monkeypatch.context() as patch:
        patch.setattr(Notices, "pending", pending)
        backend.drifted()


def look_away(backend: NftablesBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """As during a large change."""
    with monkeypatch.context() as patch:
        patch.setattr(applier, "LARGE", 0)
        put(backend, WEB, STICKY)


@pytest.mark.parametrize("change", [lose_notices, look_away])
def test_who_could_not_listen_again_for_a_moment_does_so_later(
    backend: NftablesBackend,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[NftablesBackend, pytest.MonkeyPatch], None],
) -> None:
    """As where there are no file descriptors left."""

    def out_of_sockets() -> NoReturn:
        raise NoNftablesError(os.strerror(errno.EMFILE))

    put(backend, WEB)
    with monkeypatch.context() as patch:
        patch.setattr(watch, "Notices", out_of_sockets)
        with pytest.raises(NoNftablesError):
            change(backend, monkeypatch)
        with pytest.raises(NoNftablesError):
            backend.drifted()
    assert backend.drifted(), "nobody knows what was missed"
    put(backend, WEB, full=True)
    assert not backend.drifted()
    nft("flush", "chain", "ip", "kproxy", "services")
    assert backend.drifted()


def test_what_was_asked_for_does_not_count_as_repaired(backend: NftablesBackend) -> None:
    put(backend, WEB)
    nft("add", "chain", "ip", "kproxy", "strange")
    plan = plan_of(service("web", 10, pods(1, 2, 3, 4, 5)), STICKY)
    assert backend.apply(plan, plan.services.keys(), full=True).repaired == 1


def test_a_set_with_the_wrong_elements_is_counted_as_repaired(backend: NftablesBackend) -> None:
    put(backend, WEB)
    nft("delete", "element", "ip", "kproxy", "tcp/cluster-endpoints", "{ 10.96.0.10 . 80 . 1 }")
    nft("add", "chain", "ip", "kproxy", "strange")
    assert backend.apply(plan_of(WEB), set(), full=True).repaired == 2
    assert backend.apply(plan_of(WEB), set(), full=True).repaired <= 1, "the emptied chain may still be around"


def test_elements_that_the_kernel_tells_of_twice_stay(
    backend: NftablesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    ruleset = put(backend, WEB, STICKY)
    tell_of_elements_twice(monkeypatch)
    assert not backend.apply(plan_of(WEB, STICKY), set(), full=True).repaired
    assert_held(ruleset)
