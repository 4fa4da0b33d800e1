"""Totals that only grow, made of the kernel's rule counters, which do not.

A rule's counter starts again at zero when the rule is rewritten, and is gone with it. Prometheus wants counters that
never fall, over every rewrite and over a restart of kproxy. So what was read last is remembered beside each total: a
reading above it adds the difference, a reading below it is all new.

A service's total is the sum of what its endpoints' counters grew by, not the growth of their sum: that falls whenever
an endpoint goes, and those that stay would be counted once more.

Pure but for `Store`, which keeps the totals in a file.
"""

import heapq
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import msgspec

from kproxy.backends.base import Counts
from kproxy.state.model import IPFamily, Protocol, ServicePortName

K = TypeVar("K", bound=Hashable)
EndpointKey: TypeAlias = tuple[ServicePortName, str]
"""An endpoint as a metric names it: the service port it belongs to, and ``ip:port``."""


_ASKED, _LEFT = "localhost_asked", "localhost_left"


class Reading(NamedTuple):
    """What the rules of one family count at some moment.

    ``live`` are the service ports that exist, counted or not: the totals of all others are dropped, so that a deleted
    service's series end. ``localhost_accepted`` is None where no rule counts such packets.
    """

    family: IPFamily
    counts: Counts
    live: Collection[ServicePortName]
    localhost_accepted: int | None = None


class _Entry:
    """What is known of one counter."""

    __slots__ = ("last", "round", "total")

    def __init__(self, total: int, last: int, round_: int) -> None:
        self.total = total
        self.last = last
        """The last reading."""
        self.round = round_
        """The number of the round of reading in which it was last there."""


class Ledger(Generic[K]):
    """Totals by key, with what was read last for each."""

    def __init__(self) -> None:
        self._entries: dict[K, _Entry] = {}
        self._round = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[K]:
        return iter(self._entries)

    @property
    def totals(self) -> dict[K, int]:
        """All totals, those of counters included that are not there now."""
        return {key: entry.total for key, entry in list(self._entries.items())}  # others may add to it meanwhile

    def read(self, raw: Iterable[tuple[K, int]]) -> list[tuple[K, int]]:
        """Add what was counted since the last reading, and return that; what ``raw`` lacks has no counter now."""
        entries = self._entries
        growth = []
        before, self._round = self._round, self._round + 1
        now = self._round
        for key, value in raw:
            entry = entries.get(key)
            if entry is None:
                entries[key] = _Entry(value, value, now)
                growth.append((key, value))
                continue
            grown = value - entry.last if entry.round == before and value >= entry.last else value
            if grown:
                entry.total += grown
                growth.append((key, grown))
            entry.last = value
            entry.round = now
        return growth

    def add(self, key: K, growth: int) -> None:
        """Add to a total that has no counter of its own."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(0, 0, self._round)
        entry.total += growth

    def keep(self, wanted: Callable[[K], bool]) -> None:
        """Forget all other keys."""
        if not all(map(wanted, self._entries)):
            self._entries = {key: entry for key, entry in self._entries.items() if wanted(key)}

    def shrink(self, limit: int) -> None:
        """Forget totals without a counter, oldest first, until no more than ``limit`` are left or all have one."""
        excess = len(self._entries) - limit
        if excess > 0:
            gone = [key for key, entry in self._entries.items() if entry.round != self._round]
            for key in sorted(gone, key=lambda key: self._entries[key].round)[:excess]:
                del self._entries[key]

    def entries(self) -> list[tuple[K, int, int]]:
        """Return key, total and last reading of each, for `restore`; -1 says that a key has no counter now."""
        return [
            (key, entry.total, entry.last if entry.round == self._round else -1) for key, entry in self._entries.items()
        ]

    def restore(self, entries: Iterable[tuple[K, int, int]]) -> None:
        """Go on from where another ledger was."""
        for key, total, last in entries:
            self._entries[key] = _Entry(total, max(0, last), self._round if last >= 0 else self._round - 1)


class _Family:
    """The ledgers of one address family."""

    def __init__(self) -> None:
        self.services = Ledger[ServicePortName]()
        self.rejected = Ledger[ServicePortName]()
        self.dropped = Ledger[ServicePortName]()
        self.endpoints = Ledger[EndpointKey]()
        self.packets = Ledger[str]()


class ConnectionCounters:
    """Connections per service and endpoint, both families together. Not thread-safe.

    ``max_services`` and ``max_endpoints`` bound what the `services`… properties return (the busiest), and so the number
    of series; totals are kept for all services that exist, and for no more than twice ``max_endpoints`` past endpoints.
    """

    def __init__(self, max_services: int = 20_000, max_endpoints: int = 5_000) -> None:
        self._max_services = max_services
        self._max_endpoints = max_endpoints
        self._families = {family: _Family() for family in IPFamily}
        self._accepted = 0
        self.age: float | None = None
        """Seconds since the last reading, as of when this was asked for; None before the first."""

    def fold(self, reading: Reading) -> None:
        """Take in a reading. Where a family could not be read, leave it out: nothing is lost but time."""
        family = self._families[reading.family]
        live = reading.live if isinstance(reading.live, (set, frozenset, Mapping)) else frozenset(reading.live)
        for name in reading.counts.services:
            family.services.add(name, 0)
        for (name, _), grown in family.endpoints.read(reading.counts.endpoints.items()):
            family.services.add(name, grown)
        family.rejected.read(reading.counts.rejected.items())
        family.dropped.read(reading.counts.dropped.items())
        for ledger in (family.services, family.rejected, family.dropped):
            ledger.keep(live.__contains__)
        family.endpoints.keep(lambda key: key[0] in live)
        family.endpoints.shrink(2 * self._max_endpoints)
        singles = {"invalid_dropped": reading.counts.invalid_dropped, "localhost_accepted": reading.localhost_accepted}
        if (localhost := reading.counts.localhost) is not None:
            singles |= {_ASKED: localhost.asked, _LEFT: localhost.left}
        family.packets.read((name, value) for name, value in singles.items() if value is not None)

    @property
    def services(self) -> Mapping[ServicePortName, int]:
        """New connections by service port."""
        return _busiest([family.services for family in self._families.values()], self._max_services)

    @property
    def rejected(self) -> Mapping[ServicePortName, int]:
        """Packets refused because there was no endpoint, by service port."""
        return _busiest([family.rejected for family in self._families.values()], self._max_services)

    @property
    def dropped(self) -> Mapping[ServicePortName, int]:
        """Packets dropped by a Local policy or source ranges, by service port."""
        return _busiest([family.dropped for family in self._families.values()], self._max_services)

    @property
    def endpoints(self) -> Mapping[EndpointKey, int]:
        """New connections by endpoint."""
        return _busiest([family.endpoints for family in self._families.values()], self._max_endpoints)

    def endpoints_of(self, services: Collection[ServicePortName]) -> Mapping[EndpointKey, int]:
        """Return new connections by endpoint, of some service ports: none left out."""
        found: dict[EndpointKey, int] = {}
        for family in self._families.values():
            for key, total in family.endpoints.totals.items() if services else ():
                if key[0] in services:
                    found[key] = found.get(key, 0) + total
        return found

    @property
    def omitted(self) -> Mapping[str, int]:
        """How many services and endpoints are not shown, for there are too many."""
        families = self._families.values()
        services = len(set[ServicePortName]().union(*(family.services for family in families)))
        endpoints = sum(len(family.endpoints) for family in families)
        return {
            "services": max(0, services - self._max_services),
            "endpoints": max(0, endpoints - self._max_endpoints) if self._max_endpoints else 0,
        }

    def packets(self, name: str) -> int | None:
        """Return the total of ``invalid_dropped`` or ``localhost_accepted``; None where nothing ever counted it."""
        if name == "localhost_accepted" and (asked := self._total(_ASKED)) is not None:
            # The two are not read at the very same moment, and no total may ever fall.
            self._accepted = max(self._accepted, asked - (self._total(_LEFT) or 0))
            return self._accepted
        return self._total(name)

    def _total(self, name: str) -> int | None:
        found = [family.packets.totals.get(name) for family in self._families.values()]
        totals = [total for total in found if total is not None]
        return sum(totals) if totals else None

    def dump(self, boot: str) -> bytes:
        """Return all totals as text that `load` reads; ``boot`` names this boot of the machine."""
        return msgspec.json.encode(
            {"boot": boot, "families": {name: _dump(family) for name, family in self._families.items()}}
        )

    def load(self, data: bytes, boot: str) -> bool:
        """Go on from dumped totals; return whether they were of any use. Raises ValueError where they make no sense.

        After a reboot they are of none: the rules they go with are gone, and whoever scrapes sees a restart anyway.
        """
        try:
            state = msgspec.json.decode(data, type=_State)
        except msgspec.DecodeError as error:
            raise ValueError(f"not a state of kproxy's counters: {error}") from None
        if state.boot != boot:
            return False
        for name, saved in state.families.items():
            family = self._families[name]
            for ledger, rows in (
                (family.services, saved.services),
                (family.rejected, saved.rejected),
                (family.dropped, saved.dropped),
            ):
                ledger.restore((ServicePortName(*row[:4]), *row[4:]) for row in rows)
            family.endpoints.restore(((ServicePortName(*row[:4]), row[4]), *row[5:]) for row in saved.endpoints)
            family.packets.restore(saved.packets)
        return True


def _busiest(ledgers: Collection[Ledger[K]], limit: int) -> Mapping[K, int]:
    """Add up the ledgers of both families; return no more than ``limit``, those with the most."""
    totals: dict[K, int] = {}
    for ledger in ledgers:
        if not totals:
            totals = ledger.totals
            continue
        for key, total in ledger.totals.items():
            totals[key] = totals.get(key, 0) + total
    if len(totals) <= limit:
        return totals
    return dict(heapq.nlargest(limit, totals.items(), key=lambda item: item[1]))


class _FamilyState(msgspec.Struct, frozen=True):
    """The rows of a family's ledgers."""

    services: list[tuple[str, str, str, Protocol, int, int]] = []
    rejected: list[tuple[str, str, str, Protocol, int, int]] = []
    dropped: list[tuple[str, str, str, Protocol, int, int]] = []
    endpoints: list[tuple[str, str, str, Protocol, str, int, int]] = []
    packets: list[tuple[str, int, int]] = []


class _State(msgspec.Struct, frozen=True):
    """What is kept over a restart."""

    boot: str
    families: dict[IPFamily, _FamilyState]


def _dump(family: _Family) -> _FamilyState:
    return _FamilyState(
        services=[(*key, total, last) for key, total, last in family.services.entries()],
        rejected=[(*key, total, last) for key, total, last in family.rejected.entries()],
        dropped=[(*key, total, last) for key, total, last in family.dropped.entries()],
        endpoints=[
            (*service, endpoint, total, last) for (service, endpoint), total, last in family.endpoints.entries()
        ],
        packets=family.packets.entries(),
    )


class Store:
    """Keeps the totals in a file, ``counters.json`` in the state directory, over a restart of kproxy."""

    def __init__(self, directory: str | Path, root: Path = Path("/")) -> None:
        self._file = Path(directory) / "counters.json"
        self._boot_file = root / "proc/sys/kernel/random/boot_id"

    def load(self, counters: ConnectionCounters) -> None:
        """Read the totals, if there are any of this boot.

        Raises OSError or ValueError, with a one-line text, where there is a file that can't be read.
        """
        try:
            data = self._file.read_bytes()
        except FileNotFoundError:
            return
        counters.load(data, self._boot())

    def save(self, counters: ConnectionCounters) -> None:
        """Write the totals, whole or not at all.

        Raises OSError where that can't be done.
        """
        self._file.parent.mkdir(parents=True, exist_ok=True)
        draft = self._file.with_suffix(".new")
        draft.write_bytes(counters.dump(self._boot()))
        draft.replace(self._file)

    def _boot(self) -> str:
        return self._boot_file.read_text().strip()
