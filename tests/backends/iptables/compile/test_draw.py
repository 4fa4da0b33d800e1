"""The draw: how near to equal the chances come, how long the walk is, and what a change of one endpoint costs."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kproxy.backends.iptables.compile.draw import GROUP, chance, flat_draw, split_draw
from kproxy.backends.iptables.rules.ruleset import Chain, DestinationNat, Jump, Match, Random, Rule
from kproxy.state.model import Endpoint, Protocol
from tests.kit.semantics import examples

GRAIN = Fraction(1, Random.ONE)
"""What the kernel's 31 random bits can tell apart."""


def endpoints(count: int) -> list[Endpoint]:
    return [Endpoint(f"10.244.{number // 250}.{number % 250}", 8080) for number in range(count)]


def to_endpoint(endpoint: Endpoint, matches: tuple[Match, ...] = ()) -> Rule:
    return Rule(target=DestinationNat(endpoint.ip, endpoint.port), protocol=Protocol.TCP, matches=matches)


def odds(rule: Rule) -> Fraction:
    found = Fraction(1)
    for match in rule.matches:
        assert isinstance(match, Random)
        found *= Fraction(match.threshold, Random.ONE)
    return found


def shares(chains: dict[str, Chain], chain: str, whole: Fraction = Fraction(1)) -> dict[str, Fraction]:
    """Return what chance each endpoint has; what no rule takes goes to the name "lost"."""
    found: dict[str, Fraction] = {}
    left = whole
    for rule in chains[chain]:
        taken = left * odds(rule)
        left -= taken
        if isinstance(rule.target, Jump):
            found |= shares(chains, rule.target.chain, taken)
        elif isinstance(rule.target, DestinationNat):
            found[rule.target.ip] = taken
    return found | ({"lost": left} if left else {})


def depth(chains: dict[str, Chain], chain: str) -> int:
    below = [rule.target.chain for rule in chains[chain] if isinstance(rule.target, Jump)]
    return 1 + max((depth(chains, one) for one in below), default=0)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 16, 17, 100, 500])
def test_a_flat_draw_is_fair_to_the_grain(count: int) -> None:
    """n rules with thresholds rounded to the grain: no share is off by more than one grain.

    Each rule's chance is off by half a grain at most. That shifts its own share by as much of what is left, and all
    later shares in proportion; summed up it stays below (n + ln n) / n half grains.
    """
    found = shares({"DRAW": flat_draw(endpoints(count), to_endpoint)}, "DRAW")
    assert len(found) == count
    assert all(abs(share - Fraction(1, count)) <= GRAIN for share in found.values())


@pytest.mark.parametrize("count", [1, 2, 16, 17, 40, 100, 257, 1000, 3000])
def test_a_split_draw_is_fair_to_the_grain_at_each_level(count: int) -> None:
    """A group's chance is as good as an endpoint's, so what levels add is at most a grain each."""
    chains = split_draw("DRAW", endpoints(count), to_endpoint)
    found = shares(chains, "DRAW")
    assert len(found) == count
    assert max(abs(share - Fraction(1, count)) for share in found.values()) <= GRAIN * depth(chains, "DRAW")


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_a_chance_is_the_nearest_the_kernel_has(one: int, other: int) -> None:
    part, whole = sorted((one, other))
    if part == whole:
        assert chance(part, whole) == ()
        return
    (match,) = chance(part, whole)
    assert isinstance(match, Random)
    assert abs(Fraction(match.threshold, Random.ONE) - Fraction(part, whole)) <= GRAIN / 2


def test_a_split_draw_has_short_walks() -> None:
    chains = split_draw("DRAW", endpoints(4000), to_endpoint)
    assert all(len(chain) <= GROUP for chain in chains.values())
    assert depth(chains, "DRAW") <= 4


def test_a_small_draw_is_not_split() -> None:
    assert split_draw("DRAW", endpoints(GROUP), to_endpoint) == {"DRAW": flat_draw(endpoints(GROUP), to_endpoint)}


@examples(50)
@given(st.integers(17, 600), st.data())
def test_one_endpoint_more_or_less_touches_its_own_group_only(count: int, data: st.DataObject) -> None:
    every = endpoints(count)
    gone = data.draw(st.integers(0, count - 1))
    before = split_draw("DRAW", every, to_endpoint)
    after = split_draw("DRAW", every[:gone] + every[gone + 1 :], to_endpoint)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    # The chain with the endpoint and those on the way to it; where a group becomes small enough, its parts go, too.
    assert len(changed) <= depth(before, "DRAW") + GROUP


@pytest.mark.parametrize(("count", "entries"), [(17, 27), (50, 76), (100, 150), (1000, 1450)])
def test_a_split_draw_is_not_much_larger_than_a_flat_one(count: int, entries: int) -> None:
    """In the kernel's table each chain has two entries of its own; a flat draw would have two more than endpoints."""
    chains = split_draw("DRAW", endpoints(count), to_endpoint)
    assert sum(len(chain) + 2 for chain in chains.values()) <= entries


def test_addresses_whose_hashes_agree_are_still_told_apart() -> None:
    """CRC-32 gives 32 bits, of which each level takes some: behind the last of them a chain may be as long as it is."""
    same = [Endpoint("10.244.0.1", 8080)] * 40
    chains = split_draw("DRAW", same, to_endpoint)
    assert depth(chains, "DRAW") == 32 // 2 + 1
    assert max(len(chain) for chain in chains.values()) == 40
