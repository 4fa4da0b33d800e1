"""Random clusters, and an oracle that says from the documentation alone what must become of packets in them."""

import os

from hypothesis import Phase, settings

FACTOR = int(os.environ.get("KPROXY_EXAMPLES", "1"))
"""How many times as many examples as usual the property tests try."""


def examples(number: int) -> settings:
    """Return the settings for a property test that tries so many examples, times `FACTOR`.

    Whole clusters take minutes to shrink, and are small enough to read as they are: that is left to deeper runs.
    """
    phases = set(Phase) if FACTOR > 1 else set(Phase) - {Phase.shrink, Phase.explain}
    return settings(max_examples=number * FACTOR, deadline=None, phases=phases)
