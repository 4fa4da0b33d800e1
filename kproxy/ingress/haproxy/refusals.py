"""What of a plan HAProxy does not take: found one by one and left out, so that all else takes effect."""

from collections.abc import Callable, Sequence

import msgspec

from kproxy.faults.bisect import find_culprits
from kproxy.ingress.haproxy.compile.compiler import LeftOut
from kproxy.ingress.haproxy.control.binds import bind_line, why_not_bind
from kproxy.ingress.haproxy.errors import RefusedError
from kproxy.ingress.haproxy.units import Unit, left_out, units_of
from kproxy.ingress.plan.model import Bind, Plan


class Refused(msgspec.Struct, frozen=True):
    """A part of the plan that HAProxy would not take: left out, so that all others take effect."""

    what: Unit
    reason: str


class Refusals:
    """Remembers what is refused, with what it was made of then: it is tried again once that has changed."""

    def __init__(self, *, ipv6: bool) -> None:
        """With ``ipv6``, a bind without an address is one of both families."""
        self._ipv6 = ipv6
        self._known: dict[Unit, tuple[object, str]] = {}

    def all(self) -> list[Refused]:
        """Return what is refused, and why."""
        return [Refused(unit, reason) for unit, (_, reason) in self._known.items()]

    def left_out(self) -> LeftOut:
        """Return the same for the compiler."""
        return left_out(self._known)

    def forget_what_changed(self, plan: Plan) -> None:
        """Give another try to what is made of something else in ``plan``, or is gone from it."""
        if self._known:
            units = units_of(plan)
            self._known = {unit: known for unit, known in self._known.items() if units.get(unit) == known[0]}

    def forget_free_binds(self) -> bool:
        """Give another try to addresses that can be had by now; tell whether there are any."""
        binds = [unit for unit in self._known if isinstance(unit, Bind)]
        free = [bind for bind in binds if why_not_bind(bind, ipv6=self._ipv6) is None]
        for bind in free:
            del self._known[bind]
        return bool(free)

    def find_binds(self, plan: Plan, listening: Sequence[str]) -> None:
        """Refuse addresses that this machine does not have, or that others have taken: one such would stop all.

        ``listening`` is the head of the configuration in force: what is bound there is HAProxy's own.
        """
        own = f"{' '.join(listening)} "
        for frontend in plan.frontends:
            for bind in frontend.binds:
                if f" {bind_line(bind)} " in own:
                    continue
                reason = why_not_bind(bind, ipv6=self._ipv6)
                if reason is not None:
                    self._known[bind] = (bind, reason)

    def find(self, plan: Plan, error: RefusedError, check: Callable[[LeftOut], None]) -> None:
        """Find what is to blame for ``error``; raises it if leaving out everything does not help.

        ``check`` has HAProxy check the plan without something, and raises RefusedError.
        """
        units = units_of(plan)
        suspects = [unit for unit in units if unit not in self._known and not isinstance(unit, Bind)]
        admitted: set[Unit] = {unit for unit in units if isinstance(unit, Bind) and unit not in self._known}

        def check_with(group: set[Unit]) -> None:
            check(left_out(unit for unit in units if unit not in group))

        def add(group: Sequence[Unit]) -> None:
            check_with(admitted | set(group))
            admitted.update(group)

        try:
            check_with(admitted)
        except RefusedError:
            raise error from None
        for unit, reason in find_culprits(suspects, add, (RefusedError,)).items():
            self._known[unit] = (units[unit], reason)
