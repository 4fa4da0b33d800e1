"""How long to wait before trying again."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kproxy.api.watch.backoff import Backoff


def test_backoff_doubles_up_to_its_limit() -> None:
    backoff = Backoff(0.8, 30, rand=lambda: 0.0)
    assert [backoff.next() for _ in range(8)] == [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]
    backoff.reset()
    assert backoff.next() == 0.8


def test_backoff_stays_finite() -> None:
    backoff = Backoff(rand=lambda: 1.0)
    backoff.failures = 10**9
    assert backoff.next() == 60


@pytest.mark.parametrize(("asked", "delay"), [(0.1, 0.8), (5.0, 5.0), (10**6, 120.0)])
def test_backoff_waits_as_long_as_asked_within_reason(asked: float, delay: float) -> None:
    assert Backoff(0.8, rand=lambda: 0.0).next(asked) == delay


@settings(deadline=None)  # other tests may be running
@given(st.floats(0, 1, exclude_max=True), st.floats(0, 100))
def test_backoff_is_spread_but_never_shorter_than_asked(share: float, asked: float) -> None:
    assert asked <= Backoff(rand=lambda: share).next(asked) <= max(1.6, asked + 0.8)
