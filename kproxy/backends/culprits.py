"""Applies the rest of a plan where the kernel refuses a step for the sake of one service."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from kproxy.backends.base import BackendError
from kproxy.faults.bisect import find_culprits
from kproxy.plan.model import Plan, ServicePlan
from kproxy.state.model import ServicePortName

C = TypeVar("C")
"""A step from what is in force to what should be."""
R = TypeVar("R", covariant=True)
"""What came of one."""
S = TypeVar("S", contravariant=True)


class CarryOut(Protocol[S, R]):
    """Brings a step into the kernel."""

    def __call__(self, step: S, /, *, full: bool) -> R:
        """Take the step; with ``full``, compare everything."""


def leave_out_culprits(
    plan: Plan,
    suspects: Sequence[ServicePortName],
    error: BackendError,
    refusals: tuple[type[BackendError], ...],
    recompile: Callable[[Mapping[ServicePortName, ServicePlan | None]], C],
    carry_out: CarryOut[C, R],
) -> tuple[dict[ServicePortName, str], R]:
    """Bring into force what is not refused; return what is, with the reasons, and what came of doing without all of it.

    ``recompile`` takes services into the compiled rules, or out of them (None), and returns the step; ``refusals`` are
    what ``carry_out`` raises when the kernel takes nothing of one.

    Raises ``error`` if leaving out every suspect doesn't help: then it is no service's fault.
    """
    wanted = {name: plan.services.get(name) for name in suspects}
    without = recompile(dict.fromkeys(suspects))
    try:
        result = carry_out(without, full=True)
    except refusals:
        recompile(wanted)
        raise error from None

    def add(group: Sequence[ServicePortName]) -> None:
        step = recompile({name: wanted[name] for name in group})
        try:
            carry_out(step, full=False)
        except refusals:
            recompile(dict.fromkeys(group))
            raise

    return find_culprits(suspects, add, refusals), result
