"""What leads from one configuration to the next: commands for the runtime socket, or a reload and its reason.

The order of commands keeps every request whole: what entries will lead to comes first, then the entries that lead
there, then what is not led to any more is put out of use. It is removed by `tidy` some time later only, because a
request that another thread is looking up may still be on its way through the old entries.
"""

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from kproxy.ingress.haproxy.text.model import LEAVES, Configuration, CrtLine, Server
from kproxy.ingress.haproxy.text.quoting import socket_word
from kproxy.ingress.haproxy.text.render import crt_line, entry, server_arguments

_MOST_PAYLOAD = 8_000
"""Octets in one command; HAProxy's buffer has room for 16 KiB, and answers each line with a prompt of two."""


class Command(NamedTuple):
    """A command, and what its answer begins with if it went well (empty: there is no answer)."""

    text: str
    good: tuple[str, ...] = ("",)
    payload: str = ""


class Reload(msgspec.Struct, frozen=True):
    """No way but a reload."""

    reason: str


class Leftovers(msgspec.Struct, frozen=True):
    """What is in the process though no configuration asks for it any more."""

    servers: Mapping[str, frozenset[str]] = {}
    """Names of servers in maintenance, by slot."""
    entries: Mapping[str, Mapping[str, str]] = {}
    """Entries of leaf maps."""


class Steps(msgspec.Struct, frozen=True):
    """Commands in order, and what is left over after them."""

    commands: tuple[Command, ...]
    leftovers: Leftovers


NOTHING_LEFT = Leftovers()


def diff(before: Configuration, after: Configuration, left: Leftovers = NOTHING_LEFT) -> Steps | Reload:
    """Return what leads from ``before``, with what it has ``left``, to ``after``."""
    reason = _why_reload(before, after)
    if reason is not None:
        return Reload(reason)
    servers = _Servers(before, after, left)
    entries = _Entries(before, after, left)
    certificates = _Certificates(before, after)
    commands = [*certificates.come, *servers.come, *entries.come, *entries.hosts, *servers.go, *certificates.go]
    return Steps(tuple(commands), Leftovers(servers.left, entries.left))


def tidy(left: Leftovers) -> Iterator[tuple[Command, Leftovers]]:
    """Yield commands that remove what is left over, each with the one thing that it removes."""
    for slot, names in left.servers.items():
        for name in sorted(names):
            yield Command(f"del server {slot}/{name}", ("Server deleted",)), Leftovers({slot: frozenset({name})})
    for name, entries in left.entries.items():
        for key, value in entries.items():
            yield Command(f"del map maps/{name} {socket_word(key)}"), Leftovers(entries={name: {key: value}})


def _why_reload(before: Configuration, after: Configuration) -> str | None:
    if before.head is not after.head and before.head != after.head:
        return _first_difference(before, after)
    if len(before.slots) < len(after.slots):
        return "no slot is left for a new rule"
    if before.memory.used - after.memory.used:
        return "slots are to be used again"
    for name, slot in after.slots.items():
        if before.slots[name] is not slot and before.slots[name].lines != slot.lines:
            return f"filters of {slot.rule or before.slots[name].rule} have changed"
    for path, lines in after.crt_lists.items():
        if before.crt_lists[path][:1] != lines[:1]:
            return "another certificate is the default"
        if _cannot_tell_apart(before.crt_lists[path], lines):
            return "a certificate of several names has lost one"
    return None


def _first_difference(before: Configuration, after: Configuration) -> str:
    section = ""
    for old, new in zip(before.head, after.head, strict=False):
        if old != new:
            section = new if not new.startswith(" ") else section
            break
        if not new.startswith(" "):
            section = new
    return f"{section or 'the configuration'} has changed"


class _Servers:
    """Servers to come and to go."""

    def __init__(self, before: Configuration, after: Configuration, left: Leftovers) -> None:
        self.come: list[Command] = []
        self.go: list[Command] = []
        self.left: dict[str, frozenset[str]] = {}
        for name, slot in after.slots.items():
            old, parked = before.slots[name].servers, left.servers.get(name, frozenset())
            if before.slots[name] is not slot and old != slot.servers:
                parked = self._slot(name, old, slot.servers, parked)
            if parked:
                self.left[name] = parked

    def _slot(
        self, slot: str, old: tuple[Server, ...], new: tuple[Server, ...], parked: frozenset[str]
    ) -> frozenset[str]:
        before = {server.name: server for server in old}
        for server in new:
            known = before.pop(server.name, None)
            state = "drain" if server.draining else "ready"
            if known is None and server.name not in parked:
                self.come.append(
                    Command(f"add server {slot}/{server.name} {server_arguments(server)}", ("New server registered",))
                )
                self.come.append(_state(slot, server.name, state))
            elif known is None or known.draining != server.draining:
                (self.go if server.draining else self.come).append(_state(slot, server.name, state))
            parked = parked - {server.name}
        self.go += [_state(slot, name, "maint") for name in before]
        return parked | before.keys()


def _state(slot: str, server: str, state: str) -> Command:
    return Command(f"set server {slot}/{server} state {state}")


class _Entries:
    """Entries of maps to come, those of host maps to switch, and what is left over in leaf maps."""

    def __init__(self, before: Configuration, after: Configuration, left: Leftovers) -> None:
        self.come: list[Command] = []
        self.hosts: list[Command] = []
        self.left: dict[str, Mapping[str, str]] = {}
        for name in LEAVES:
            if name in after.maps:
                self._leaf(name, before.maps[name], after.maps[name], left.entries.get(name, {}))
        for name, entries in after.maps.items():
            if name not in LEAVES and before.maps[name] is not entries and before.maps[name] != entries:
                if name in after.host_maps and not name.endswith("-wild"):
                    self.hosts += _switched(name, before.maps[name], entries)
                else:  # the order counts
                    self.hosts += _replaced(name, entries)

    def _leaf(self, name: str, old: Mapping[str, str], new: Mapping[str, str], left: Mapping[str, str]) -> None:
        if new is old or new == old:
            if left:
                self.left[name] = left
            return
        there = {**left, **old}
        self.come += _added(f"maps/{name}", {key: value for key, value in new.items() if key not in there})
        over = {key: value for key, value in there.items() if key not in new}
        if over:
            self.left[name] = over


def _switched(name: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Command]:
    yield from _added(f"maps/{name}", {key: value for key, value in new.items() if key not in old})
    for key, value in new.items():
        if key in old and old[key] != value:
            yield Command(f"set map maps/{name} {socket_word(key)} {value}")
    for key in old:
        if key not in new:
            yield Command(f"del map maps/{name} {socket_word(key)}")


def _replaced(name: str, entries: Mapping[str, str]) -> Iterator[Command]:
    """Replace a map as a whole. ``@`` is filled in by who sends it, from the answer to the first command."""
    yield Command(f"prepare map maps/{name}", ("New version created:",))
    yield from _added(f"@ maps/{name}", entries)
    yield Command(f"commit map @ maps/{name}")


def _added(where: str, entries: Mapping[str, str]) -> Iterator[Command]:
    lines: list[str] = []
    size = 0
    for key, value in entries.items():
        line = entry(key, value)
        if lines and size + len(line) > _MOST_PAYLOAD:
            yield Command(f"add map {where}", payload="\n".join(lines))
            lines, size = [], 0
        lines.append(line)
        size += len(line) + 4
    if lines:
        yield Command(f"add map {where}", payload="\n".join(lines))


class _Certificates:
    """Certificates to come and to go."""

    def __init__(self, before: Configuration, after: Configuration) -> None:
        self.come = [command for path, pem in after.certificates.items() for command in _stored(before, path, pem)]
        self.go: list[Command] = []
        for path, lines in after.crt_lists.items():
            old = before.crt_lists[path]
            new = [line for line in lines if line not in old]
            self.come += [Command(f"add ssl crt-list {path}", ("Inserting",), crt_line(line)) for line in new]
            gone = [line.path for line in old if line not in lines]
            self.go += [Command(f"del ssl crt-list {path} {line}", ("Entry",)) for line in gone]
        self.go += [
            Command(f"del ssl cert {path}", ("Certificate",))
            for path in before.certificates.keys() - after.certificates
        ]


def _stored(before: Configuration, path: str, pem: str) -> Iterator[Command]:
    if before.certificates.get(path) == pem:
        return
    if path not in before.certificates:
        yield Command(f"new ssl cert {path}", ("New empty certificate store",))
    yield Command(f"set ssl cert {path}", ("Transaction",), pem.replace("\n\n", "\n").strip())
    yield Command(f"commit ssl cert {path}", ("Committing",))


def _cannot_tell_apart(before: Sequence[CrtLine], after: Sequence[CrtLine]) -> bool:
    """Tell whether a line has to go whose certificate has more than one: the socket knows lines by certificates."""
    times = collections.Counter(line.path for line in {*before, *after})
    return any(times[line.path] > 1 for line in before if line not in after)
