"""When a list is made that should not be needed: rarely on suspicion, at once where it is certain, never in step."""

from collections.abc import Callable

import pytest

from kproxy.api.watch.relists import Reason, Relists


def clockwork(rand: float = 0.0) -> tuple[Relists, Callable[[float], None]]:
    now = [1000.0]
    relists = Relists(90.0, clock=lambda: now[0], rand=lambda: rand)

    def go(seconds: float) -> None:
        now[0] += seconds

    return relists, go


def test_suspicion_is_listed_again_rarely() -> None:
    relists, go = clockwork()
    relists.listed()
    relists.suspect(Reason.SILENCE, "x")
    go(269)
    assert relists.due() is None
    assert relists.pause() == pytest.approx(1)
    go(2)
    due = relists.due()
    assert due is not None
    assert due.reason is Reason.SILENCE
    relists.listed()
    assert relists.due() is None


def test_certainty_is_listed_again_at_once_but_not_ever_again() -> None:
    relists, go = clockwork()
    relists.suspect(Reason.HISTORY, "x")
    assert relists.due() is not None
    relists.listed()
    relists.suspect(Reason.HISTORY, "x")
    go(89)
    assert relists.due() is None
    go(2)
    assert relists.due() is not None


def test_certainty_overtakes_a_suspicion() -> None:
    relists, go = clockwork()
    relists.listed()
    go(100)
    relists.suspect(Reason.SILENCE, "x")
    relists.suspect(Reason.HISTORY, "y")
    relists.suspect(Reason.SILENCE, "z")
    due = relists.due()
    assert due is not None
    assert due.text == "y"


def test_outage_is_followed_by_a_list_late_and_later_where_lists_are_large() -> None:
    for size, wait in ((10_000, 600), (60_000_000, 60_000)):
        relists, go = clockwork()
        relists.listed(size)
        relists.suspect(Reason.OUTAGE, "x")
        go(wait - 1)
        assert relists.due() is None
        go(2)
        assert relists.due() is not None


def test_outage_counts_from_its_end() -> None:
    """Else all nodes would list at the moment when the server is back."""
    relists, go = clockwork()
    for _ in range(100):
        relists.suspect(Reason.OUTAGE, "x")
        go(60)
    assert relists.due() is None
    go(541)
    assert relists.due() is not None


def test_what_is_withdrawn_leaves_the_rest() -> None:
    relists, go = clockwork()
    relists.suspect(Reason.OUTAGE, "x")
    relists.suspect(Reason.HISTORY, "y", watch_on=True)
    assert relists.pause() == 0.0
    relists.withdraw(Reason.HISTORY)
    assert relists.due() is None
    go(601)
    due = relists.due()
    assert due is not None
    assert due.reason is Reason.OUTAGE


def test_nodes_are_spread() -> None:
    waits = []
    for share in (0.0, 0.25, 0.999):
        relists, _ = clockwork(share)
        relists.suspect(Reason.HISTORY, "x")
        waits.append(round(relists.pause(), 1))
    assert waits == [0.0, 2.5, 10.0]
    assert relists.spread == 10.0
