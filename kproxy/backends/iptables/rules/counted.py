"""Which rules' counters are wanted, said so that whoever reads a table needs to know nothing of what they count."""

from typing import NamedTuple

ABSENT = (1 << 64) - 1
"""Stands for the packets of a rule whose chain isn't ours just now. (At 10 million a second: in 58,000 years.)"""


class Place(NamedTuple):
    """Rules of one chain, by their positions from 0."""

    chain: str
    length: int
    """How many rules the chain has; with any other number it isn't ours."""
    positions: tuple[int, ...]
