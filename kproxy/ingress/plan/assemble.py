"""Puts together what the readers found: doors that listeners want, and the entries behind them, become frontends.

Several listeners may share a port. Where they want different host names they stand side by side, most specific first;
where they want the same, which can only be if they are different owners', their entries are put together, and the
older's come first wherever they ask equally much.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from kproxy.api.types import ObjectKey
from kproxy.ingress.plan.action import RuleKey
from kproxy.ingress.plan.matching import ANY_HOST, HostPattern, Match
from kproxy.ingress.plan.model import Bind, Frontend, Host, Listener, ListenerKey, Protocol, Route, ServerName, Tls
from kproxy.ingress.plan.precedence import Entry, Seniority, host_rank, route_rank


class Door(msgspec.Struct, frozen=True, kw_only=True):
    """What one listener wants."""

    owner: ListenerKey
    seniority: Seniority
    binds: tuple[Bind, ...]
    port: int
    """As clients know it."""
    protocol: Protocol
    pattern: HostPattern
    entries: tuple[Entry, ...] = ()
    names: tuple[ServerName, ...] = ()
    fallback: ObjectKey | None = None


class Shadowed(NamedTuple):
    """An entry whose match is that of an older one, so that it gets no requests."""

    entry: Entry
    by: RuleKey


def assemble(doors: Iterable[Door]) -> tuple[tuple[Frontend, ...], tuple[Shadowed, ...]]:
    """Return the frontends, and the entries that came too late. All doors of one bind have the same protocol."""
    behind: dict[Bind, list[Door]] = {}
    for door in sorted(doors, key=lambda door: (door.seniority, door.owner)):
        for bind in door.binds:
            behind.setdefault(bind, []).append(door)
    groups: dict[tuple[int, ...], list[Bind]] = {}
    for bind, those in behind.items():
        groups.setdefault(tuple(id(door) for door in those), []).append(bind)
    shadowed: list[Shadowed] = []
    hosts = _Hosts(shadowed)
    frontends = [_frontend(sorted(binds), behind[binds[0]], hosts) for binds in groups.values()]
    return tuple(sorted(frontends, key=lambda frontend: frontend.binds)), tuple(dict.fromkeys(shadowed))


class _Hosts:
    """Makes hosts of entries; the same entries, behind several doors, are sorted once."""

    def __init__(self, shadowed: list[Shadowed]) -> None:
        self._shadowed = shadowed
        self._made: dict[tuple[int, ...], tuple[Host, ...]] = {}

    def of(self, doors: Sequence[Door]) -> tuple[Host, ...]:
        """Return the hosts behind some doors of one pattern."""
        key = tuple(id(door.entries) for door in doors)
        if key not in self._made:
            self._made[key] = self._make(entry for door in doors for entry in door.entries)
        return self._made[key]

    def _make(self, entries: Iterable[Entry]) -> tuple[Host, ...]:
        by_host: dict[HostPattern, list[Entry]] = {}
        for entry in entries:
            by_host.setdefault(entry.host, []).append(entry)
        return tuple(Host(pattern, self._routes(by_host[pattern])) for pattern in sorted(by_host, key=host_rank))

    def _routes(self, entries: list[Entry]) -> tuple[Route, ...]:
        taken: dict[Match, RuleKey] = {}
        for entry in sorted(entries, key=route_rank):
            first = taken.setdefault(entry.match, entry.rule)
            if first != entry.rule:
                self._shadowed.append(Shadowed(entry, first))
        return tuple(Route(match, rule) for match, rule in taken.items())


def _frontend(binds: Sequence[Bind], doors: Sequence[Door], hosts: _Hosts) -> Frontend:
    by_pattern: dict[HostPattern, list[Door]] = {}
    for door in doors:
        by_pattern.setdefault(door.pattern, []).append(door)
    listeners = tuple(
        Listener(
            pattern=pattern,
            owners=tuple(dict.fromkeys(door.owner for door in by_pattern[pattern])),
            hosts=hosts.of(by_pattern[pattern]),
        )
        for pattern in sorted(by_pattern, key=host_rank)
    )
    protocol = doors[0].protocol
    tls = _tls(doors) if protocol is Protocol.HTTPS else None
    return Frontend(binds=tuple(binds), port=doors[0].port, protocol=protocol, listeners=listeners, tls=tls)


def _tls(doors: Sequence[Door]) -> Tls:
    """Put certificates together; the oldest door's stand first where several are for one name."""
    names: dict[HostPattern, dict[ObjectKey, None]] = {}
    for door in doors:
        for name in door.names:
            names.setdefault(name.pattern, {}).update(dict.fromkeys(name.certificates))
    asked_for = (door.fallback for door in doors if door.fallback is not None)
    fallback = next(asked_for, next(iter(names.get(ANY_HOST, ())), None))
    return Tls(tuple(_server_name(pattern, names) for pattern in sorted(names, key=host_rank)), fallback)


def _server_name(pattern: HostPattern, names: Mapping[HostPattern, Mapping[ObjectKey, None]]) -> ServerName:
    return ServerName(pattern, tuple(names[pattern]))
