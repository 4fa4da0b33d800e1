"""Finds the services at fault when the kernel refuses a step, so that one can never keep all others out."""

from collections.abc import Callable, Sequence

from kproxy.backends.base import BackendError
from kproxy.state.model import ServicePortName


def find_culprits(
    suspects: Sequence[ServicePortName],
    add: Callable[[Sequence[ServicePortName]], None],
    refusals: tuple[type[BackendError], ...],
) -> dict[ServicePortName, str]:
    """Add ``suspects``, none of which is in force, and return those that the kernel refuses, with its reasons.

    ``add`` brings a group into force or raises one of ``refusals``, having changed nothing. Halving the groups finds
    each culprit in a few tries.
    """
    culprits: dict[ServicePortName, str] = {}
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
