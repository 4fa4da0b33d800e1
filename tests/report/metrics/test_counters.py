"""Totals only grow, whatever the rules' own counters do, and survive a restart."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kproxy.backends.base import Counts
from kproxy.report.metrics import ConnectionCounters, Reading, Store
from kproxy.report.metrics.counters import Ledger
from kproxy.state.model import IPFamily, Protocol, ServicePortName

V4, V6 = IPFamily.IPV4, IPFamily.IPV6
A = ServicePortName("ns", "a", "http", Protocol.TCP)
B = ServicePortName("ns", "b", "", Protocol.UDP)
ONE, TWO = "10.0.0.1:80", "10.0.0.2:80"


def reading(
    services: dict[ServicePortName, int],
    endpoints: dict[tuple[ServicePortName, str], int] | None = None,
    *,
    family: IPFamily = V4,
    live: tuple[ServicePortName, ...] = (A, B),
    invalid_dropped: int | None = None,
) -> Reading:
    """Where no endpoints are given, each service has one."""
    if endpoints is None:
        endpoints = {(name, ONE): count for name, count in services.items()}
    return Reading(family, Counts(services, endpoints, {}, {}, invalid_dropped), live)


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
    ledger = Ledger[str]()
    seen = []
    for value in readings:
        ledger.read([] if value is None else [("k", value)])
        seen.append(ledger.totals.get("k", 0))
    assert seen == totals


@given(st.lists(st.none() | st.integers(min_value=0, max_value=50), max_size=20))
def test_a_total_never_falls_and_misses_nothing_it_could_see(readings: list[int | None]) -> None:
    ledger = Ledger[str]()
    last_total, last_value = 0, 0
    for value in readings:
        ledger.read([] if value is None else [("k", value)])
        total = ledger.totals.get("k", 0)
        expected = 0 if value is None else value - last_value if value >= last_value else value
        assert total - last_total == expected
        last_total, last_value = total, value or 0


def test_families_add_up_and_are_kept_apart() -> None:
    counters = ConnectionCounters()
    counters.fold(reading({A: 5, B: 1}))
    counters.fold(reading({A: 2}, family=V6))
    assert counters.services == {A: 7, B: 1}
    counters.fold(reading({A: 6, B: 1}))
    assert counters.services == {A: 8, B: 1}


def test_a_deleted_services_series_end_and_a_new_one_starts_at_its_own_count() -> None:
    counters = ConnectionCounters()
    counters.fold(reading({A: 5}, {(A, ONE): 5}))
    counters.fold(reading({}, live=(B,)))
    assert counters.services == {}
    assert counters.endpoints == {}
    counters.fold(reading({A: 2}))
    assert counters.services == {A: 2}


def test_an_endpoint_that_goes_does_not_count_those_that_stay_once_more() -> None:
    counters = ConnectionCounters()
    counters.fold(reading({A: 30}, {(A, ONE): 10, (A, TWO): 20}))
    counters.fold(reading({A: 11}, {(A, ONE): 11}))
    assert counters.services == {A: 31}
    counters.fold(reading({A: 13}, {(A, ONE): 11, (A, TWO): 2}))
    assert counters.services == {A: 33}
    assert counters.endpoints == {(A, ONE): 11, (A, TWO): 22}


def test_a_service_counts_without_endpoints_being_shown() -> None:
    counters = ConnectionCounters(max_endpoints=0)
    counters.fold(reading({A: 30}, {(A, ONE): 10, (A, TWO): 20}))
    counters.fold(reading({A: 11}, {(A, ONE): 11}))
    assert counters.services == {A: 31}
    assert counters.endpoints == {}
    assert counters.omitted == {"services": 0, "endpoints": 0}


def test_a_service_without_endpoints_keeps_its_total() -> None:
    counters = ConnectionCounters()
    counters.fold(reading({A: 5}))
    counters.fold(reading({}))
    counters.fold(reading({A: 1}))
    assert counters.services == {A: 6}


def test_past_endpoints_are_remembered_within_bounds() -> None:
    counters = ConnectionCounters(max_endpoints=10)
    for number in range(200):
        counters.fold(reading({}, {(A, f"10.0.0.{number}:80"): 1}))
    assert len(counters._families[V4].endpoints) == 20
    assert (A, "10.0.0.199:80") in counters._families[V4].endpoints.totals
    assert len(counters.endpoints) == 10
    assert counters.omitted == {"services": 0, "endpoints": 10}


def test_the_busiest_services_are_shown_where_there_are_too_many() -> None:
    counters = ConnectionCounters(max_services=1)
    counters.fold(reading({A: 5, B: 6}))
    assert counters.services == {B: 6}
    assert counters.omitted["services"] == 1


def test_no_endpoints_are_kept_where_none_are_wanted() -> None:
    counters = ConnectionCounters(max_endpoints=0)
    counters.fold(reading({A: 5}, {(A, ONE): 5}))
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
    before.fold(reading({A: 5, B: 1}, {(A, ONE): 3, (A, TWO): 2, (B, ONE): 1}, invalid_dropped=9))
    before.fold(reading({A: 1}, {(A, ONE): 1}, invalid_dropped=10))
    store = Store(root / "state", root)
    store.save(before)
    after = ConnectionCounters()
    store.load(after)
    assert after.services == before.services == {A: 6, B: 1}
    assert after.endpoints == before.endpoints
    after.fold(reading({A: 4, B: 2}, {(A, ONE): 2, (A, TWO): 1, (B, ONE): 2}, invalid_dropped=11))
    assert after.services == {A: 8, B: 3}, "B had no rule when the state was saved: its 2 are new"
    assert after.endpoints == {(A, ONE): 5, (A, TWO): 3, (B, ONE): 3}
    assert after.packets("invalid_dropped") == 11


def test_after_a_reboot_counting_starts_anew(root: Path) -> None:
    counters = ConnectionCounters()
    counters.fold(reading({A: 5}))
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


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"boot": 1}', b'{"boot": "b", "families": {"ipv5": {}}}'])
def test_a_broken_state_is_said_to_be_broken(root: Path, content: bytes) -> None:
    (root / "counters.json").write_bytes(content)
    with pytest.raises(ValueError, match="not a state of kproxy's counters") as caught:
        Store(root, root).load(ConnectionCounters())
    assert "\n" not in str(caught.value)


def test_a_state_that_can_not_be_written_leaves_the_old_one(root: Path) -> None:
    counters = ConnectionCounters()
    counters.fold(reading({A: 5}))
    store = Store(root / "state", root)
    store.save(counters)
    (root / "state" / "counters.new").mkdir()
    with pytest.raises(OSError, match="new"):
        store.save(ConnectionCounters())
    again = ConnectionCounters()
    store.load(again)
    assert again.services == {A: 5}
