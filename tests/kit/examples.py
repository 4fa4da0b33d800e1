"""How many examples property tests try, and chance in them."""

import os
from random import Random

from hypothesis import strategies as st

FACTOR = float(os.environ.get("KPROXY_EXAMPLES", "1"))
"""How many times as many examples as usual: more for a night, fewer for somebody who waits (hack/test.sh --fast)."""


def scaled(number: int) -> int:
    """Return how many examples to try where `number` are usual: one at least."""
    return max(1, round(number * FACTOR))


chances = st.integers(0, 2**32 - 1).map(Random)
"""Chance by a seed. With `st.randoms` each draw is part of the example, and at some size hypothesis gives up."""
