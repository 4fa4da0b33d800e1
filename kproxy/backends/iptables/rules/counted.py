"""Which rules' counters are wanted, said so that whoever reads a table needs to know nothing of what they count."""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

ABSENT = (1 << 64) - 1
"""Stands for the packets of a rule whose chain isn't ours just now. (At 10 million a second: in 58,000 years.)"""


class Place(NamedTuple):
    """Rules of one chain, by their positions from 0."""

    chain: str
    length: int
    """How many rules the chain has; with any other number it isn't ours."""
    positions: tuple[int, ...]


def packets_at(places: Iterable[Place], packets: Mapping[str, Sequence[int]]) -> "array[int]":
    """Return how many packets the rules at these places have met, given those of each rule of whole chains."""
    wanted = array("Q")
    for chain, length, positions in places:
        found = packets.get(chain, ())
        here = len(found) == length
        wanted.extend(found[position] if here else ABSENT for position in positions)
    return wanted
