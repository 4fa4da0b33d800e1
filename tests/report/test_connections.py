"""Totals of connections are kept for the next start before anybody sees them."""

from pathlib import Path
from typing import cast

import pytest

from kproxy.backends.base import Counts
from kproxy.proxier.loop import Proxier
from kproxy.report.connections import ConnectionReader
from kproxy.report.metrics import ConnectionCounters, Store
from kproxy.state.model import IPFamily, Protocol, ServicePortName

WEB = ServicePortName("default", "web", "http", Protocol.TCP)
ENDPOINT = (WEB, "10.244.0.11:8080")


class Rules:
    """As much of a proxier as is asked here, with one rule that counts; None while it knows no rules."""

    def __init__(self, counter: int | None = None) -> None:
        self.counter = counter

    def counts(self) -> dict[IPFamily, Counts]:
        if self.counter is None:
            return {}
        return {IPFamily.IPV4: Counts({WEB: self.counter}, {ENDPOINT: self.counter}, {}, {})}


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


def test_where_nothing_can_be_kept_there_is_counting_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert reader(Rules(5), tmp_path / "file").read().services == {WEB: 5}
    assert "the totals can't be kept for the next start" in caplog.text
    assert reader(Rules(5), None).read().services == {WEB: 5}


def test_totals_that_make_no_sense_are_left_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "counters.json").write_text("{")
    assert reader(Rules(5), tmp_path).read().services == {WEB: 5}
    assert "counting begins anew" in caplog.text
