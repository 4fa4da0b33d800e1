"""Finds what is at fault when a step is refused, so that one bad object can never keep all others out."""

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

Suspect = TypeVar("Suspect", bound=Hashable)


def find_culprits(
    suspects: Sequence[Suspect],
    add: Callable[[Sequence[Suspect]], None],
    refusals: tuple[type[Exception], ...],
) -> dict[Suspect, str]:
    """Add ``suspects``, none of which is in force, and return those that are refused, with the reasons.

    ``add`` brings a group into force or raises one of ``refusals``, having changed nothing. Halving the groups finds
    each culprit in a few tries.
    """
    culprits: dict[Suspect, str] = {}
    groups = [suspects] if suspects else []
    while groups:
        group = groups.pop()
        try:
            add(group)
        except refusals as refusal:
            if len(group) == 1:
                culprits[group[0]] = str(refusal)
                continue
            middle = len(group) // 2
            groups += [group[middle:], group[:middle]]
    return culprits
