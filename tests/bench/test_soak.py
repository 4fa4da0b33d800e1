"""What a soak concludes from what it saw: pure, with made-up daemons that leak or don't."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hack.bench.soak.__main__ import main
from hack.bench.soak.plot import even_ticks, log_ticks
from hack.bench.soak.samples import Counted, End, Event, Latency, Record, Sample, common_slope, settled, trends
from hack.bench.soak.schedule import Schedule

HOUR = 3600.0
MODES = ("iptables", "nftables", "iptables", "nftables", "iptables")


def sample(at: float, *, leak: float = 0.0, descriptors: int = 12, threads: int = 10) -> Sample:
    """A daemon that was killed after 6 minutes and changes its mode every 12; it leaks so many MiB an hour."""
    life = 1 if at < HOUR / 10 else 2
    mode = MODES[int(at / HOUR * 4.99)]
    level = {"iptables": 60.0, "nftables": 66.0}[mode]
    wave = 0.2 * (int(at) % 3 - 1)
    return Sample(at, life, mode, level + leak * at / HOUR + wave, descriptors, threads, at / 10)


def run(**more: float) -> list[Sample]:
    return [sample(at, leak=more.get("leak", 0.0)) for at in range(0, 3600, 10)]


def test_a_daemon_that_keeps_its_levels_is_flat() -> None:
    assert [one.flat for one in trends(run())] == [True, True, True]


@pytest.mark.parametrize("leak", [4.0, 40.0])
def test_a_leak_is_found_beneath_the_levels_of_the_modes(leak: float) -> None:
    memory = trends(run(leak=leak))[0]
    assert memory.per_hour == pytest.approx(leak, rel=0.05)
    assert not memory.flat


def test_one_descriptor_more_with_each_change_of_mode_is_found() -> None:
    samples = [sample(at, descriptors=12 + int(at / HOUR * 4.99)) for at in range(0, 3600, 10)]
    assert [one.flat for one in trends(samples)] == [True, False, True]


def test_what_shrinks_is_flat() -> None:
    assert trends(run(leak=-40.0))[0].flat


def test_what_is_looked_at_begins_when_all_has_been_met_once() -> None:
    looked_at = settled(run())
    assert {one.life for one in looked_at} == {2}
    assert [looked_at[0].mode, looked_at[0].at] == ["iptables", pytest.approx(HOUR * 2 / 4.99, abs=10)]
    still = [Sample(at, 1, "iptables", 60, 12, 10, 0) for at in range(100)]
    assert settled(still) == still[50:]


@given(st.floats(-5, 5), st.dictionaries(st.sampled_from("abc"), st.floats(-100, 100), min_size=1))
def test_one_slope_for_all_groups(slope: float, levels: dict[str, float]) -> None:
    points = [(float(at), group, level + slope * at) for group, level in levels.items() for at in range(10)]
    assert common_slope(points) == pytest.approx(slope, abs=1e-6)


def test_nothing_has_no_slope() -> None:
    assert common_slope([]) == common_slope([(1.0, "a", 2.0)]) == 0.0


@given(st.floats(1e-3, 1e6))
def test_ticks_reach_over_the_values(most: float) -> None:
    for ticks in (even_ticks(most), log_ticks(most / 7, most)):
        assert ticks[-1] * 1.0000001 >= most
        assert 2 <= len(ticks) <= 7
        assert ticks == sorted(set(ticks))


def test_told_from_what_was_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = Record(tmp_path / "run.jsonl")
    for at in range(0, 3600, 10):
        record.add(sample(at))
        record.add(Latency(at + 1, 0.02 + at % 7 / 100))
        record.add(Counted(at + 2, 1 if at < 360 else 2, at // 600, 3, 1))
    record.add(Event(360, "kill -9 & <start>"))
    record.add(End(3600, 18_000, 0))
    assert main(["--read", str(tmp_path / "run.jsonl"), "--plot", str(tmp_path / "run.svg")]) == 0
    said = capsys.readouterr().out
    assert "| RSS |" in said
    assert "asked 18,000 times meanwhile was not answered 0 times" in said
    picture = ET.fromstring((tmp_path / "run.svg").read_text())  # noqa: S314 - our own
    texts = [element.text for element in picture.iter() if element.text]
    assert "kill -9 & <start>" in texts
    assert "memory (RSS), MiB" in texts


def test_a_leak_is_an_exit_code(tmp_path: Path) -> None:
    record = Record(tmp_path / "run.jsonl")
    for at in range(0, 3600, 10):
        record.add(sample(at, leak=30.0))
    assert main(["--read", str(tmp_path / "run.jsonl")]) == 1


def test_what_is_due_is_done_in_order_and_what_is_late_only_once() -> None:
    now = 0.0
    done: list[tuple[float, str]] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    def slow() -> None:
        nonlocal now
        done.append((now, "slow"))
        now += 7

    schedule = Schedule(lambda: now, sleep)
    schedule.every(2, lambda: done.append((now, "often")))
    schedule.at(5, slow)
    schedule.run(16)
    assert done == [(2, "often"), (4, "often"), (5, "slow"), *((at, "often") for at in (12, 12, 14, 16))]
    assert now == 16
