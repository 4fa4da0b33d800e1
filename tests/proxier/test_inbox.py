"""Objects wait in the inbox: only the latest of each, whoever brought it."""

import threading

from kproxy.api.kinds import Kind
from kproxy.api.types import ObjectKey, ObjectMeta, Problem, Service, ServiceSpec
from kproxy.proxier.inbox import Batch, Inbox


def service(name: str, ip: str = "10.96.0.1") -> Service:
    return Service(metadata=ObjectMeta(name=name, namespace="shop"), spec=ServiceSpec(cluster_ip=ip))


KEY = ObjectKey("shop", "web")


def test_the_last_state_of_an_object_wins() -> None:
    inbox = Inbox()
    for last in range(1, 1001):
        inbox.update(Kind.SERVICE, service("web", f"10.96.{last // 256}.{last % 256}"))
    batch = inbox.drain()
    assert batch.changes == {(Kind.SERVICE, KEY): service("web", "10.96.3.232")}


def test_deleted_and_made_again_is_there() -> None:
    inbox = Inbox()
    inbox.delete(Kind.SERVICE, KEY)
    inbox.update(Kind.SERVICE, service("web"))
    assert inbox.drain().changes == {(Kind.SERVICE, KEY): service("web")}
    inbox.update(Kind.SERVICE, service("web"))
    inbox.delete(Kind.SERVICE, KEY)
    assert inbox.drain().changes == {(Kind.SERVICE, KEY): None}


def test_a_complete_set_replaces_what_waits_of_its_kind_only() -> None:
    inbox = Inbox()
    inbox.update(Kind.SERVICE, service("old"))
    inbox.delete(Kind.ENDPOINT_SLICE, KEY)
    inbox.replace(Kind.SERVICE, {KEY: service("web")})
    inbox.update(Kind.SERVICE, service("newer"))
    batch = inbox.drain()
    assert batch.complete == {Kind.SERVICE: {KEY: service("web")}}
    assert set(batch.changes) == {(Kind.ENDPOINT_SLICE, KEY), (Kind.SERVICE, ObjectKey("shop", "newer"))}


def test_what_comes_together_is_drained_together() -> None:
    inbox, drained = Inbox(), threading.Event()
    batches: list[Batch] = []

    def drain() -> None:
        batches.append(inbox.drain())
        drained.set()

    with inbox.together():
        inbox.replace(Kind.SERVICE, {KEY: service("web")})
        threading.Thread(target=drain).start()
        assert not drained.wait(0.1)
        inbox.replace(Kind.ENDPOINT_SLICE, {})
    assert drained.wait(30)
    assert batches[0].complete.keys() == {Kind.SERVICE, Kind.ENDPOINT_SLICE}


def test_a_drained_inbox_is_empty_and_knows_no_time() -> None:
    inbox = Inbox()
    inbox.update(Kind.SERVICE, service("web"))
    first = inbox.drain()
    assert not first.empty
    assert first.since is not None
    assert inbox.drain().empty


def test_since_is_when_the_oldest_came() -> None:
    inbox = Inbox()
    inbox.update(Kind.SERVICE, service("a"))
    inbox.update(Kind.SERVICE, service("b"))
    earlier = inbox.drain().since
    inbox.report([Problem("Service", KEY, "spec", "bad")])
    later = inbox.drain().since
    assert earlier is not None
    assert later is not None
    assert earlier < later


def test_waiting_ends_when_something_comes() -> None:
    inbox = Inbox()
    assert not inbox.wait(0)
    threading.Timer(0.05, inbox.update, (Kind.SERVICE, service("web"))).start()
    assert inbox.wait(10)


def test_poking_ends_the_wait_with_nothing() -> None:
    inbox = Inbox()
    threading.Timer(0.05, inbox.poke).start()
    assert not inbox.wait(10)
