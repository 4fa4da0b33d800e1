"""The loop: nothing is written too early, nothing is lost by a failure, and what others break is seen to."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from kproxy.api.kinds import Kind
from kproxy.api.types import Node, ObjectKey, Problem, Service
from kproxy.backends.base import BackendError
from kproxy.proxier.observer import Notes
from kproxy.state.model import IPFamily
from kproxy.state.tracker import Change, Tracker
from tests.kit.apiserver.objects import make_node, make_service, make_service_cidr, make_slice
from tests.kit.waiting import eventually
from tests.proxier.kit import NODES, SERVICES, SLICES, WEB, Both, FakeBackend, Recorder, Setup, objects


def test_what_is_listed_gets_applied_to_both_families() -> None:
    setup = Setup()
    with setup.running():
        setup.fill()
        eventually(lambda: setup.v4.endpoints == WEB and setup.v6.calls)
    assert setup.v6.endpoints == {}


@pytest.mark.parametrize("missing", [Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NODE])
def test_nothing_is_written_before_everything_is_listed(missing: Kind) -> None:
    setup = Setup()
    complete = {Kind.NODE: NODES, Kind.SERVICE: SERVICES, Kind.ENDPOINT_SLICE: SLICES}
    with setup.running():
        for kind in complete.keys() - {missing}:
            setup.inbox.replace(kind, complete[kind])
        taken_in = 2 if missing is Kind.NODE else 1
        eventually(lambda: sum(sum(args) for name, args in setup.recorder.events if name == "received") == taken_in)
        assert setup.v4.calls == []
        setup.inbox.replace(missing, complete[missing])
        eventually(lambda: setup.v4.endpoints == WEB)


def test_a_failed_sync_loses_nothing() -> None:
    setup = Setup()
    setup.v4.error = BackendError("the kernel is out of sorts")
    with setup.running():
        setup.fill()
        eventually(lambda: len(setup.v4.calls) >= 2)
        assert "sync_failed" in setup.recorder.names()
        setup.v4.error = None
        eventually(lambda: setup.v4.endpoints == WEB)
    assert all(changed == {"default/web"} for changed, _ in setup.v4.calls)


def test_nothing_is_counted_before_the_rules_are_known() -> None:
    """That there are no counters would mean that there are no Services, and end their series."""
    setup = Setup()
    assert setup.proxier.counts() == {}
    setup.v4.error = BackendError("the kernel is out of sorts")
    with setup.running():
        setup.fill()
        eventually(lambda: setup.proxier.counts().keys() == {IPFamily.IPV6})
        setup.v4.error = None
        eventually(lambda: setup.proxier.counts().keys() == set(IPFamily))
        setup.v4.error = BackendError("again")
        setup.proxier.resync()
        eventually(lambda: setup.recorder.names().count("sync_failed") >= 2)
        assert setup.proxier.counts().keys() == set(IPFamily)


def test_closed_backends_are_let_go_and_asked_for_no_counts() -> None:
    setup = Setup()
    with setup.running():
        setup.fill()
        eventually(lambda: setup.proxier.counts().keys() == set(IPFamily))
    setup.proxier.close()
    assert (setup.v4.closed, setup.v6.closed) == (True, True)
    assert setup.proxier.counts() == {}


def test_a_change_names_only_the_service_it_is_about() -> None:
    setup = Setup()
    with setup.running():
        setup.fill()
        setup.inbox.update(Kind.SERVICE, next(iter(objects(Kind.SERVICE, make_service("db")).values())))
        eventually(lambda: len(setup.v4.endpoints) == 2)
        fewer = objects(Kind.ENDPOINT_SLICE, make_slice("web", endpoints=["10.244.0.11"]))
        setup.inbox.update(Kind.ENDPOINT_SLICE, next(iter(fewer.values())))
        eventually(lambda: setup.v4.endpoints["default/web"] == ["10.244.0.11:80"])
    assert setup.v4.calls[-1] == (frozenset({"default/web"}), False)


def test_a_fresh_list_without_an_object_deletes_it() -> None:
    setup = Setup()
    with setup.running():
        setup.fill()
        eventually(lambda: setup.v4.endpoints)
        setup.inbox.replace(Kind.SERVICE, {})
        eventually(lambda: not setup.v4.endpoints)


def test_drift_is_repaired_by_a_full_comparison() -> None:
    setup = Setup()
    with setup.running():
        setup.fill()
        eventually(lambda: setup.v4.endpoints)
        setup.v4.has_drifted = True
        eventually(lambda: not setup.v4.has_drifted)
    assert setup.v4.calls[-1] == (frozenset(), True)
    assert "drifted" in setup.recorder.names()


def test_all_rules_are_compared_now_and_then() -> None:
    setup = Setup(resync_seconds=0.05)
    with setup.running():
        setup.fill()
        eventually(lambda: sum(full for _, full in setup.v4.calls) >= 3)


def test_problems_are_told_once_for_both_families() -> None:
    setup = Setup()
    bad = make_service("web", cluster_ip="10.96.0.10")
    bad["spec"]["ports"].append({"name": "BAD NAME", "port": 81})
    with setup.running():
        setup.fill()
        setup.inbox.replace(Kind.SERVICE, objects(Kind.SERVICE, bad))
        eventually(lambda: "skipped" in setup.recorder.names())
        eventually(lambda: setup.v4.endpoints == WEB)
    told: list[Sequence[Problem]] = [args[0] for name, args in setup.recorder.events if name == "skipped"]
    assert [len(problems) for problems in told] == [1]
    assert "spec.ports[1].name" in str(told[0][0])


def test_stop_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup()
    with setup.running():
        setup.fill()
        eventually(lambda: setup.v4.endpoints)
        monkeypatch.setattr("kproxy.proxier.loop.DRIFT_CHECK_SECONDS", 600.0)  # it would not look up by itself
        setup.inbox.poke()
    assert setup.v4.endpoints == WEB


def test_a_new_zone_plans_anew() -> None:
    setup = Setup()
    hinted = make_slice("web", endpoints=["10.244.0.11", "10.244.1.12"])
    for endpoint, zone in zip(hinted["endpoints"], ("zone-a", "zone-b"), strict=True):
        endpoint["hints"] = {"forZones": [{"name": zone}]}
    with setup.running():
        setup.fill()
        setup.inbox.replace(Kind.ENDPOINT_SLICE, objects(Kind.ENDPOINT_SLICE, hinted))
        eventually(lambda: setup.v4.endpoints == WEB)
        moved = msgspec.convert(make_node("node-a", zone="zone-b"), Node)
        setup.inbox.update(Kind.NODE, moved)
        eventually(lambda: setup.v4.endpoints == {"default/web": ["10.244.1.12:80"]})


def test_of_a_node_that_is_not_listed_any_more_nothing_is_known() -> None:
    setup = Setup()
    with setup.running():
        setup.fill()
        eventually(lambda: setup.v4.endpoints == WEB)
        setup.inbox.replace(Kind.NODE, {})
        eventually(lambda: setup.recorder.names().count("node_changed") == 2)
    assert [args[0] for name, args in setup.recorder.events if name == "node_changed"][-1] is None


def test_service_cidrs_reach_the_plan() -> None:
    setup = Setup()
    with setup.running():
        setup.fill()
        eventually(lambda: setup.v4.endpoints)
        one = objects(Kind.SERVICE_CIDR, make_service_cidr("kubernetes", "10.96.0.0/12", "fd00:10:96::/112"))
        setup.inbox.replace(Kind.SERVICE_CIDR, one)
        eventually(lambda: setup.v4.service_cidrs == ("10.96.0.0/12",))
        eventually(lambda: setup.v6.service_cidrs == ("fd00:10:96::/112",))
        setup.inbox.replace(Kind.SERVICE_CIDR, {})
        eventually(lambda: setup.v4.service_cidrs == ())


@pytest.mark.parametrize("part", ["drifted", "apply", "counts"])
@pytest.mark.parametrize(
    "error", [OSError(24, "Too many open files"), RuntimeError("a bug"), BackendError("the kernel says no")]
)
def test_no_failure_of_a_part_ends_the_loop(part: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup()
    failing = threading.Event()
    failing.set()
    failed = threading.Event()
    real = getattr(FakeBackend, part)

    def fail(self: FakeBackend, *args: Any, **kwargs: Any) -> Any:
        if failing.is_set() and self.family is IPFamily.IPV4:
            failed.set()
            raise error
        return real(self, *args, **kwargs)

    monkeypatch.setattr(FakeBackend, part, fail)
    with setup.running():
        setup.fill()
        eventually(lambda: setup.v6.calls)
        setup.proxier.counts()
        eventually(failed.is_set)
        failing.clear()
        eventually(lambda: setup.v4.endpoints == WEB)
    if part == "apply":
        assert "sync_failed" in setup.recorder.names()


def test_an_observer_that_fails_is_told_the_next_thing_all_the_same() -> None:
    setup = Setup()
    told: list[str] = []

    def fail(name: str) -> Callable[..., None]:
        def say(*_: Any, **__: Any) -> None:
            told.append(name)
            raise RuntimeError(f"{name} can't be told")

        return say

    class Failing:
        def __getattr__(self, name: str) -> Callable[..., None]:
            return fail(name)

    setup.proxier._observer = Failing()
    with setup.running():
        setup.fill()
        eventually(lambda: setup.v4.endpoints == WEB)
        eventually(lambda: {"received", "queued", "synced", "programmed", "all_synced", "idle"} <= set(told))


def test_an_object_that_can_not_be_taken_in_keeps_no_other_out(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup()
    real = Tracker.update_service

    def fail(self: Tracker, service: Service) -> Change:
        if service.metadata.name == "bad":
            raise RuntimeError("a bug")
        return real(self, service)

    monkeypatch.setattr(Tracker, "update_service", fail)
    bad = objects(Kind.SERVICE, make_service("bad", cluster_ip="10.96.0.9"))
    with setup.running():
        setup.fill()
        setup.inbox.replace(Kind.SERVICE, {**bad, **SERVICES})
        eventually(lambda: setup.v4.endpoints == WEB)


def test_program_times_are_told_for_the_family_of_the_slice_alone() -> None:
    setup = Setup()
    key = "endpoints.kubernetes.io/last-change-trigger-time"
    slices = {
        family: make_slice("web", name=family, endpoints=[ip], address_type=family)
        for family, ip in (("IPv4", "10.244.0.11"), ("IPv6", "fd00::11"))
    }
    for number, made in enumerate(slices.values()):
        made["metadata"]["annotations"] = {key: f"2026-01-01T00:00:0{number}Z"}
    with setup.running():
        setup.inbox.replace(Kind.NODE, NODES)
        setup.inbox.replace(Kind.SERVICE, SERVICES)
        setup.inbox.replace(Kind.ENDPOINT_SLICE, objects(Kind.ENDPOINT_SLICE, *slices.values()))
        eventually(lambda: sum(name == "programmed" for name in setup.recorder.names()) >= 2)
    told = {args[0]: args[1] for name, args in setup.recorder.events if name == "programmed" and args[1]}
    assert told == {IPFamily.IPV4: ["2026-01-01T00:00:00Z"], IPFamily.IPV6: ["2026-01-01T00:00:01Z"]}


def test_it_begins_until_all_is_in_force_for_the_first_time() -> None:
    setup = Setup()
    setup.fill()
    setup.proxier.begin(60)
    assert setup.v4.calls
    assert setup.v6.calls


def test_it_begins_for_so_long_at_most_and_goes_on_afterwards() -> None:
    setup = Setup()
    setup.proxier.begin(0.01)
    assert not setup.v4.calls
    with setup.running():
        setup.fill()
        eventually(lambda: bool(setup.v4.calls))


def test_who_comes_later_hears_of_all_that_has_happened_in_its_order() -> None:
    notes, heard, later = Notes(), Recorder(), Recorder()
    setup = Setup()
    setup.proxier.tell(Both(notes, heard))
    setup.inbox.report([Problem(Kind.SERVICE, ObjectKey("ns", "web"), "spec", "nonsense")])
    setup.v4.error = BackendError("the kernel says no")
    setup.fill()
    while "sync_failed" not in heard.names():
        setup.proxier.begin(0.05)
    setup.v4.error, setup.v6.has_drifted = None, True
    setup.proxier.begin(60)
    assert {"skipped", "sync_failed", "drifted", "all_synced"} <= set(heard.names())
    notes.pass_on(later)
    assert later.events == [event for event in heard.events if event[0] != "idle"]
    notes.pass_on(later)
    assert len(later.events) == len([name for name in heard.names() if name != "idle"])
