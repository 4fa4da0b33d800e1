"""In turn: each endpoint gets exactly as many connections as any other, wherever the turns stood at first."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kproxy.backends.iptables.compile.draw import GROUP, flat_turn, split_turn
from kproxy.backends.iptables.rules.ruleset import Chain, DestinationNat, Jump, Rule, Turn
from kproxy.state.model import Endpoint
from tests.backends.iptables.compile.test_draw import depth, endpoints, to_endpoint
from tests.kit.examples import chances
from tests.kit.semantics import examples

CHAIN = "KUBE-SVC-X"


def turn_of(rule: Rule) -> int:
    """Every how many connections a rule takes one; 0 where it takes all."""
    turns = [match.every for match in rule.matches if isinstance(match, Turn)]
    assert len(turns) < 2
    return sum(turns)


class Counting:
    """Walks rules as the kernel does, with a count for each (xt_statistic.c, mode nth)."""

    def __init__(self, chains: dict[str, Chain], chance: Random) -> None:
        self._chains = {chain: [(turn_of(rule), rule.target) for rule in rules] for chain, rules in chains.items()}
        self._chance = chance
        self._counts: dict[tuple[str, int], int] = {}

    def connect(self, chain: str = CHAIN) -> str:
        for number, (every, target) in enumerate(self._chains[chain]):
            if not every or self._is_due((chain, number), every):
                if isinstance(target, Jump):
                    return self.connect(target.chain)
                assert isinstance(target, DestinationNat)
                return target.ip
        raise AssertionError("no rule took the connection")

    def begin_anew(self) -> None:
        self._counts.clear()

    def _is_due(self, rule: tuple[str, int], every: int) -> bool:
        count = self._counts.get(rule)
        if count is None:
            count = self._chance.randrange(every)
        self._counts[rule] = (count + 1) % every
        return self._counts[rule] == 0


def flat(some: list[Endpoint]) -> dict[str, Chain]:
    return {CHAIN: flat_turn(some, to_endpoint)}


def split(some: list[Endpoint]) -> dict[str, Chain]:
    return split_turn(CHAIN, some, to_endpoint)


@pytest.mark.parametrize("layout", [flat, split])
@examples(40)
@given(
    count=st.integers(1, 40) | st.sampled_from([255, 257]),
    before=st.integers(0, 50),
    rounds=st.integers(1, 2),
    chance=chances,
)
def test_any_n_times_k_connections_are_k_for_each(
    layout: type, count: int, before: int, rounds: int, chance: Random
) -> None:
    rules = Counting(layout(endpoints(count)), chance)
    for _ in range(before):
        rules.connect()
    got = Counter(rules.connect() for _ in range(count * rounds))
    assert got == dict.fromkeys((endpoint.ip for endpoint in endpoints(count)), rounds)


def test_the_first_connection_goes_anywhere() -> None:
    chance = Random(7)  # noqa: S311
    rules = Counting(split(endpoints(20)), chance)
    got: Counter[str] = Counter()
    for _ in range(20 * 500):
        rules.begin_anew()
        got[rules.connect()] += 1
    assert len(got) == 20
    assert max(got.values()) < 500 * 1.35
    assert min(got.values()) > 500 * 0.65


@pytest.mark.parametrize("count", [16, 17, 256, 1000, 5000])
def test_walks_are_short(count: int) -> None:
    chains = split(endpoints(count))
    assert all(len(rules) < 2 * GROUP for rules in chains.values())
    assert depth(chains, CHAIN) <= 4
