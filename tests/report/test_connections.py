"""Totals of connections are kept for the next start before anybody sees them."""

from pathlib import Path
from typing import cast

from kproxy.backends.base import Counter, Counts, Of
from kproxy.proxier.loop import Proxier
from kproxy.report.connections import ConnectionReader
from kproxy.report.metrics import ConnectionCounters, Store
from kproxy.report.ration import CHEAP_SECONDS, SAVED_SECONDS, SHARE
from kproxy.state.model import IPFamily, Protocol, ServicePortName
from tests.kit.logged import Logged

WEB = ServicePortName("default", "web", "http", Protocol.TCP)
ENDPOINT = "10.244.0.11:8080"


class Rules:
    """As much of a proxier as is asked here, with one rule that counts; None while it knows no rules."""

    def __init__(self, counter: int | None = None) -> None:
        self.counter = counter
        self.asked = 0

    def counts(self) -> dict[IPFamily, Counts]:
        self.asked += 1
        if self.counter is None:
            return {}
        counter = Counter(ENDPOINT, Of.CONNECTIONS, self.counter, ENDPOINT)
        return {IPFamily.IPV4: Counts(services=[WEB], endpoints={WEB: [counter]})}


def reader(rules: Rules, state: Path | None) -> ConnectionReader:
    store = Store(state) if state is not None else None
    return ConnectionReader(cast("Proxier", rules), ConnectionCounters(), store)


def test_who_was_killed_goes_on_from_what_was_shown_last(tmp_path: Path) -> None:
    rules = Rules(5)
    before = reader(rules, tmp_path)
    assert before.read().services == {WEB: 5}
    rules.counter = 3  # it was rewritten
    assert before.read().services == {WEB: 8}
    rules.counter = 4
    assert reader(rules, tmp_path).read().services == {WEB: 9}


def test_totals_of_before_are_shown_until_the_rules_are_known(tmp_path: Path) -> None:
    rules = Rules(5)
    reader(rules, tmp_path).read()
    rules.counter = None
    after = reader(rules, tmp_path)
    assert after.read().services == {WEB: 5}
    rules.counter = 6
    assert after.read().services == {WEB: 6}


def test_where_nothing_can_be_kept_there_is_counting_all_the_same(tmp_path: Path, logged: Logged) -> None:
    (tmp_path / "file").touch()
    assert reader(Rules(5), tmp_path / "file").read().services == {WEB: 5}
    assert "the totals can't be kept for the next start" in logged.text
    assert reader(Rules(5), None).read().services == {WEB: 5}


def test_totals_that_make_no_sense_are_left_and_told(tmp_path: Path, logged: Logged) -> None:
    (tmp_path / "counters.json").write_text("{")
    assert reader(Rules(5), tmp_path).read().services == {WEB: 5}
    assert "counting begins anew" in logged.text


class Clock:
    """Time and processor time; each reading takes so much of both."""

    def __init__(self, cost: float) -> None:
        self.now, self.used, self.cost = 1000.0, 0.0, cost

    def time(self) -> float:
        return self.now

    def cpu(self) -> float:
        self.used += self.cost / 2  # it is asked before and after
        return self.used


def timed(rules: Rules, clock: Clock) -> ConnectionReader:
    return ConnectionReader(cast("Proxier", rules), ConnectionCounters(), None, clock=clock.time, cpu=clock.cpu)


def test_what_is_cheap_is_read_whenever_somebody_asks() -> None:
    rules, clock = Rules(1), Clock(2 * CHEAP_SECONDS - 0.001)
    reading = timed(rules, clock)
    for asked in range(1, 200):
        rules.counter = asked
        assert reading.read().services == {WEB: asked}
        assert reading.read().age == 0


def test_what_is_dear_is_read_for_a_share_of_a_core_and_its_age_is_told() -> None:
    rules, clock = Rules(1), Clock(2 * 0.4)
    reading = timed(rules, clock)
    hours = 2
    for second in range(0, hours * 3600, 15):
        clock.now = 1000.0 + second
        rules.counter = 1 + second
        found = reading.read()
        assert found.age is not None
        assert found.age <= 0.4 / SHARE + 15
        assert found.services == {WEB: 1 + second - found.age}
    assert 0.9 * SHARE < rules.asked * 0.4 / (hours * 3600) < SHARE + 2 * SAVED_SECONDS / (hours * 3600)


def test_at_the_end_even_what_is_dear_is_read() -> None:
    rules, clock = Rules(1), Clock(20.0)
    reading = timed(rules, clock)
    reading.read()
    rules.counter = 5
    assert reading.read().services == {WEB: 1}
    assert reading.read(surely=True).services == {WEB: 5}


def test_no_age_is_told_of_what_was_never_read() -> None:
    assert reader(Rules(None), None).read().age is None
