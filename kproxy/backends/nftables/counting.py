"""Reads what the kernel has counted, beside the loop, and no more of it than can have changed."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from kproxy.backends.base import Counter, Counts, Of
from kproxy.backends.nftables.compile.compiler import Compiler
from kproxy.backends.nftables.compile.counts import (
    Owner,
    endpoint_counters,
    endpoint_elements,
    endpoints_of,
    sets_of_services,
    whose,
)
from kproxy.backends.nftables.compile.service import ServiceRules
from kproxy.backends.nftables.kernel.applier import Applier, Counted
from kproxy.backends.nftables.rules import names
from kproxy.backends.nftables.rules.change import EndpointOf
from kproxy.backends.nftables.rules.ruleset import Found, Numbers
from kproxy.backends.steady import Steady
from kproxy.state.model import ServicePortName

PATIENCE_SECONDS = 1.0
_READINGS = 5
"""How often to read at a time, again whenever a sync came in between."""
MOST_ELEMENTS = 4000
"""Endpoints' elements that one call reads at most, for 10 µs each: the rest waits for the next."""
MOST_NEW = 10_000
"""Endpoints of new services that are told of though they have never counted anything."""
_MOST_ENDED = 20_000
"""Counters that have gone, of which each is remembered till somebody reads."""

Gone = tuple[ServicePortName, Counter]


class _Seen(NamedTuple):
    """What one reading has found, and of what."""

    services: Mapping[ServicePortName, ServiceRules]
    found: Sequence[Gone]
    ended: Sequence[Gone]
    anew: bool
    number: int
    compiler: Compiler


class Counting:
    """The counters of one address family. `read` is called by one thread, all else by the loop's."""

    def __init__(self, applier: Applier, *, count_endpoints: bool) -> None:
        self.steady = Steady()
        """To be told when rules are written."""
        self._applier = applier
        self._count_endpoints = count_endpoints
        self._ended: list[Gone] = []
        self._anew = False
        """Whether all that counts has begun to since the last call of `read`."""
        self._told: dict[ServicePortName, Sequence[Counter]] = {}
        self._own: frozenset[ServicePortName] = frozenset()
        """Service ports with chains of their own whose endpoints have been told of last."""
        self._services: Mapping[ServicePortName, ServiceRules] = {}
        """As of the last call."""
        self._due: dict[ServicePortName, None] = {}
        """Whose endpoints may have moved, the longest known first."""

    def gone(self, gone: Sequence[tuple[str, Found]], owner: Owner, own: Mapping[Numbers, EndpointOf]) -> None:
        """Note what elements have counted that are there no more. To be called while rules are written."""
        wanted = (one for one in whose(gone, owner, own) if self._count_endpoints or one[1].of is not Of.ENDPOINT)
        self._ended += wanted
        if len(self._ended) > _MOST_ENDED:
            self._ended = list(_summed(self._ended))

    def begun_anew(self) -> None:
        """Note that the whole table is a new one. To be called while rules are written."""
        self._anew = True

    def read(self, compiler: Compiler, *, drops_invalid: bool) -> Counts | None:
        """Return what may be other than the last time; None if the rules keep changing meanwhile."""
        for _ in range(_READINGS):
            number = self.steady.wait(PATIENCE_SECONDS)
            if number is None:
                return None
            services, sets = dict(compiler.services), dict(compiler.ruleset.sets)
            counted = self._applier.counted(sets_of_services(sets))
            found = list(whose(counted.elements, compiler.owner, dict(compiler.own_endpoints)))
            with self.steady.still(number) as still:
                if not still:
                    continue
                ended, self._ended = self._ended, []
                anew, self._anew = self._anew, False
            return self._counts(
                _Seen(services, found, ended, anew, number, compiler), counted if drops_invalid else None
            )
        return None

    def _counts(self, seen: "_Seen", counted: Counted | None) -> Counts:
        services = seen.services
        counters: dict[ServicePortName, list[Counter]] = {}
        own: dict[ServicePortName, list[Counter]] = {}
        for name, counter in seen.found:
            (own if counter.endpoint else counters).setdefault(name, []).append(counter)
        moved = {name: its for name, its in counters.items() if self._told.get(name) != its}
        before, self._services = self._services, services
        # What has never been told of may have counted for a kproxy before this one.
        told_before = self._told if before else services
        silent = {name: () for name in told_before if name not in counters and name in services}
        self._told = dict(counters)
        return Counts(
            services=services.keys(),
            counters={**silent, **moved},
            endpoints=self._endpoints(seen, own, moved, first=not before),
            ended=seen.ended,
            there=dict(_there(services, before)) if self._count_endpoints else {},
            number_of_endpoints=sum(map(_number_of_endpoints, services.values())) if self._count_endpoints else 0,
            invalid_dropped=counted.counters.get(names.INVALID_DROPS) if counted is not None else None,
            waiting=len(self._due),
        )

    def _endpoints(
        self,
        seen: "_Seen",
        own: Mapping[ServicePortName, Sequence[Counter]],
        moved: Collection[ServicePortName],
        *,
        first: bool,
    ) -> Mapping[ServicePortName, Sequence[Counter]]:
        """Return the counters of endpoints, as far as they may have moved and may be read now."""
        silent = seen.services if seen.anew and self._count_endpoints else self._own - own.keys()
        self._own = frozenset(own)
        endpoints: dict[ServicePortName, Sequence[Counter]] = {**dict.fromkeys(silent, ()), **own}
        if self._count_endpoints:
            self._due |= dict.fromkeys((*(name for name, _ in seen.ended), *moved))
            if first and not seen.anew:
                self._due |= dict.fromkeys(seen.services)
            endpoints |= self._read_endpoints(seen.services, seen.number, seen.compiler)
        return endpoints

    def _read_endpoints(
        self, services: Mapping[ServicePortName, ServiceRules], number: int, compiler: Compiler
    ) -> dict[ServicePortName, Sequence[Counter]]:
        """Read the endpoints' counters of services that wait for it, as many as may be read at a time."""
        read: dict[ServicePortName, Sequence[Counter]] = {}
        left, sets = MOST_ELEMENTS, dict(compiler.ruleset.sets)
        for name in list(self._due):
            rules = services.get(name)
            if rules is None or rules.own_endpoints:
                del self._due[name]
                continue
            owned = {claim for claim in rules.entries if compiler.owner(claim) == name}
            elements = list(endpoint_elements(rules, owned))
            if read and len(elements) > left:
                break
            packets = self._applier.packets([element[:2] for element in elements], sets)
            with self.steady.still(number) as still:
                if not still:
                    break
            del self._due[name]
            left -= len(elements)
            if packets is not None:  # else somebody has removed elements: they are about to be repaired
                read[name] = endpoint_counters(elements, packets)
        return read


def _number_of_endpoints(rules: ServiceRules) -> int:
    return max(len(rules.cluster), len(rules.local))


def _there(
    services: Mapping[ServicePortName, ServiceRules], before: Mapping[ServicePortName, ServiceRules]
) -> Iterator[tuple[ServicePortName, Sequence[str]]]:
    """Yield the endpoints of services that are not what they were, or new as long as there is room."""
    room = MOST_NEW
    for name, rules in services.items():
        if (old := before.get(name)) is not rules:
            found = endpoints_of(rules)
            room -= len(found) if old is None else 0
            if room >= 0 or old is not None:
                yield name, found


def _summed(ended: Sequence[Gone]) -> Iterator[Gone]:
    """Add up what counters of the same name have counted, but for those of endpoints: there is no end of those."""
    sums: dict[tuple[ServicePortName, str], Counter] = {}
    for name, counter in ended:
        if counter.of is not Of.ENDPOINT:
            known = sums.get((name, counter.name))
            sums[name, counter.name] = counter._replace(packets=counter.packets + (known.packets if known else 0))
    return ((name, counter) for (name, _), counter in sums.items())
