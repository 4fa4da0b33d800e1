"""Gives every rule of a plan its word, and every backend of a rule its slot.

A slot that a use has had stays its own. A new use takes one whose counters are still at zero: all others have to wait
for the next reload, so that the figures of one rule are never those of another.
"""

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from kproxy.ingress.haproxy.compile.draws import draw
from kproxy.ingress.haproxy.compile.slots import backend_slot, redirect_slot
from kproxy.ingress.haproxy.settings import EngineSettings
from kproxy.ingress.haproxy.text.model import NO_BACKEND, Memory, Slot
from kproxy.ingress.plan.action import BackendKey, Rule, RuleKey, WeightedBackend
from kproxy.ingress.plan.model import Plan

_FEWEST_SPARES = 16
SPARE = Slot()


def _name(number: int) -> str:
    return f"b{number}"


class _Use(NamedTuple):
    """What needs a slot."""

    name: str
    slot: Slot
    rule: Rule
    choice: WeightedBackend | None
    """None for a redirect."""


class Words:
    """The words and slots of a plan."""

    def __init__(self, plan: Plan, settings: EngineSettings, before: Memory, without: frozenset[RuleKey]) -> None:
        self.draws: dict[str, str] = {}
        self.weights: dict[str, str] = {}
        self.uses: dict[BackendKey, list[tuple[str, Rule, WeightedBackend]]] = {}
        """The slots of each backend."""
        found = list(_uses(plan, settings, without))
        uses = {one.name: one.slot for one in found}
        self.memory = _assign(uses, before)
        self.slots: Mapping[str, Slot] = {_name(number + 1): SPARE for number in range(self.memory.size)} | {
            name: uses[use] for use, name in self.memory.slots.items()
        }
        for one in found:
            if one.choice is not None and one.choice.backend is not None:
                used = self.uses.setdefault(one.choice.backend, [])
                used.append((self.memory.slots[one.name], one.rule, one.choice))
        self._words = {key: self._word(rule) for key, rule in plan.rules.items() if key not in without}

    def get(self, key: RuleKey) -> str | None:
        """Return the word of a rule; None if it is left out."""
        return self._words.get(key)

    def _word(self, rule: Rule) -> str:
        if rule.redirect is not None:
            return self.memory.slots[_redirect_use(rule)]
        if not rule.backends:
            return NO_BACKEND
        words = [NO_BACKEND if use is None else self.memory.slots[use] for use in _backend_uses(rule)]
        word, entries = draw(list(zip(words, (choice.weight for choice in rule.backends), strict=True)))
        if entries:
            self.draws |= entries
            self.weights[word] = str(len(entries))
        return word


def _uses(plan: Plan, settings: EngineSettings, without: frozenset[RuleKey]) -> Iterator[_Use]:
    """Yield what needs a slot, in a fixed order."""
    for key in sorted(plan.rules):
        rule = plan.rules[key]
        if key in without:
            continue
        if rule.redirect is not None:
            yield _Use(_redirect_use(rule), redirect_slot(rule, rule.redirect), rule, None)
            continue
        for use, choice in zip(_backend_uses(rule), rule.backends, strict=True):
            if use is not None and choice.backend is not None:
                slot = backend_slot(rule, choice, plan.backends[choice.backend], settings)
                yield _Use(use, slot, rule, choice)


def _redirect_use(rule: Rule) -> str:
    return f"{rule.key} redirect"


def _backend_uses(rule: Rule) -> Sequence[str | None]:
    """Name the uses of a rule's backends. One backend may be there twice, with other filters."""
    times: collections.Counter[str] = collections.Counter()
    uses: list[str | None] = []
    for choice in rule.backends:
        if choice.backend is None:
            uses.append(None)
            continue
        use = f"{rule.key} {choice.backend}"
        times[use] += 1
        uses.append(f"{use} {times[use]}")
    return uses


def _assign(uses: Mapping[str, Slot], before: Memory) -> Memory:
    kept = {use: name for use, name in before.slots.items() if use in uses}
    new = [use for use in uses if use not in kept]
    clean = [name for number in range(before.size) if (name := _name(number + 1)) not in before.used]
    size, used = before.size, before.used
    if len(new) > len(clean):  # a reload will be needed, which puts all counters to zero
        size = max(size, len(uses) + max(_FEWEST_SPARES, len(uses) // 4))
        taken, used = set(kept.values()), frozenset[str]()
        clean = [name for number in range(size) if (name := _name(number + 1)) not in taken]
    slots = kept | dict(zip(new, clean, strict=False))
    return Memory(slots, size, used | frozenset(slots.values()), before.features)
