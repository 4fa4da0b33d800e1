"""The draw: rules that give each of n endpoints the same chance.

A rule can only say "with this probability", and a packet that it passes by comes to the next one. So the first of n
rules takes 1/n, the second 1/(n-1) of what is left, and the last takes all. That walk is n/2 rules long on average;
among many endpoints the large layout first draws a group, then within it, with a chance proportional to its size.
"""

import functools
import zlib
from collections.abc import Callable, Sequence

import msgspec

from kproxy.backends.iptables.rules import names
from kproxy.backends.iptables.rules.ruleset import Chain, Jump, Match, Random, Rule
from kproxy.state.model import Endpoint

GROUP = 16
"""Most rules of a draw in one chain of the large layout; also the number of groups a draw is split into."""


@functools.lru_cache(maxsize=4096)
def chance(part: int, whole: int) -> tuple[Match, ...]:
    """Return the match that is true with a chance of ``part`` / ``whole``, none if that is certain."""
    if part == whole:
        return ()
    return (Random((part * Random.ONE + whole // 2) // whole),)


def flat_draw(endpoints: Sequence[Endpoint], rule: Callable[[Endpoint], Rule]) -> Chain:
    """Return rules that send to each endpoint, as ``rule`` does unconditionally, with the same chance."""
    left = len(endpoints)
    return tuple(_by_chance(rule(endpoint), 1, left - index) for index, endpoint in enumerate(endpoints))


def split_draw(
    chain: str, endpoints: Sequence[Endpoint], rule: Callable[[Endpoint], Rule], depth: int = 0
) -> dict[str, Chain]:
    """Return ``chain`` and the chains below it, in which no walk is long.

    Endpoints are grouped by a hash of their text, not by their position, so that one that comes or goes changes its
    own group and the chances above it, and nothing else.
    """
    if len(endpoints) <= GROUP or depth == 8:
        return {chain: flat_draw(endpoints, rule)}
    groups: dict[int, list[Endpoint]] = {}
    for endpoint in endpoints:
        digit = zlib.crc32(str(endpoint).encode()) >> (4 * depth) & 0xF
        groups.setdefault(digit, []).append(endpoint)
    rules: list[Rule] = []
    chains: dict[str, Chain] = {}
    left = len(endpoints)
    for digit in sorted(groups):
        group = groups[digit]
        below = f"KUBE-SPL-{names.short_hash(f'{chain}/{digit:x}')}"
        rules.append(Rule(target=Jump(below), matches=chance(len(group), left)))
        chains |= split_draw(below, group, rule, depth + 1)
        left -= len(group)
    return {chain: tuple(rules)} | chains


def _by_chance(rule: Rule, part: int, whole: int) -> Rule:
    matches = chance(part, whole)
    return msgspec.structs.replace(rule, matches=(*rule.matches, *matches)) if matches else rule
