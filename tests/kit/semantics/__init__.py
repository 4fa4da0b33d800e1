"""Random clusters, and an oracle that says from the documentation alone what must become of packets in them.

`cluster` draws them, `changes` what they turn into, `traffic` is every packet that anything might become of, `oracle`
knows what; `builds` are the layouts that rules are compiled in.
"""

from hypothesis import Phase, settings

from tests.kit.examples import FACTOR, scaled


def examples(number: int) -> settings:
    """Return the settings for a property test that tries so many examples, see `scaled`.

    Whole clusters take minutes to shrink, and are small enough to read as they are: that is left to deeper runs.
    """
    phases = set(Phase) if FACTOR > 1 else set(Phase) - {Phase.shrink, Phase.explain}
    return settings(max_examples=scaled(number), deadline=None, phases=phases)
