"""The draw: rules that give each of n endpoints the same chance.

A rule can only say "with this probability", and a packet that it passes by comes to the next one. So the first of n
rules takes 1/n, the second 1/(n-1) of what is left, and the last takes all. That walk is n/2 rules long on average;
among many endpoints the large layout first draws a group, then within it, with a chance proportional to its size.

In turn it is the same walk, with counting rules in place of drawing ones: the first is true every n-th time, the second
every (n-1)-th of those that it passed by, and so on. Of any n*k connections that come to such rules one after the other
each gets exactly k: the first rule takes k of them, wherever its count stands, the second k of the n*k - k that are
left, and so on. Groups must be of the same size for that; what would be left over comes before them, one by one.
"""

import functools
import zlib
from collections.abc import Callable, Sequence
from typing import TypeAlias

from kproxy.backends.iptables.rules import names
from kproxy.backends.iptables.rules.ruleset import Chain, Jump, Match, Random, Rule, Turn
from kproxy.state.model import Endpoint

GROUP = 16
"""Most rules of a draw in one chain of the large layout; also the most groups that a draw is split into."""
_FEWEST = 6
"""How many endpoints a group is to have at least, on average: each costs three entries of the kernel's table (a jump,
the chain's mark and its policy), and the walk is hardly longer than with as many groups as possible, or shorter."""
_HASH_BITS = 32


@functools.lru_cache(maxsize=4096)
def chance(part: int, whole: int) -> tuple[Match, ...]:
    """Return the match that is true with a chance of ``part`` / ``whole``, none if that is certain."""
    if part == whole:
        return ()
    return (Random((part * Random.ONE + whole // 2) // whole),)


SendTo: TypeAlias = Callable[[Endpoint, tuple[Match, ...]], Rule]
"""Makes the rule that sends to an endpoint what some further matches are true of."""


def flat_draw(endpoints: Sequence[Endpoint], rule: SendTo) -> Chain:
    """Return rules that send to each endpoint with the same chance."""
    left = len(endpoints)
    return tuple([rule(endpoint, chance(1, left - index)) for index, endpoint in enumerate(endpoints)])


def flat_turn(endpoints: Sequence[Endpoint], rule: SendTo) -> Chain:
    """Return rules that send to each endpoint in turn."""
    left = len(endpoints)
    return tuple([rule(endpoint, _turn(left - index)) for index, endpoint in enumerate(endpoints)])


def split_turn(chain: str, endpoints: Sequence[Endpoint], rule: SendTo) -> dict[str, Chain]:
    """Return ``chain`` and the chains below it, which send to each endpoint in turn, and in which no walk is long."""
    count = len(endpoints)
    if count <= GROUP:
        return {chain: flat_turn(endpoints, rule)}
    size, alone = divmod(count, GROUP)
    rules = [rule(endpoint, _turn(count - index)) for index, endpoint in enumerate(endpoints[:alone])]
    chains: dict[str, Chain] = {}
    for digit in range(GROUP):
        below = f"KUBE-SPL-{names.short_hash(f'{chain}/{digit:x}')}"
        rules.append(Rule(target=Jump(below), matches=_turn(GROUP - digit)))
        first = alone + digit * size
        chains |= split_turn(below, endpoints[first : first + size], rule)
    return {chain: tuple(rules)} | chains


def split_draw(chain: str, endpoints: Sequence[Endpoint], rule: SendTo, drawn_bits: int = 0) -> dict[str, Chain]:
    """Return ``chain`` and the chains below it, in which no walk is long.

    Endpoints are grouped by a hash of their text, not by their position, so that one that comes or goes changes its
    own group and the chances above it, and nothing else. ``drawn_bits`` of the hash are the same for all of them.
    """
    count = len(endpoints)
    if count <= GROUP or drawn_bits >= _HASH_BITS:
        return {chain: flat_draw(endpoints, rule)}
    groups: dict[int, list[Endpoint]] = {}
    bits = max(2, min(GROUP, count // _FEWEST)).bit_length() - 1
    for endpoint in endpoints:
        digit = zlib.crc32(str(endpoint).encode()) >> drawn_bits & (1 << bits) - 1
        groups.setdefault(digit, []).append(endpoint)
    rules: list[Rule] = []
    chains: dict[str, Chain] = {}
    left = count
    for digit in sorted(groups):
        group = groups[digit]
        below = f"KUBE-SPL-{names.short_hash(f'{chain}/{digit:x}')}"
        rules.append(Rule(target=Jump(below), matches=chance(len(group), left)))
        chains |= split_draw(below, group, rule, drawn_bits + bits)
        left -= len(group)
    return {chain: tuple(rules)} | chains


def _turn(every: int) -> tuple[Match, ...]:
    return (Turn(every),) if every > 1 else ()
