"""Totals that only grow, made of the kernel's rule counters, which do not.

Prometheus wants counters that never fall, over every rewrite and over a restart of kproxy. A service's total is the sum
of what its counters grew by (see `accounts`), not the growth of their sum: that falls whenever one of them goes, and
those that stay would be counted once more.

A reading tells only of service ports where something may have moved, so that the cost is that of what has. Pure.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from operator import attrgetter
from typing import NamedTuple, TypeAlias, TypeVar

from kproxy.backends.base import Counter, Counts
from kproxy.report.metrics.accounts import Account
from kproxy.state.model import IPFamily, ServicePortName

K = TypeVar("K")
EndpointKey: TypeAlias = tuple[ServicePortName, str]
"""An endpoint as a metric names it: the service port it belongs to, and ``ip:port``."""

_ASKED, _LEFT = "localhost_asked", "localhost_left"


class Reading(NamedTuple):
    """What the rules of one family count at some moment."""

    family: IPFamily
    counts: Counts


class Packets(NamedTuple):
    """A counter that is no service's."""

    total: int
    last: int
    """The last reading."""


class FamilyCounters:
    """The totals of one address family."""

    def __init__(self) -> None:
        self.accounts: dict[ServicePortName, Account] = {}
        self.packets: dict[str, Packets] = {}
        self.unsaved: set[ServicePortName] = set()
        """Service ports whose totals were not the same, or there, when they were saved last."""
        self.held = 0
        """Endpoints that have a total."""
        self.past: dict[EndpointKey, None] = {}
        """Those of them that have no counter now, the oldest first."""
        self.number_of_endpoints = 0
        self.waiting = 0
        """Service ports whose endpoints' counters may have moved and are yet to be read."""
        self.read_anew = False
        """Whether the Services have been read anew since."""

    def fold(self, counts: Counts, most_endpoints: int) -> None:
        """Take in a reading. ``most_endpoints`` is how many may be held that have no counter, or never counted."""
        self._keep(counts.services)
        for name, counter in counts.ended:
            if (account := self.accounts.get(name)) is not None:
                self._end(name, account, counter)
        for name, counters in counts.counters.items():
            if (account := self.accounts.get(name)) is not None and account.take(counters):
                self.unsaved.add(name)
        for name, counters in counts.endpoints.items():
            if (account := self.accounts.get(name)) is not None:
                self._take_endpoints(name, account, counters)
        for name, endpoints in counts.there.items():
            if (account := self.accounts.get(name)) is not None:
                self._take_stock(name, account, endpoints, most_endpoints)
        self.number_of_endpoints, self.waiting = counts.number_of_endpoints, counts.waiting
        self._shrink(most_endpoints)
        singles = {"invalid_dropped": counts.invalid_dropped}
        if (localhost := counts.localhost) is not None:
            singles |= {_ASKED: localhost.asked, _LEFT: localhost.left}
        self._take_packets({name: value for name, value in singles.items() if value is not None})

    def _keep(self, services: Collection[ServicePortName]) -> None:
        """Have an account for each of the services, and none for others."""
        wanted = services if isinstance(services, (set, frozenset, Mapping)) else frozenset(services)
        if self.read_anew:  # names are held once, by whoever has the Services
            self.read_anew = False
            self.accounts = {name: self.accounts[name] for name in wanted if name in self.accounts} | self.accounts
        for name in [name for name in self.accounts if name not in wanted]:
            account = self.accounts.pop(name)
            self.held -= len(account.endpoints)
            for endpoint in account.endpoints:
                self.past.pop((name, endpoint), None)
            self.unsaved.add(name)
        if len(self.accounts) < len(wanted):
            for name in wanted:
                if name not in self.accounts:
                    self.accounts[name] = Account()

    def _end(self, name: ServicePortName, account: Account, counter: Counter) -> None:
        before = len(account.endpoints)
        account.end(counter)
        if len(account.endpoints) > before:  # nothing had been given to it when stock was taken
            self.held += 1
            self.past.setdefault((name, counter.endpoint))
        self.unsaved.add(name)

    def _take_endpoints(self, name: ServicePortName, account: Account, counters: Sequence[Counter]) -> None:
        before = len(account.endpoints)
        if account.take_endpoints(counters):
            self.unsaved.add(name)
        self.held += len(account.endpoints) - before

    def _take_stock(self, name: ServicePortName, account: Account, endpoints: Sequence[str], most: int) -> None:
        """Note which endpoints a service port has now."""
        before = len(account.endpoints)
        if self.held < most:
            account.begin(endpoints)
            self.held += len(account.endpoints) - before
        there = frozenset(endpoints)
        blank: list[str] = []
        for endpoint, total in account.endpoints.items():
            if endpoint in there:
                self.past.pop((name, endpoint), None)
            elif total:
                self.past.setdefault((name, endpoint))
            else:
                blank.append(endpoint)
        if blank:  # nothing was ever given to them: there is nothing to remember
            account.forget(blank)
            self.held -= len(blank)
            for endpoint in blank:
                self.past.pop((name, endpoint), None)

    def _shrink(self, most: int) -> None:
        """Forget endpoints without a counter, oldest first, until no more than ``most`` are left or all have one."""
        for name, endpoint in list(self.past)[: max(0, self.held - most)]:
            del self.past[name, endpoint]
            self.accounts[name].forget([endpoint])
            self.held -= 1
            self.unsaved.add(name)

    def _take_packets(self, read: Mapping[str, int]) -> None:
        for name, (total, _) in self.packets.items():
            if name not in read:
                self.packets[name] = Packets(total, 0)
        for name, value in read.items():
            total, last = self.packets.get(name, Packets(0, 0))
            self.packets[name] = Packets(total + (value - last if value >= last else value), value)


class ConnectionCounters:
    """Connections per service and endpoint, both families together. Not thread-safe.

    ``max_services`` and ``max_endpoints`` bound what the `services`… properties return (the busiest), and so the number
    of series; totals are kept for all services that exist, and for no more than twice ``max_endpoints`` endpoints that
    are gone or have never been given anything.
    """

    def __init__(self, max_services: int = 20_000, max_endpoints: int = 5_000) -> None:
        self._max_services = max_services
        self._max_endpoints = max_endpoints
        self.families = {family: FamilyCounters() for family in IPFamily}
        self._accepted = 0
        self.age: float | None = None
        """Seconds since the last reading, as of when this was asked for; None before the first."""

    def go_on(self, max_services: int, max_endpoints: int) -> None:
        """Show no more than so many from now on, of Services that are read anew."""
        self._max_services, self._max_endpoints = max_services, max_endpoints
        for family in self.families.values():
            family.read_anew = True

    @property
    def blank(self) -> bool:
        """Whether nothing has been taken in yet."""
        return not any(family.accounts or family.packets for family in self.families.values())

    def fold(self, reading: Reading) -> None:
        """Take in a reading. Where a family could not be read, leave it out: nothing is lost but time."""
        self.families[reading.family].fold(reading.counts, 2 * self._max_endpoints)

    @property
    def services(self) -> Mapping[ServicePortName, int]:
        """New connections by service port."""
        return self._of_services(attrgetter("connections"))

    @property
    def rejected(self) -> Mapping[ServicePortName, int]:
        """Packets refused because there was no endpoint, by service port."""
        return self._of_services(attrgetter("rejected"))

    @property
    def dropped(self) -> Mapping[ServicePortName, int]:
        """Packets dropped by a Local policy or source ranges, by service port."""
        return self._of_services(attrgetter("dropped"))

    def _of_services(self, total: Callable[[Account], int]) -> Mapping[ServicePortName, int]:
        one, *others = sorted(self.families.values(), key=lambda family: -len(family.accounts))
        found = {name: total(account) for name, account in one.accounts.items()}
        for family in others:
            for name, account in family.accounts.items():
                found[name] = found.get(name, 0) + total(account)
        return _busiest(found, self._max_services)

    @property
    def endpoints(self) -> Mapping[EndpointKey, int]:
        """New connections by endpoint."""
        found = {
            (name, endpoint): total
            for family in self.families.values()
            for name, account in family.accounts.items()
            for endpoint, total in account.endpoints.items()
        }
        return _busiest(found, self._max_endpoints)

    def endpoints_of(self, services: Collection[ServicePortName]) -> Mapping[EndpointKey, int]:
        """Return new connections by endpoint, of some service ports: none left out."""
        accounts = ((name, family.accounts.get(name)) for family in self.families.values() for name in services)
        return {
            (name, endpoint): total
            for name, account in accounts
            if account is not None
            for endpoint, total in account.endpoints.items()
        }

    @property
    def omitted(self) -> Mapping[str, int]:
        """How many services and endpoints are not shown, for there are too many."""
        families = self.families.values()
        services = len(set[ServicePortName]().union(*(family.accounts for family in families)))
        endpoints = sum(max(family.held, family.number_of_endpoints + len(family.past)) for family in families)
        return {
            "services": max(0, services - self._max_services),
            "endpoints": max(0, endpoints - self._max_endpoints) if self._max_endpoints else 0,
        }

    @property
    def waiting(self) -> int:
        """Service ports whose endpoints' counters may have moved and are yet to be read."""
        return sum(family.waiting for family in self.families.values())

    def packets(self, name: str) -> int | None:
        """Return the total of ``invalid_dropped`` or ``localhost_accepted``; None where nothing ever counted it."""
        if name == "localhost_accepted" and (asked := self._total(_ASKED)) is not None:
            # The two are not read at the very same moment, and no total may ever fall.
            self._accepted = max(self._accepted, asked - (self._total(_LEFT) or 0))
            return self._accepted
        return self._total(name)

    def _total(self, name: str) -> int | None:
        found = [family.packets.get(name) for family in self.families.values()]
        totals = [packets.total for packets in found if packets is not None]
        return sum(totals) if totals else None

    def each_account(self) -> Iterator[tuple[IPFamily, ServicePortName, Account]]:
        """Yield all accounts."""
        for family, its in self.families.items():
            for name, account in its.accounts.items():
                yield family, name, account


def _busiest(totals: Mapping[K, int], limit: int) -> Mapping[K, int]:
    """Return no more than ``limit``, those with the most."""
    if len(totals) <= limit:
        return totals
    if not limit:
        return {}
    least = sorted(totals.values())[-limit]  # mostly zeros, which takes no time
    found = {key: total for key, total in totals.items() if total > least}
    as_busy = (key for key, total in totals.items() if total == least)
    return found | dict.fromkeys(islice(as_busy, limit - len(found)), least)
