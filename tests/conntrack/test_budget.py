"""A single look is never kept waiting; many keep to their share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kproxy.conntrack.budget import BURST_SECONDS, FIRST_RETRY, MAX_RETRY, Budget

SHARE = 0.2


def test_what_was_saved_up_may_be_spent_at_once() -> None:
    budget = Budget(SHARE, now=100.0)
    for _ in range(5):
        assert budget.delay(100.0) == 0
        budget.spent(100.0, BURST_SECONDS / 5)
    assert budget.delay(100.0) == 0
    budget.spent(100.0, 0.1)
    assert budget.delay(100.0) == pytest.approx(0.1 / SHARE)
    assert budget.delay(100.0 + 0.1 / SHARE) == pytest.approx(0, abs=1e-9)


def test_no_more_is_saved_up_than_the_limit() -> None:
    budget = Budget(SHARE, now=0.0)
    budget.spent(1e6, BURST_SECONDS + 0.1)
    assert budget.delay(1e6) == pytest.approx(0.1 / SHARE)


@given(costs=st.lists(st.floats(0, 2), max_size=30), share=st.floats(0.01, 1))
def test_the_share_holds_in_the_long_run(costs: list[float], share: float) -> None:
    budget, now, total = Budget(share, now=0.0), 0.0, 0.0
    for cost in costs:
        now += budget.delay(now)
        assert total <= BURST_SECONDS + share * now + 1e-6
        now += cost
        total += cost
        budget.spent(now, cost)


def test_failures_are_tried_again_ever_more_slowly_until_one_goes_well() -> None:
    budget = Budget(SHARE, now=0.0)
    waits = []
    for _ in range(20):
        budget.failed(0.0, 0.0)
        waits.append(budget.delay(0.0))
    assert waits[:3] == [FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY]
    assert waits[-1] == MAX_RETRY
    budget.spent(100.0, 0.0)
    budget.failed(100.0, 0.0)
    assert budget.delay(100.0) == pytest.approx(FIRST_RETRY)
