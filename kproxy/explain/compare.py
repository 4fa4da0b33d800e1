"""Holds what the kernel's rules make of a packet against what the plan says, and names where the two part."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple, Protocol

from kproxy.backends.walk import DROPPED, REFUSED, UNTOUCHED, Outcome, Packet, Walk, World, without_memory
from kproxy.explain.model import AS_PLANNED, DIFFERS, Difference, RulePassed
from kproxy.plan.model import Plan

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


class Wanted(NamedTuple):
    """What kproxy wants of the chains on a packet's way."""

    chains: Mapping[tuple[str, str], Sequence[Line]]
    """By table and chain."""
    is_ours: "IsOurs"


class IsOurs(Protocol):
    """Tells whose a chain is."""

    def __call__(self, table: str, chain: str) -> bool:
        """Tell whether a chain is kproxy's alone."""


class KernelRules(Protocol):
    """The rules that the kernel holds, kproxy's and those of others; read when a walk comes to them."""

    def walk(self, packet: Packet, world: World) -> Walk:
        """Send a packet through them."""

    def line(self, table: str, chain: str, number: int) -> Line:
        """Return a rule that a walk passed; number 0 is the chain's policy."""

    def lines(self, table: str, chain: str) -> Sequence[Line] | None:
        """Return a chain that a walk came to; None if there is none."""

    def wanted(self, plan: Plan, packet: Packet, world: World) -> Wanted:
        """Return what kproxy itself would write into the chains that such a packet passes.

        ``plan`` may hold nothing but the services concerned.
        """


class Compared(NamedTuple):
    """What came of a comparison."""

    kernel: str
    rules: tuple[RulePassed, ...]
    differences: tuple[Difference, ...]
    doubts: tuple[str, ...]


def compare(
    rules: KernelRules, plan: Plan, packet: Packet, world: World, planned: Mapping[Outcome, Fraction]
) -> Compared:
    """Walk a packet through the kernel's rules and hold the outcome against the plan's."""
    walk = rules.walk(packet, world)
    found = without_memory(walk.found)
    passed = tuple(_passed(rules, walk))
    doubts = tuple(
        dict.fromkeys(_doubt(rules, doubt.step.place, doubt.step.number, doubt.what) for doubt in walk.doubts)
    )
    if _alike(found, planned):
        return Compared(AS_PLANNED, passed, (), doubts)
    named = tuple(_by_rule(rules, plan, packet, world, walk, found, planned))
    summary = Difference(what=f"planned: {_outcomes(planned)}; in the kernel: {_outcomes(found)}")
    return Compared(DIFFERS, passed, (summary, *named), doubts)


def _passed(rules: KernelRules, walk: Walk) -> Iterator[RulePassed]:
    for step, chance in walk.steps.items():
        line = rules.line(step.place.table, step.place.chain, step.number)
        yield RulePassed(
            table=step.place.table,
            chain=step.place.chain,
            number=step.number,
            rule=line.text,
            chance=round(float(chance), 9),
            packets=line.packets,
            octets=line.octets,
        )


def _doubt(rules: KernelRules, place: tuple[str, str], number: int, what: str) -> str:
    table, chain = place
    line = rules.line(table, chain, number)
    return f"rule {number} of {chain} in table {table} cannot be judged ({what}), taken not to match: {line.text}"


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
    rules: KernelRules,
    plan: Plan,
    packet: Packet,
    world: World,
    walk: Walk,
    found: Mapping[Outcome, Fraction],
    planned: Mapping[Outcome, Fraction],
) -> Iterator[Difference]:
    """Name the rules on the way that are too many, and those that are missing."""
    wanted = rules.wanted(plan, packet, world)
    seen: set[tuple[str, str, int]] = set()
    extra = {outcome.to for outcome in found} - {outcome.to for outcome in planned}
    for step in walk.steps:
        table, chain = step.place
        line = rules.line(table, chain, step.number)
        ours = wanted.is_ours(table, chain)
        expected = wanted.chains.get((table, chain))
        if ours and expected is not None and not _holds(expected, line):
            seen.add((table, chain, step.number))
            yield _added(table, chain, step.number, line, "which kproxy did not write")
    for to in sorted(extra):
        decider = walk.deciders.get(to)
        if decider is None or (*decider.place, decider.number) in seen:
            continue
        table, chain = decider.place
        if not wanted.is_ours(table, chain):
            line = rules.line(table, chain, decider.number)
            yield _added(table, chain, decider.number, line, "which is not kproxy's and comes first")
    yield from _missing(rules, wanted, _foreign(walk, wanted))


def _foreign(walk: Walk, wanted: Wanted) -> Collection[str]:
    return {step.place.chain for step in walk.steps if not wanted.is_ours(*step.place)}


def _holds(lines: Sequence[Line], line: Line) -> bool:
    return any(other.identity == line.identity for other in lines)


def _added(table: str, chain: str, number: int, line: Line, whose: str) -> Difference:
    where = f"the policy of {chain}" if not number else f"rule {number} of {chain}"
    return Difference(
        what=f"{where} in table {table}, {whose}, takes the packet: {line.text}",
        table=table,
        chain=chain,
        rule=line.text,
        kind="added",
    )


def _missing(rules: KernelRules, wanted: Wanted, foreign: Collection[str]) -> Iterator[Difference]:
    del foreign
    for (table, chain), lines in wanted.chains.items():
        held = rules.lines(table, chain)
        if held is None:
            yield Difference(
                what=f"chain {chain} of table {table} is missing", table=table, chain=chain, kind="missing"
            )
            continue
        for line in lines:
            if not _holds(held, line):
                yield Difference(
                    what=f"a rule of {chain} in table {table} is missing: {line.text}",
                    table=table,
                    chain=chain,
                    rule=line.text,
                    kind="missing",
                )
