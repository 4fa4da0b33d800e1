"""Shared lists as chains: one after another in the classic layout, as a tree in the large one.

kube-proxy's KUBE-SERVICES is one list that every new connection walks until its rule is found, 200 µs long with 30,000
services. A tree of chains gets there in a few steps: the entries are sorted by what they match on, written as a string
of digits (an address 10.96.0.10, protocol TCP and port 80 become ``0a60000aT0050``), and a chain with too many of them
is split by the next digit in which they differ, with a guard in front of each part (``-d 10.96.0.0/20 -j …``).

What the tree looks like depends only on the entries, not on the order in which they came; a change touches the chains
on the way to it and no others.
"""

import bisect
import ipaddress
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from kproxy.backends.iptables.rules.names import short_hash
from kproxy.backends.iptables.rules.ruleset import Chain, DestinationPort, Jump, Prefix, Rule
from kproxy.state.addresses import packed
from kproxy.state.model import IPFamily, ServicePortName
from kproxy.state.model import Protocol as Transport

LEAF = 16
"""Most entries of a chain that is not split."""

_MAX_CHAIN_NAME = 28  # XT_EXTENSION_MAXNAMELEN less the closing zero
_LETTERS = {Transport.TCP: "T", Transport.UDP: "U", Transport.SCTP: "S"}
_TRANSPORTS = {letter: transport for transport, letter in _LETTERS.items()}


class Item(NamedTuple):
    """An entry of a shared list. Items sort by what they match on, then by service: so the first of two wins."""

    digits: str
    owner: ServicePortName
    number: int
    """Which of its owner's entries in this list it is."""


class ListBuilder(Protocol):
    """Turns the entries of a shared list into chains."""

    root: Chain
    """The rules that stand in the list's own chain."""

    def update(self, removed: Iterable[Item], added: Iterable[tuple[Item, Rule]]) -> dict[str, Chain | None]:
        """Take entries out and in; return the chains below the root that changed, None for those that are gone."""


def item_of(rule: Rule, owner: ServicePortName, number: int) -> Item:
    """Return under what a rule is sorted: its destination address, if any, its protocol and destination port."""
    port = next(match for match in rule.matches if isinstance(match, DestinationPort))
    digits = f"{_LETTERS[port.protocol]}{port.first:04x}"
    if rule.destination is not None:
        digits = packed(rule.destination.cidr.partition("/")[0]).hex() + digits
    return Item(digits, owner, number)


class LinearList:
    """All entries in one chain, by service: kube-proxy's layout."""

    def __init__(self) -> None:
        self.root: Chain = ()
        self._places: list[tuple[ServicePortName, int]] = []
        self._rules: list[Rule] = []

    def update(self, removed: Iterable[Item], added: Iterable[tuple[Item, Rule]]) -> dict[str, Chain | None]:
        """Take entries out and in; nothing ever stands below the root."""
        for _, owner, number in removed:
            index = bisect.bisect_left(self._places, (owner, number))
            del self._places[index], self._rules[index]
        for (_, owner, number), rule in sorted(added, key=lambda entry: entry[0][1:]):
            index = bisect.bisect_left(self._places, (owner, number))
            self._places.insert(index, (owner, number))
            self._rules.insert(index, rule)
        self.root = tuple(self._rules)
        return {}


class DispatchTree:
    """Entries spread over a tree of chains, named by a prefix and the digits that lead there."""

    def __init__(self, family: IPFamily, prefix: str, *, by_address: bool) -> None:
        self.root: Chain = ()
        self._prefix = prefix
        self._family = family
        self._address_digits = (8 if family is IPFamily.IPV4 else 32) if by_address else 0
        self._items: list[Item] = []
        self._digits: list[str] = []  # of the items, for quick searching
        self._splits: dict[str, str | None] = {}  # what `_split` has found since the items last changed
        self._rules: dict[Item, Rule] = {}
        self._chains: dict[str, Chain] = {"": ()}
        self._children: dict[str, tuple[str, ...]] = {"": ()}

    def update(self, removed: Iterable[Item], added: Iterable[tuple[Item, Rule]]) -> dict[str, Chain | None]:
        """Take entries out and in, and rebuild the chains on the way to them."""
        out, into = list(removed), dict(added)
        touched = {item.digits for item in out} | {item.digits for item in into}
        stale = {path for digits in touched for path in self._way_to(digits)} if self._items else set()
        stale |= {child for path in stale for child in self._children[path]}
        self._replace_items(out, into)
        fresh: dict[str, Chain] = {}
        for digits in touched:
            for path in self._way_to(digits):
                if path not in fresh:
                    self._build(path, fresh)
        gone = self._collect(stale)
        self.root = self._chains[""]
        changed: dict[str, Chain | None] = {self._name(path): None for path in gone}
        changed.update((self._name(path), chain) for path, chain in fresh.items() if path)
        return changed

    def _replace_items(self, removed: list[Item], added: dict[Item, Rule]) -> None:
        for item in removed:
            del self._rules[item]
        self._rules.update(added)
        self._splits.clear()
        if len(removed) + len(added) > 64:  # sorting what is nearly sorted beats many insertions
            self._items = sorted(self._rules)
            self._digits = [item.digits for item in self._items]
            return
        for item in removed:
            index = bisect.bisect_left(self._items, item)
            del self._items[index], self._digits[index]
        for item in added:
            index = bisect.bisect_left(self._items, item)
            self._items.insert(index, item)
            self._digits.insert(index, item.digits)

    def _range(self, path: str) -> tuple[int, int]:
        """Return where in the sorted items those below ``path`` begin and end."""
        if not path:
            return 0, len(self._digits)
        first = bisect.bisect_left(self._digits, path)
        return first, bisect.bisect_left(self._digits, path + "~", lo=first)

    def _split(self, path: str) -> str | None:
        """Return the digits all items below ``path`` begin with if its chain is split after them, else None."""
        if path not in self._splits:
            self._splits[path] = self._find_split(*self._range(path))
        return self._splits[path]

    def _find_split(self, first: int, last: int) -> str | None:
        if last - first <= LEAF:
            return None
        common = _common_prefix(self._digits[first], self._digits[last - 1])
        return None if common == self._digits[first] else common

    def _way_to(self, digits: str) -> Iterator[str]:
        """Yield the paths of the chains that a packet with these digits comes through."""
        path = ""
        while True:
            yield path
            common = self._split(path)
            if common is None or not digits.startswith(common):
                return
            path = digits[: len(common) + 1]
            if path not in self._splits:
                first, last = self._range(path)
                if last - first < 2:
                    return

    def _build(self, path: str, fresh: dict[str, Chain]) -> None:
        """Write the chain at ``path``, and those below it that are not there yet."""
        common = self._split(path)
        first, last = self._range(path)
        children = []
        if common is None:
            rules = [self._rules[item] for item in self._items[first:last]]
        else:
            rules = []
            while first < last:
                child = self._digits[first][: len(common) + 1]
                _, end = self._range(child)
                if end - first == 1:  # one entry needs no chain of its own
                    rules.append(self._rules[self._items[first]])
                else:
                    rules.append(self._guard(child))
                    children.append(child)
                first = end
        self._chains[path] = fresh[path] = tuple(rules)
        self._children[path] = tuple(children)
        for child in children:
            if child not in self._chains:
                self._build(child, fresh)

    def _collect(self, suspects: set[str]) -> list[str]:
        """Forget those of ``suspects``, and of what is below them, that no chain leads to any more."""
        gone = []
        pending = [path for path in suspects if path]
        while pending:
            path = pending.pop()
            if path not in self._chains or self._is_alive(path):
                continue
            gone.append(path)
            del self._chains[path]
            pending += self._children.pop(path)
        return gone

    def _is_alive(self, path: str) -> bool:
        first, last = self._range(path)
        return last - first > 1 and path in self._way_to(self._digits[first])

    def _name(self, path: str) -> str:
        room = _MAX_CHAIN_NAME - len(self._prefix)
        return self._prefix + (path.upper() if len(path) <= room else short_hash(path, room))

    def _guard(self, path: str) -> Rule:
        """Return the rule that leads to the chain at ``path``: true of every packet that it has an entry for."""
        address, rest = path[: self._address_digits], path[self._address_digits :]
        destination = self._network(address) if address else None
        target = Jump(self._name(path))
        if not rest:
            return Rule(target=target, destination=destination)
        transport, ports = _TRANSPORTS[rest[0]], rest[1:]
        first, last = int(ports.ljust(4, "0"), 16), int(ports.ljust(4, "f"), 16)
        matches = (DestinationPort(transport, first, last),) if ports else ()
        return Rule(target=target, destination=destination, protocol=transport, matches=matches)

    def _network(self, digits: str) -> Prefix:
        address = bytes.fromhex(digits.ljust(8 if self._family is IPFamily.IPV4 else 32, "0"))
        return Prefix(f"{ipaddress.ip_address(address)}/{4 * len(digits)}")


def _common_prefix(one: str, other: str) -> str:
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return one[:length]
