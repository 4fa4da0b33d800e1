"""Spells choices by weight: as many entries as the smallest whole weights ask for, one of which is drawn."""

import math
from collections.abc import Mapping, Sequence

from kproxy.ingress.haproxy.compile.conditions import digest

MOST = 1000
"""Entries of one draw: weights are true to a thousandth."""


def whole_weights(weights: Sequence[int]) -> list[int]:
    """Return the same shares in numbers as small as can be, none 0 and their sum at most about `MOST`."""
    divisor = math.gcd(*weights)
    total = sum(weights) // divisor
    if total <= MOST:
        return [weight // divisor for weight in weights]
    return [max(1, round(weight / divisor * MOST / total)) for weight in weights]


def draw(choices: Sequence[tuple[str, int]]) -> tuple[str, Mapping[str, str]]:
    """Return the word of a draw, and its entries, for words with their weights."""
    if len({word for word, _ in choices}) == 1:
        return choices[0][0], {}
    weights = whole_weights([weight for _, weight in choices])
    drawn = [word for (word, _), weight in zip(choices, weights, strict=True) for _ in range(weight)]
    name = "w" + digest(*drawn)
    return name, {f"{name}/{number}": word for number, word in enumerate(drawn)}
