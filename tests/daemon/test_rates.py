"""Connections a second: by the times at which counters were read, which may be seldom."""

from types import SimpleNamespace
from typing import Any

from kproxy.daemon.rates import Rates
from kproxy.state.model import Protocol, ServicePortName

WEB = ServicePortName("shop", "web", "http", Protocol.TCP)


class Node:
    """Ten connections a second; counters are read every so many seconds, and kept in between."""

    def __init__(self, every: float = 0.0) -> None:
        self.now = 100.0
        self._every = every
        self._read_at = float("-inf")
        self.sleeps = 0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.sleeps += 1

    def read(self) -> Any:
        if self.now - self._read_at >= self._every:
            self._read_at = self.now
        total = round(10 * self._read_at)
        return SimpleNamespace(services={WEB: total}, rejected={}, dropped={}, age=self.now - self._read_at)


def rates(node: Node) -> Rates:
    return Rates(node.read, node.clock, node.sleep)


def a_second(found: Any) -> list[float]:
    return [rate.per_second for rate in found[0]]


def test_a_first_look_takes_two_readings_and_later_ones_one() -> None:
    node = Node()
    asked = rates(node)
    assert a_second(asked.read()) == [10.0]
    for pause in (2.0, 0.1, 30.0):
        node.now += pause
        assert a_second(asked.read()) == [10.0]
    assert node.sleeps == 1


def test_between_readings_that_are_dear_the_last_rate_stays() -> None:
    node = Node(every=10.0)
    asked = rates(node)
    asked.read()
    node.now += 10.0
    for _ in range(12):
        assert a_second(asked.read()) == [10.0]
        node.now += 2.0


def test_who_looks_away_for_long_is_told_of_the_present() -> None:
    node = Node()
    asked = rates(node)
    asked.read()
    node.now += 10_000.0
    assert a_second(asked.read()) == [10.0]
    assert node.sleeps == 2
