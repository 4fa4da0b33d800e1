"""Makes tables of a frontend's hosts: which table a host has, and what is in it.

A table is what holds for one most specific host pattern. The patterns that a host may have are nested, never crossing,
so the most specific one says which listener and which hosts a request goes through. All their routes together, in
order, are resolved here for every path that they name: first for a path as it is (`Table.exact`), then for the longest
prefix. A route that is certain to match ends the list; where the first is certain, the path alone leads to its word.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import msgspec

from kproxy.ingress.haproxy.compile.conditions import Expression, anything, digest, expressions, pattern
from kproxy.ingress.plan.action import RuleKey
from kproxy.ingress.plan.matching import HostKind, HostPattern, Match, PathKind
from kproxy.ingress.plan.model import Frontend, Listener

_KINDS = list(HostKind)


class Route(NamedTuple):
    """A route of the plan with the word of its rule."""

    match: Match
    word: str


Routes = tuple[Route, ...]


class Group(msgspec.Struct, frozen=True):
    """Matches to be tried in order; the last may be certain."""

    routes: tuple[Route, ...]

    @property
    def name(self) -> str:
        """A name that tells them apart."""
        return "g" + digest(*(f"{pattern('', route.match)} {route.word}" for route in self.routes))

    def entries(self) -> Iterator[tuple[str, str]]:
        """Yield the patterns, and the words they lead to."""
        name = self.name
        for route in self.routes:
            yield (anything(name) if _certain(route.match) else pattern(name, route.match)), route.word

    def expressions(self) -> Iterator[Expression]:
        """Yield the regular expressions in it."""
        for route in self.routes:
            yield from expressions(route.match)


class Table(msgspec.Struct, frozen=True):
    """Words by path."""

    exact: dict[str, str]
    prefix: dict[str, str]
    groups: tuple[Group, ...]

    name: str
    """Tells tables of different content apart."""


def patterns(frontend: Frontend) -> list[HostPattern]:
    """Return all host patterns of a frontend, the most specific ones first."""
    found = {listener.pattern for listener in frontend.listeners}
    found |= {host.pattern for listener in frontend.listeners for host in listener.hosts}
    return sorted(found, key=lambda one: (_KINDS.index(one.kind), -len(one.name), one.name))


Item = TypeVar("Item")


class Patterns(Generic[Item]):
    """Things by host pattern, found by a pattern that they all contain."""

    def __init__(self, items: Mapping[HostPattern, Item]) -> None:
        self._by_kind: dict[HostKind, dict[str, Item]] = {kind: {} for kind in HostKind}
        for (kind, name), item in items.items():
            self._by_kind[kind][name] = item
        self._exact, self._one, self._wild, self._any = (self._by_kind[kind] for kind in _KINDS)

    def wider(self, pattern: HostPattern) -> Iterator[Item]:
        """Yield what there is for patterns that mean every host that ``pattern`` means, most specific ones first."""
        kind, name = pattern
        if kind is HostKind.EXACT:
            if name in self._exact:
                yield self._exact[name]
            name = name.partition(".")[2]
        if kind is not HostKind.WILDCARD and name in self._one:
            yield self._one[name]
        while name and self._wild:
            if name in self._wild:
                yield self._wild[name]
            name = name.partition(".")[2]
        yield from self._any.values()


class Hosts:
    """Finds what a frontend has for a host pattern."""

    def __init__(self, frontend: Frontend) -> None:
        self._listeners = Patterns({listener.pattern: listener for listener in frontend.listeners})
        self._hosts = {
            listener.pattern: Patterns({host.pattern: host for host in listener.hosts})
            for listener in frontend.listeners
        }

    def listener(self, wanted: HostPattern) -> Listener | None:
        """Return the listener that hosts of a pattern belong to."""
        return next(self._listeners.wider(wanted), None)

    def routes(self, wanted: HostPattern, word: Callable[[RuleKey], str | None]) -> tuple[Route, ...]:
        """Return the routes of hosts of a pattern in order; rules without a word are left out."""
        listener = self.listener(wanted)
        if listener is None:
            return ()
        return tuple(
            Route(route.match, found)
            for host in self._hosts[listener.pattern].wider(wanted)
            for route in host.routes
            if (found := word(route.rule)) is not None
        )


def table(routes: Sequence[Route]) -> Table:
    """Return the table of some routes."""
    by_path: dict[tuple[PathKind, str], list[int]] = {}
    for number, route in enumerate(routes):
        value = "" if route.match.path.kind is PathKind.REGEX else route.match.path.value
        by_path.setdefault((route.match.path.kind, value), []).append(number)
    everywhere = by_path.get((PathKind.REGEX, ""), [])
    if everywhere:
        by_path.setdefault((PathKind.PREFIX, ""), [])
    groups: dict[str, Group] = {}

    def resolved(numbers: list[int]) -> str:
        return _resolve([routes[number] for number in sorted(numbers)], groups)

    exact, prefix = {}, {}
    for kind, path in by_path:
        above = [n for part in _prefixes(path) for n in by_path.get((PathKind.PREFIX, part), [])]
        if kind is PathKind.EXACT:
            exact[path] = resolved(everywhere + above + by_path[kind, path])
        elif kind is PathKind.PREFIX:
            prefix[path] = resolved(everywhere + above)
    parts = [f"={path} {word}" for path, word in exact.items()] + [f"^{path} {word}" for path, word in prefix.items()]
    return Table(exact, prefix, tuple(groups.values()), "h" + digest(*sorted(parts)))


def _resolve(candidates: Sequence[Route], groups: dict[str, Group]) -> str:
    """Return the word of some routes, of which each matches as far as a plain path is concerned."""
    end = next((at + 1 for at, route in enumerate(candidates) if _certain(route.match)), len(candidates))
    if end == 1 and _certain(candidates[0].match):
        return candidates[0].word
    # Of matches that ask the same beside the path, which is settled here, only the first can be met.
    first = {pattern("", route.match): route for route in reversed(candidates[:end])}
    group = Group(tuple(route for route in candidates[:end] if first[pattern("", route.match)] is route))
    return groups.setdefault(group.name, group).name


def _certain(match: Match) -> bool:
    return match.path_only and match.path.kind is not PathKind.REGEX


def _prefixes(path: str) -> Iterator[str]:
    """Yield all values that a prefix of ``path`` can have, itself included: of /a/b, the empty one, /a and /a/b.

    An exact path may end with a slash, which a prefix does not count: /a/ is under /a, and so is everything of it.
    """
    yield ""
    at = path.find("/", 1)
    while at != -1:
        yield path[:at]
        at = path.find("/", at + 1)
    if path and not path.endswith("/"):
        yield path
