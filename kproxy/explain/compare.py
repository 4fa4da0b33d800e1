"""Holds what the kernel's rules make of a packet against what the plan says, and names where the two part."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple, Protocol

from kproxy.backends.packet import DROPPED, REFUSED, UNTOUCHED, Outcome, Packet, World, without_memory
from kproxy.backends.walk import Step, Walk
from kproxy.explain.model import AS_PLANNED, DIFFERS, Difference, ElementFound, RulePassed
from kproxy.plan.model import Plan

_ENDS_IT = re.compile(r" -j (ACCEPT|RETURN)$|(^| )(accept|return)$")
"""How rules end that leave the packet's address as it is, and ask no further."""
_TOLERANCE = Fraction(1, 1_000_000)


class Line(NamedTuple):
    """One rule of a chain, as people read it."""

    text: str
    packets: int | None = None
    octets: int | None = None
    sameness: object = None
    """Equal for rules that do the same, however they are spelt; None: the text."""

    @property
    def identity(self) -> object:
        """What tells rules apart."""
        return self.text if self.sameness is None else self.sameness


class KernelRules(Protocol):
    """The rules that the kernel holds, kproxy's and those of others; read when a walk comes to them.

    Methods may raise `kproxy.backends.base.BackendError`.
    """

    def close(self) -> None:
        """Let go of what reading them took."""

    def walk(self, packet: Packet, world: World) -> Walk:
        """Send a packet through them; of what is asked at the same point, kproxy's first."""

    def walk_otherwise(self, packet: Packet, world: World) -> Walk | None:
        """Send it through with others' first, where they translate addresses at the same point; None for nowhere.

        The kernel asks first what was loaded last (nf_hook_entries_grow in net/netfilter/core.c), and tells nobody.
        """

    def line(self, table: str, chain: str, number: int) -> Line:
        """Return a rule that a walk passed; number 0 is the chain's policy."""

    def elements(self) -> Iterator[ElementFound]:
        """Yield the elements of sets that walks have come to."""

    def is_ours(self, table: str, chain: str) -> bool:
        """Tell whether a chain is kproxy's alone."""

    def differences(
        self, plan: Plan, packet: Packet, world: World, passed: Sequence[tuple[str, str, int]]
    ) -> Iterator[Difference]:
        """Yield what is too much and what is missing, in kproxy's chains on the packet's way.

        ``plan`` may hold nothing but the services concerned; ``passed`` are the rules that the packet did pass.
        """


class Compared(NamedTuple):
    """What came of a comparison."""

    kernel: str
    rules: tuple[RulePassed, ...]
    elements: tuple[ElementFound, ...]
    differences: tuple[Difference, ...]
    doubts: tuple[str, ...]
    notes: tuple[str, ...] = ()


def compare(
    rules: KernelRules, plan: Plan, packet: Packet, world: World, planned: Mapping[Outcome, Fraction]
) -> Compared:
    """Walk a packet through the kernel's rules and hold the outcome against the plan's."""
    walk = rules.walk(packet, world)
    found = without_memory(walk.found)
    passed = tuple(_passed(rules, walk))
    elements = tuple(rules.elements())
    doubts = tuple(
        dict.fromkeys(_doubt(rules, doubt.step.place, doubt.step.number, doubt.what) for doubt in walk.doubts)
    )
    if _alike(found, planned):
        ties = tuple(_ties(rules, rules.walk_otherwise(packet, world), found))
        return Compared(AS_PLANNED, passed, elements, (), (*doubts, *ties))
    strangers = [step for step in walk.masqueraders if not rules.is_ours(*step.place)]
    if strangers and _alike(_unmasqueraded(found), _unmasqueraded(planned)):
        # Where packets go is as planned, and whom else's addresses a node hides is for others to say, too.
        notes = tuple(_masquerader(rules, step) for step in strangers)
        return Compared(AS_PLANNED, passed, elements, (), doubts, notes)
    unplanned = {outcome.to for outcome in found} - {outcome.to for outcome in planned}
    named = tuple(_by_rule(rules, plan, packet, world, walk, unplanned))
    summary = Difference(what=f"planned: {_outcomes(planned)}; in the kernel: {_outcomes(found)}")
    return Compared(DIFFERS, passed, elements, (summary, *named), doubts)


def _passed(rules: KernelRules, walk: Walk) -> Iterator[RulePassed]:
    for step, chance in walk.steps.items():
        line = rules.line(step.place.table, step.place.chain, step.number)
        yield RulePassed(
            table=step.place.table,
            chain=step.place.chain,
            number=step.number,
            rule=line.text,
            chance=round(min(float(chance), 1.0), 9),
            packets=line.packets,
            octets=line.octets,
        )


def _doubt(rules: KernelRules, place: tuple[str, str], number: int, what: str) -> str:
    table, chain = place
    line = rules.line(table, chain, number)
    return f"rule {number} of {chain} in table {table} cannot be judged ({what}), taken not to match: {line.text}"


def _ties(rules: KernelRules, other: Walk | None, found: Mapping[Outcome, Fraction]) -> Iterator[str]:
    """Name the rules of others that decide if the kernel asks them first."""
    outcomes = without_memory(other.found) if other is not None else found
    if other is None or _alike(_unmasqueraded(outcomes), _unmasqueraded(found)):
        return
    for difference in _by_strangers(rules, other, {one.to for one in outcomes} - {one.to for one in found}):
        yield (
            f"which is asked first, table {difference.table} or kproxy's, cannot be seen (it is what was loaded last); "
            f"if not kproxy's, {_outcomes(outcomes)}: {difference.what}"
        )


def _unmasqueraded(outcomes: Mapping[Outcome, Fraction]) -> dict[Outcome, Fraction]:
    found: dict[Outcome, Fraction] = {}
    for outcome, chance in outcomes.items():
        plain = Outcome(outcome.to)
        found[plain] = found.get(plain, Fraction(0)) + chance
    return found


def _masquerader(rules: KernelRules, step: Step) -> str:
    table, chain = step.place
    text = rules.line(table, chain, step.number).text
    return f"another program replaces the source address, too: rule {step.number} of {chain} in table {table}: {text}"


def _alike(found: Mapping[Outcome, Fraction], planned: Mapping[Outcome, Fraction]) -> bool:
    if found.keys() != planned.keys():
        return False
    return all(abs(found[outcome] - planned[outcome]) < _TOLERANCE for outcome in found)


def _outcomes(outcomes: Mapping[Outcome, Fraction]) -> str:
    """Say in words what may become of a packet; of many endpoints only how many there are."""
    parts = [f"{_outcome(outcome)} {_percent(chance)}" for outcome, chance in sorted(outcomes.items())]
    if len(parts) > 6:
        parts = [*parts[:5], f"and {len(parts) - 5} more"]
    return ", ".join(parts)


def _percent(chance: Fraction) -> str:
    return "always" if chance == 1 else f"{float(100 * chance):.4g} %"


def _outcome(outcome: Outcome) -> str:
    words = {UNTOUCHED: "left alone", REFUSED: "refused", DROPPED: "dropped"}
    base = words.get(outcome.to, f"to {outcome.to}")
    return f"{base}, masqueraded," if outcome.masqueraded else base


# --- by whose rule -------------------------------------------------------------------------------------------------


def _by_rule(
    rules: KernelRules, plan: Plan, packet: Packet, world: World, walk: Walk, unplanned: Collection[str]
) -> Iterator[Difference]:
    """Name the rules on the way that are too many, and those that are missing; ``unplanned`` is where packets go."""
    yield from _by_strangers(rules, walk, unplanned)
    passed = [(*step.place, step.number) for step in walk.steps]
    yield from rules.differences(plan, packet, world, passed)


def _by_strangers(rules: KernelRules, walk: Walk, unplanned: Collection[str]) -> Iterator[Difference]:
    """Name the rules of others that sent packets where they were not to go."""
    for to in sorted(unplanned):
        decider = walk.deciders.get(to)
        if decider is not None and not rules.is_ours(*decider.place):
            table, chain = decider.place
            line = rules.line(table, chain, decider.number)
            yield added(table, chain, decider.number, line, "which is not kproxy's")
    if UNTOUCHED in unplanned:
        yield from _by_exemption(rules, walk)


def _by_exemption(rules: KernelRules, walk: Walk) -> Iterator[Difference]:
    """Name the rule of another program's after which no other is asked about the packet's address."""
    for table, chain, number in ((*step.place, step.number) for step in reversed(walk.nat)):
        line = rules.line(table, chain, number)
        if not rules.is_ours(table, chain) and _ENDS_IT.search(line.text):
            yield added(table, chain, number, line, "which is not kproxy's")
            return


def added(table: str, chain: str, number: int, line: Line, whose: str) -> Difference:
    """Name a rule, or a policy (number 0), that takes packets and should not."""
    where = f"rule {number} of {chain}" if number else f"the policy of {chain}"
    return Difference(
        what=f"{where} in table {table}, {whose}, takes the packet: {line.text}",
        table=table,
        chain=chain,
        rule=line.text,
        kind="added",
    )


def missing(table: str, chain: str, rule: str | None) -> Difference:
    """Name a rule, or a whole chain (None), that is not there."""
    what = f"chain {chain} of table {table} is missing"
    if rule is not None:
        what = f"a rule of {chain} in table {table} is missing: {rule}"
    return Difference(what=what, table=table, chain=chain, rule=rule, kind="missing")
