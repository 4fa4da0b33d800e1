"""Totals only grow, whatever the rules' own counters do, and survive a restart."""

import itertools
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kproxy.backends.base import Counter, Counts, Of
from kproxy.report.metrics import ConnectionCounters, Reading, Store
from kproxy.report.metrics.accounts import Account
from kproxy.state.model import IPFamily, Protocol, ServicePortName

V4, V6 = IPFamily.IPV4, IPFamily.IPV6
A = ServicePortName("ns", "a", "http", Protocol.TCP)
B = ServicePortName("ns", "b", "", Protocol.UDP)
ONE, TWO = "10.0.0.1:80", "10.0.0.2:80"


def reading(
    endpoints: dict[tuple[ServicePortName, str], int],
    *,
    family: IPFamily = V4,
    services: tuple[ServicePortName, ...] = (A, B),
    invalid_dropped: int | None = None,
) -> Reading:
    """What endpoints have counted, of all services."""
    counters: dict[ServicePortName, list[Counter]] = {name: [] for name in services}
    for (name, endpoint), packets in endpoints.items():
        counters[name].append(Counter(endpoint, Of.CONNECTIONS, packets, endpoint))
    there = {name: [counter.endpoint for counter in its] for name, its in counters.items()}
    counts = Counts(
        services=services,
        endpoints=counters,
        there=there,
        number_of_endpoints=len(endpoints),
        invalid_dropped=invalid_dropped,
    )
    return Reading(family, counts)


@pytest.mark.parametrize(
    ("readings", "totals"),
    [
        ([3], [3]),
        ([3, 5], [3, 5]),
        ([3, 3], [3, 3]),
        ([3, 1], [3, 4]),
        ([3, 0, 2], [3, 3, 5]),
        ([3, None, 2], [3, 3, 5]),
        ([3, None, 4], [3, 3, 7]),
        ([None, 2], [0, 2]),
        ([3, None, None, 3, 4], [3, 3, 3, 6, 7]),
    ],
)
def test_a_total_over_rewritten_and_vanished_rules(readings: list[int | None], totals: list[int]) -> None:
    account = Account()
    seen = []
    for value in readings:
        account.take([] if value is None else [Counter("k", Of.CONNECTIONS, value)])
        seen.append(account.connections)
    assert seen == totals


@given(st.lists(st.none() | st.integers(min_value=0, max_value=50), max_size=20))
def test_a_total_never_falls_and_misses_nothing_it_could_see(readings: list[int | None]) -> None:
    account = Account()
    last_total, last_value = 0, 0
    for value in readings:
        account.take([] if value is None else [Counter("k", Of.CONNECTIONS, value)])
        expected = 0 if value is None else value - last_value if value >= last_value else value
        assert account.connections - last_total == expected
        last_total, last_value = account.connections, value or 0


@given(st.lists(st.tuples(st.integers(0, 50), st.sampled_from(["read", "end", "neither"])), max_size=30))
def test_nothing_is_lost_of_counters_that_end(steps: list[tuple[int, str]]) -> None:
    """A counter is read now and then, and tells its last value when it goes; another takes its place."""
    account = Account()
    value = met = 0
    for packets, then in steps:
        value, met = value + packets, met + packets
        if then == "read":
            account.take([Counter("k", Of.REJECTED, value)])
            assert account.rejected == met
        elif then == "end":
            account.end(Counter("k", Of.REJECTED, value))
            assert account.rejected == met
            value = 0


def test_what_only_an_endpoint_counts_is_no_more_connections() -> None:
    account = Account()
    account.take([Counter("front", Of.CONNECTIONS, 5)])
    account.take_endpoints([Counter("end", Of.ENDPOINT, 4, ONE)])
    account.end(Counter("end", Of.ENDPOINT, 5, ONE))
    assert (account.connections, account.endpoints) == (5, {ONE: 5})


def test_who_is_not_told_of_has_not_moved() -> None:
    counters = ConnectionCounters()
    counters.fold(reading({(A, ONE): 5, (B, ONE): 1}))
    counters.fold(Reading(V4, Counts(services=(A, B), endpoints={B: [Counter(ONE, Of.CONNECTIONS, 3, ONE)]})))
    counters.fold(reading({(A, ONE): 6, (B, ONE): 3}))
    assert counters.services == {A: 6, B: 3}


def test_families_add_up_and_are_kept_apart() -> None:
    counters = ConnectionCounters()
    counters.fold(reading({(A, ONE): 5, (B, ONE): 1}))
    counters.fold(reading({(A, ONE): 2}, family=V6))
    assert counters.services == {A: 7, B: 1}
    counters.fold(reading({(A, ONE): 6, (B, ONE): 1}))
    assert counters.services == {A: 8, B: 1}


def test_a_deleted_services_series_end_and_a_new_one_starts_at_its_own_count() -> None:
    counters = ConnectionCounters()
    counters.fold(reading({(A, ONE): 5}))
    counters.fold(reading({}, services=(B,)))
    assert counters.services == {B: 0}
    assert counters.endpoints == {}
    counters.fold(reading({(A, ONE): 2}))
    assert counters.services == {A: 2, B: 0}


def test_an_endpoint_that_goes_does_not_count_those_that_stay_once_more() -> None:
    counters = ConnectionCounters()
    counters.fold(reading({(A, ONE): 10, (A, TWO): 20}))
    counters.fold(reading({(A, ONE): 11}))
    assert counters.services == {A: 31, B: 0}
    counters.fold(reading({(A, ONE): 11, (A, TWO): 2}))
    assert counters.services == {A: 33, B: 0}
    assert counters.endpoints == {(A, ONE): 11, (A, TWO): 22}


def test_a_service_counts_without_endpoints_being_shown() -> None:
    counters = ConnectionCounters(max_endpoints=0)
    counters.fold(reading({(A, ONE): 10, (A, TWO): 20}))
    counters.fold(reading({(A, ONE): 11}))
    assert counters.services == {A: 31, B: 0}
    assert counters.endpoints == {}
    assert counters.omitted == {"services": 0, "endpoints": 0}


def test_a_service_without_endpoints_keeps_its_total() -> None:
    counters = ConnectionCounters()
    counters.fold(reading({(A, ONE): 5}))
    counters.fold(reading({}))
    counters.fold(reading({(A, ONE): 1}))
    assert counters.services == {A: 6, B: 0}


def test_past_endpoints_are_remembered_within_bounds() -> None:
    counters = ConnectionCounters(max_endpoints=10)
    for number in range(200):
        counters.fold(reading({(A, f"10.0.0.{number}:80"): 1}))
    assert len(counters.endpoints_of([A])) == 20
    assert (A, "10.0.0.199:80") in counters.endpoints_of([A])
    assert len(counters.endpoints) == 10
    assert counters.omitted == {"services": 0, "endpoints": 10}


def test_of_endpoints_that_are_gone_none_is_remembered_that_was_given_nothing() -> None:
    """A Service that is rolled out again and again would fill the bounds with noughts, and memory."""
    counters = ConnectionCounters()
    for number in range(200):
        counters.fold(reading({(A, ONE): 3, (A, f"10.0.1.{number}:80"): 0}))
    assert counters.endpoints == {(A, ONE): 3, (A, "10.0.1.199:80"): 0}
    assert counters.families[V4].held == 2
    counters.fold(reading({(A, TWO): 0}))
    assert counters.endpoints == {(A, ONE): 3, (A, TWO): 0}


def test_what_ends_after_its_endpoint_was_gone_is_counted_within_bounds() -> None:
    counters = ConnectionCounters(max_endpoints=10)
    for number in range(200):
        ended = Counter("k", Of.CONNECTIONS, 1, f"10.0.1.{number}:80")
        counters.fold(Reading(V4, Counts(services=(A,), ended=[(A, ended)])))
    assert len(counters.endpoints_of([A])) == counters.families[V4].held == 20
    assert counters.services == {A: 200}


def test_the_busiest_services_are_shown_where_there_are_too_many() -> None:
    counters = ConnectionCounters(max_services=1)
    counters.fold(reading({(A, ONE): 5, (B, ONE): 6}))
    assert counters.services == {B: 6}
    assert counters.omitted["services"] == 1


def test_no_endpoints_are_kept_where_none_are_wanted() -> None:
    counters = ConnectionCounters(max_endpoints=0)
    counters.fold(reading({(A, ONE): 5}))
    assert counters.endpoints == {}


def test_single_counters() -> None:
    counters = ConnectionCounters()
    assert counters.packets("invalid_dropped") is None
    counters.fold(reading({}, invalid_dropped=4))
    counters.fold(reading({}, family=V6, invalid_dropped=1))
    counters.fold(reading({}, invalid_dropped=3))
    assert counters.packets("invalid_dropped") == 8
    assert counters.packets("localhost_accepted") is None


@pytest.fixture
def root(tmp_path: Path) -> Path:
    boot = tmp_path / "proc/sys/kernel/random/boot_id"
    boot.parent.mkdir(parents=True)
    boot.write_text("this-boot\n")
    return tmp_path


def test_a_restart_goes_on_where_the_rules_counters_are(root: Path) -> None:
    before = ConnectionCounters()
    before.fold(reading({(A, ONE): 3, (A, TWO): 2, (B, ONE): 1}, invalid_dropped=9))
    before.fold(reading({(A, ONE): 1}, invalid_dropped=10))
    store = Store(root / "state", root)
    store.save(before)
    after = ConnectionCounters()
    store.load(after)
    assert after.services == before.services == {A: 6, B: 1}
    assert after.endpoints == before.endpoints
    after.fold(reading({(A, ONE): 2, (A, TWO): 1, (B, ONE): 2}, invalid_dropped=11))
    assert after.services == {A: 8, B: 3}, "B had no rule when the state was saved: its 2 are new"
    assert after.endpoints == {(A, ONE): 5, (A, TWO): 3, (B, ONE): 3}
    assert after.packets("invalid_dropped") == 11


def test_after_a_reboot_counting_starts_anew(root: Path) -> None:
    counters = ConnectionCounters()
    counters.fold(reading({(A, ONE): 5}))
    store = Store(root / "state", root)
    store.save(counters)
    (root / "proc/sys/kernel/random/boot_id").write_text("next-boot\n")
    after = ConnectionCounters()
    store.load(after)
    assert after.services == {}


def test_no_state_is_a_start_from_nothing(root: Path) -> None:
    counters = ConnectionCounters()
    Store(root / "nowhere", root).load(counters)
    assert counters.services == {}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"boot": 1}',
        b'{"boot": "this-boot"}\n{"family": "ipv5"}\n',
        b'{"boot": "\xff"}\n',
        b'{"more": ' + b"[" * 100_000,
    ],
    ids=["empty", "not JSON", "a list", "a number for a boot", "no family", "half a character", "nested too deeply"],
)
def test_a_broken_state_is_said_to_be_broken(root: Path, content: bytes) -> None:
    (root / "counters.json").write_bytes(content)
    with pytest.raises(ValueError, match="not a state of kproxy's counters") as caught:
        Store(root, root).load(ConnectionCounters())
    assert "\n" not in str(caught.value)


def test_a_state_that_can_not_be_written_leaves_the_old_one(root: Path) -> None:
    counters = ConnectionCounters()
    counters.fold(reading({(A, ONE): 5}))
    store = Store(root / "state", root)
    store.save(counters)
    (root / "state" / "counters.new").mkdir()
    with pytest.raises(OSError, match="new"):
        Store(root / "state", root).save(ConnectionCounters())
    again = ConnectionCounters()
    store.load(again)
    assert again.services == {A: 5}


def test_what_the_disk_had_no_room_for_is_written_when_it_has(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kept() -> Mapping[ServicePortName, int]:
        counters = ConnectionCounters()
        Store(root / "state", root).load(counters)
        return counters.services

    def write_some(descriptor: int, data: bytes, write: Callable[[int, bytes], int] = os.write) -> int:
        return write(descriptor, data[:20])

    counters, store = ConnectionCounters(), Store(root / "state", root)
    counters.fold(reading({(A, ONE): 5}))
    store.save(counters)
    counters.fold(reading({(A, ONE): 6}))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_some)
        with pytest.raises(OSError, match="could not be written to its end"):
            store.save(counters)
    assert kept() == {A: 5}
    store.save(counters)
    assert kept() == {A: 6}


def test_what_is_saved_is_what_moved_and_the_file_is_made_anew_now_and_then(root: Path) -> None:
    counters, store = ConnectionCounters(), Store(root / "state", root)
    file = root / "state" / "counters.json"
    sizes = []
    for number in range(6000):
        endpoints = {(A, ONE): number, (A, "10.0.0.7:80"): 7}
        counters.fold(reading({**endpoints, (B, ONE): 1} if number > 10 else endpoints))
        store.save(counters)
        sizes.append(file.stat().st_size)
    assert sizes[100] - sizes[99] == sizes[101] - sizes[100] < 300, "more was written than service A's line"
    assert 1 << 20 < max(sizes) < 3 << 20
    assert any(after < before for before, after in itertools.pairwise(sizes))
    store.save(counters)
    assert file.stat().st_size == sizes[-1], "nothing had moved"
    after = ConnectionCounters()
    Store(root / "state", root).load(after)
    assert after.services == counters.services == {A: 6006, B: 1}
    assert after.endpoints == {key: total for key, total in counters.endpoints.items() if total}


def test_a_service_that_is_gone_does_not_come_back_with_a_restart(root: Path) -> None:
    counters, store = ConnectionCounters(), Store(root / "state", root)
    counters.fold(reading({(A, ONE): 5, (B, ONE): 1}))
    store.save(counters)
    counters.fold(reading({(B, ONE): 1}, services=(B,)))
    store.save(counters)
    after = ConnectionCounters()
    Store(root / "state", root).load(after)
    assert after.services == {B: 1}


def test_a_line_that_was_not_written_to_its_end_is_as_if_it_had_not_been_begun(root: Path) -> None:
    counters, store = ConnectionCounters(), Store(root / "state", root)
    for number in (5, 6):
        counters.fold(reading({(A, ONE): number}))
        store.save(counters)
    file = root / "state" / "counters.json"
    file.write_bytes(file.read_bytes()[:-5])
    after = ConnectionCounters()
    Store(root / "state", root).load(after)
    assert after.services == {A: 5}
