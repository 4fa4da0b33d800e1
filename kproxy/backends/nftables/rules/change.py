"""A step from one ruleset to the next: what comes, what goes, element by element."""

from collections.abc import Mapping, Set
from typing import Generic, NamedTuple, TypeVar

import msgspec

from kproxy.backends.nftables.rules.ruleset import Chain, Data, Elements, Key, Numbers, RuleSet, SetSpec
from kproxy.state.model import ServicePortName

N = TypeVar("N")
T = TypeVar("T")


class EndpointOf(NamedTuple):
    """An endpoint of a service port."""

    service: ServicePortName
    endpoint: str
    """As ``ip:port``."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What must be done to the table. Whatever is replaced both goes and comes."""

    after: RuleSet
    """The whole of the wanted ruleset, for the case that the kernel is found to hold something else than expected."""
    sets_gone: Mapping[str, SetSpec] = {}
    sets_come: Mapping[str, SetSpec] = {}
    counters_gone: Set[str] = frozenset()
    counters_come: Set[str] = frozenset()
    chains_gone: Set[str] = frozenset()
    chains_come: Mapping[str, Chain] = {}
    """New chains, and those whose rules are to be replaced."""
    elements_gone: Mapping[str, Elements] = {}
    """By set; those of sets that go are not listed."""
    elements_come: Mapping[str, Elements] = {}
    own_gone: Mapping[Numbers, EndpointOf] = {}
    """For whom those of the elements that go have counted which stand for endpoints of services with own chains."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (
            self.sets_gone
            or self.sets_come
            or self.counters_gone
            or self.counters_come
            or self.chains_gone
            or self.chains_come
            or self.elements_gone
            or self.elements_come
        )

    @property
    def touched(self) -> frozenset[str]:
        """The names of all sets and chains it is about."""
        return frozenset().union(
            self.sets_gone,
            self.sets_come,
            self.chains_gone,
            self.chains_come,
            self.elements_gone,
            self.elements_come,
        )

    @property
    def size(self) -> int:
        """The number of elements that come or go."""
        several = (*self.elements_gone.values(), *self.elements_come.values())
        return sum(map(len, several))


class Recorder(Generic[N, T]):
    """Writes into a mapping and remembers what was there before, to tell what came of it in the end."""

    def __init__(self, values: dict[N, T]) -> None:
        self._values = values
        self._before: dict[N, T | None] = {}

    def set(self, name: N, value: T | None) -> None:
        """Write a value, or remove it."""
        old = self._values.get(name)
        if old == value:
            return
        self._before.setdefault(name, old)
        if value is None:
            del self._values[name]
        else:
            self._values[name] = value

    @property
    def gone(self) -> dict[N, T]:
        """What was there and no longer is, or not with that value."""
        return {name: old for name, old in self._before.items() if old is not None and self._values.get(name) != old}

    @property
    def come(self) -> dict[N, T]:
        """What is there and was not, or not with that value."""
        return {
            name: self._values[name]
            for name, old in self._before.items()
            if name in self._values and self._values[name] != old
        }


ABSENT: tuple[str | int, ...] = ("absent",)


class ElementRecorder:
    """The same for the elements of all sets, whose values may be None."""

    def __init__(self, elements: dict[str, dict[Key, Data]]) -> None:
        self._elements = elements
        self._before: dict[tuple[str, Key], Data] = {}
        self._from_nothing = not elements

    def add(self, set_name: str, key: Key, data: Data) -> None:
        """Write an element."""
        here = self._elements.get(set_name)
        if here is None:
            here = self._elements[set_name] = {}
        if not self._from_nothing:
            self._before.setdefault((set_name, key), here.get(key, ABSENT))
        here[key] = data

    def remove(self, set_name: str, key: Key) -> None:
        """Remove an element."""
        here = self._elements[set_name]
        if not self._from_nothing:
            self._before.setdefault((set_name, key), here[key])
        del here[key]
        if not here:
            del self._elements[set_name]

    def changes(self) -> tuple[Mapping[str, Elements], Mapping[str, Elements]]:
        """Return the elements that are gone, and those that have come, by set."""
        if self._from_nothing:
            return {}, self._elements
        gone: dict[str, dict[Key, Data]] = {}
        come: dict[str, dict[Key, Data]] = {}
        for (set_name, key), before in self._before.items():
            now = self._elements.get(set_name, _NONE).get(key, ABSENT)
            if now == before:
                continue
            if before is not ABSENT:
                gone.setdefault(set_name, {})[key] = before
            if now is not ABSENT:
                come.setdefault(set_name, {})[key] = now
        return gone, come


_NONE: dict[Key, Data] = {}


def from_nothing(ruleset: RuleSet) -> Change:
    """Return the change that brings all of a ruleset."""
    return Change(
        after=ruleset,
        sets_come=ruleset.sets,
        counters_come=ruleset.counters,
        chains_come=ruleset.chains,
        elements_come=ruleset.elements,
    )
