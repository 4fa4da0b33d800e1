"""When the next sync may start."""

import pytest

from kproxy.proxier.pacing import FIRST_RETRY, MAX_RETRY, Pacer


def test_the_first_change_after_quiet_waits_for_nothing() -> None:
    assert Pacer(cpu_share=1 / 3).delay(now=100.0) == 0


@pytest.mark.parametrize(("share", "cost", "pause"), [(1 / 3, 0.3, 0.6), (1 / 2, 0.3, 0.3), (1.0, 0.3, 0.0)])
def test_a_sync_is_paid_for_with_a_pause(share: float, cost: float, pause: float) -> None:
    pacer = Pacer(cpu_share=share)
    pacer.succeeded(started=10.0, now=10.5, cpu_seconds=cost)
    assert pacer.delay(now=10.5) == pytest.approx(pause)
    assert pacer.delay(now=10.5 + pause) == pytest.approx(0)


def test_min_period_counts_from_start_to_start() -> None:
    pacer = Pacer(cpu_share=1.0, min_period=2.0)
    pacer.succeeded(started=10.0, now=10.5, cpu_seconds=0.1)
    assert pacer.delay(now=10.5) == pytest.approx(1.5)


def test_failures_double_the_wait_up_to_a_limit_and_success_ends_that() -> None:
    pacer = Pacer(cpu_share=1.0)
    waits = []
    for _ in range(12):
        pacer.failed(now=0.0)
        waits.append(pacer.delay(now=0.0))
    assert waits[:3] == [FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY]
    assert waits[-1] == MAX_RETRY
    pacer.succeeded(started=0.0, now=0.0, cpu_seconds=0.0)
    assert pacer.delay(now=0.0) == 0
    pacer.failed(now=0.0)
    assert pacer.delay(now=0.0) == FIRST_RETRY


def test_churn_costs_no_more_than_the_share() -> None:
    """Changes that never stop, syncs of 0.2 s each: the time spent syncing stays at a third."""
    pacer = Pacer(cpu_share=1 / 3)
    now, busy = 0.0, 0.0
    while now < 100:
        now += pacer.delay(now)
        pacer.succeeded(started=now, now=now + 0.2, cpu_seconds=0.2)
        now, busy = now + 0.2, busy + 0.2
    assert busy / now == pytest.approx(1 / 3, rel=0.02)


def test_a_credit_lets_a_change_follow_an_expensive_sync_at_once_but_not_for_ever() -> None:
    pacer = Pacer(cpu_share=0.5, credit=1.0)
    pacer.succeeded(started=0.0, now=1.0, cpu_seconds=0.6)
    assert pacer.delay(now=1.0) == 0
    pacer.succeeded(started=1.0, now=2.0, cpu_seconds=1.0)
    assert pacer.delay(now=2.0) == 0
    pacer.succeeded(started=2.0, now=3.0, cpu_seconds=1.0)
    assert pacer.delay(now=3.0) == 0
    pacer.succeeded(started=3.0, now=3.5, cpu_seconds=2.0)
    assert pacer.delay(now=3.5) == 1.5  # 2.5 s are owed: half a second of the sync before, and this one's
    assert pacer.delay(now=9.0) == 0


def test_there_is_a_longest_wait_where_one_is_given() -> None:
    pacer = Pacer(cpu_share=0.01, longest=300.0)
    pacer.succeeded(started=0.0, now=10.0, cpu_seconds=10.0)
    assert pacer.delay(now=10.0) == 300.0
    pacer.succeeded(started=310.0, now=310.0, cpu_seconds=0.01)
    assert pacer.delay(now=310.0) == pytest.approx(0.99)
