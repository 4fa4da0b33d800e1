"""The list of Services, with account of what changed in it, so that an open page is only told what is new.

Each row has a number: that of the look at which it changed last. Who has seen look N is told of the rows beyond it.
Plans are values: a service port whose plan is the very same object as before has not changed, and costs no more than
finding that out. Not thread-safe.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from kproxy.api.types import ObjectKey
from kproxy.plan.claims import Loss
from kproxy.plan.model import Plan, ServicePlan, Target
from kproxy.state.model import IPFamily, ServicePortName, endpoint_text

_MOST_GONE = 10_000
"""How many Services that are gone are remembered; who has looked away for longer is told all anew."""
_MOST_ADDRESSES = 6

REFUSING, NO_LOCAL, LEFT_OUT, CONTESTED, SERVING = "refusing", "no local endpoints", "left out", "contested", "serving"


class Family(NamedTuple):
    """What a look goes by, of one address family."""

    plan: Plan
    losses: Sequence[Loss]
    refused: Mapping[ServicePortName, str]
    """Service ports that the kernel would not take."""


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One Service in the list."""

    id: str
    """``namespace/name``."""
    ports: tuple[str, ...]
    addresses: tuple[str, ...]
    kinds: tuple[str, ...]
    endpoints: int
    """Endpoints that get new connections, each address and port once."""
    state: str = SERVING
    why: str = ""
    changed: float = 0.0
    """When its rules were changed last, in Unix time, as far as that is remembered."""


class Totals(NamedTuple):
    """Connections, packets refused and packets dropped since counting began."""

    connections: int
    refused: int
    dropped: int


class Counted(NamedTuple):
    """A reading of the counters."""

    at: float
    """Monotonic seconds."""
    totals: Mapping[ServicePortName, Totals]


class News(NamedTuple):
    """What a page has not seen yet."""

    full: bool
    """Whether it is everything, and replaces what the page has."""
    rows: Sequence[Row]
    gone: Sequence[str]
    totals: Mapping[str, Totals]


class Board:
    """The list."""

    def __init__(self) -> None:
        self.number = 0
        """The number of the last look that found something new."""
        self.rows: dict[ObjectKey, Row] = {}
        self._plans: dict[IPFamily, Mapping[ServicePortName, ServicePlan]] = {}
        self._families: Sequence[Family] = ()
        self._ports: dict[ObjectKey, set[ServicePortName]] = {}
        self._problems: dict[ServicePortName, tuple[str, str]] = {}
        self._row_numbers: dict[ObjectKey, int] = {}
        self._totals: dict[ObjectKey, Totals] = {}
        self._total_numbers: dict[ObjectKey, int] = {}
        self._gone: dict[str, int] = {}
        self._complete_since = 0
        """Who has seen an older look than this can't be told what is gone."""

    def look(self, families: Sequence[Family], changed: Mapping[ServicePortName, float], now: float) -> None:
        """Take in how all is ``now`` (Unix time); ``changed`` says when service ports were changed before."""
        first = not self.number
        touched: set[ServicePortName] = set()
        for family in families:
            which = family.plan.node.family
            plans, before = family.plan.services, self._plans.get(which, {})
            touched.update(name for name, service in plans.items() if before.get(name) is not service)
            touched.update(before.keys() - plans.keys())
            self._plans[which] = plans
        problems = _problems(families)
        touched.update(name for name, _ in problems.items() ^ self._problems.items())
        self._families, self._problems = families, problems
        if not touched:
            return
        self.number += 1
        for name in touched:
            if any(name in plans for plans in self._plans.values()):
                self._ports.setdefault(name.service, set()).add(name)
            elif name.service in self._ports:
                self._ports[name.service].discard(name)
        for key in {name.service for name in touched}:
            names = sorted(self._ports.get(key, ()))
            when = max((changed.get(name, 0.0) for name in names), default=0.0) if first else now
            self._renew(key, names, when)

    def _renew(self, key: ObjectKey, names: Sequence[ServicePortName], changed: float) -> None:
        if names:
            self.rows[key] = self._row(key, names, changed)
            self._row_numbers[key] = self.number
            self._gone.pop(str(key), None)
            return
        for known in (self.rows, self._row_numbers, self._totals, self._total_numbers, self._ports):
            known.pop(key, None)
        self._gone[str(key)] = self.number
        if len(self._gone) > _MOST_GONE:
            self._gone.clear()
            self._complete_since = self.number

    def _row(self, key: ObjectKey, names: Sequence[ServicePortName], changed: float) -> Row:
        services = [plans[name] for plans in self._plans.values() for name in names if name in plans]
        frontends = [frontend for service in services for frontend in service.frontends]
        numbers = {name: _number(name, services) for name in names}
        addresses = dict.fromkeys(
            endpoint_text(frontend.ip, frontend.port) if frontend.ip else f":{frontend.port}" for frontend in frontends
        )
        state, why = self._state(names, services)
        return Row(
            id=str(key),
            ports=tuple(f"{numbers[name]}/{name.protocol.upper()} {name.port}".rstrip() for name in names),
            addresses=tuple(addresses)[:_MOST_ADDRESSES],
            kinds=tuple(dict.fromkeys(frontend.kind.value for frontend in frontends)),
            endpoints=len({str(one) for service in services for one in service.reachable_endpoints}),
            state=state,
            why=why,
            changed=changed,
        )

    def _state(self, names: Sequence[ServicePortName], services: Sequence[ServicePlan]) -> tuple[str, str]:
        """Return the worst that is to be said of a Service, and why."""
        for kind in (LEFT_OUT, CONTESTED):
            for name in names:
                if self._problems.get(name, ("", ""))[0] == kind:
                    return self._problems[name]
        targets = [
            (service.name, route.to)
            for service in services
            for route in (service.internal, service.external)
            if route is not None
        ]
        for name, to in targets:
            if to is Target.REJECT:
                return REFUSING, f"{name} has no endpoint that could serve; clients are refused"
        for name, to in targets:
            if to is Target.DROP:
                return NO_LOCAL, f"{name} has policy Local and no endpoint on this node; packets are dropped"
        return SERVING, ""

    def count(self, services: Mapping[ServicePortName, Totals]) -> None:
        """Take in what was counted."""
        sums: dict[ObjectKey, tuple[int, int, int]] = {}
        for name, (connections, refused, dropped) in services.items():
            key = name.service
            a, b, c = sums.get(key, (0, 0, 0))
            sums[key] = (a + connections, b + refused, c + dropped)
        self.number += 1
        for key, found in sums.items():
            if any(found) and key in self.rows and self._totals.get(key) != found:
                self._totals[key] = Totals(*found)
                self._total_numbers[key] = self.number

    def touch(self) -> None:
        """Note that something beside the list is new."""
        self.number += 1

    def since(self, number: int | None) -> News:
        """Return what is new since a look."""
        if number is None or not self._complete_since <= number <= self.number:
            return News(True, tuple(self.rows.values()), (), {str(key): one for key, one in self._totals.items()})
        return News(
            full=False,
            rows=[self.rows[key] for key in _beyond(self._row_numbers, number)],
            gone=[name for name, when in self._gone.items() if when > number],
            totals={str(key): self._totals[key] for key in _beyond(self._total_numbers, number)},
        )


def _beyond(numbers: Mapping[ObjectKey, int], number: int) -> Iterable[ObjectKey]:
    return [key for key, when in numbers.items() if when > number]


def _number(name: ServicePortName, services: Iterable[ServicePlan]) -> int | str:
    """Return the port that clients use; there is none where the Service has lost all its addresses."""
    ports = [frontend.port for service in services if service.name == name for frontend in service.frontends]
    return ports[0] if ports else "?"


def _problems(families: Iterable[Family]) -> dict[ServicePortName, tuple[str, str]]:
    found: dict[ServicePortName, tuple[str, str]] = {}
    for family in families:
        for loss in family.losses:
            found[loss.loser] = CONTESTED, f"{loss.claim} is {loss.owner}'s, {loss.reason}"
        for name, reason in family.refused.items():
            found[name] = LEFT_OUT, f"the kernel refuses its rules: {reason}"
    return found
