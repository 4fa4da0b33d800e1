"""A packet's walk through the chains of nftables tables: kproxy's own, as the compiler makes it, or any other's.

What a rule does is said in `kproxy.backends.nftables.rules.machine`, where a walk leads in `kproxy.backends.walk`.
"""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from kproxy.backends.nftables.rules.machine import RuleMachine
from kproxy.backends.nftables.rules.ruleset import (
    Chain,
    Data,
    Key,
    Numbers,
    Remember,
    Rule,
    RuleSet,
    SetSpec,
)
from kproxy.backends.packet import (
    Branch,
    Outcome,
    Packet,
    Spread,
    World,
    within,
    without_memory,
)
from kproxy.backends.walk import At, Base, Machine, Walk, Walked


def branches(ruleset: RuleSet, packet: Packet, world: World) -> Mapping[Branch, Fraction]:
    """Return all that can become of ``packet``, with chances that add up to one. Raises ImpossibleRuleError."""
    return walk_through(ruleset, packet, world).found


def outcomes(ruleset: RuleSet, packet: Packet, world: World) -> Mapping[Outcome, Fraction]:
    """Return what can become of ``packet``, with chances that add up to one. Raises ImpossibleRuleError."""
    return without_memory(branches(ruleset, packet, world))


def walk_through(ruleset: RuleSet, packet: Packet, world: World) -> Walk:
    """Send a packet through kproxy's table alone. Raises ImpossibleRuleError."""
    machine = RuleSetMachine(ruleset)
    others = _others(world)
    walk = Walk([*bases(machine, ruleset.chains), *others], packet, world)
    walk.follow()
    return walk


def bases(machine: "RuleMachine", chains: Mapping[str, Chain]) -> Iterator[Base]:
    """Yield where netfilter enters a table."""
    for name, chain in chains.items():
        if chain.hook is not None:
            yield Base(chain.hook.hook, chain.hook.priority, name, machine, nat=chain.hook.type == "nat")


def _others(world: World) -> Iterator[Base]:
    """Yield the base chains of others, which no verdict of ours binds: they drop what the world says they do."""
    for hook, accept in (("input", world.input_accept), ("forward", world.forward_accept)):
        if not accept:
            yield Base(hook, 0, "policy", _NoRules(), drops=True)


class RuleSetMachine(RuleMachine):
    """kproxy's own table, as the compiler makes it."""

    def __init__(self, ruleset: RuleSet) -> None:
        self._ruleset = ruleset

    def rules(self, chain: str) -> Sequence[Rule]:
        """See `Machine`."""
        return self._ruleset.chains[chain].rules

    def spec(self, name: str) -> SetSpec | None:
        """See `RuleMachine`."""
        return self._ruleset.sets.get(name)

    def find(self, name: str, key: Key) -> tuple[Data] | None:
        """See `RuleMachine`."""
        elements = self._ruleset.elements.get(name, {})
        if self._ruleset.sets[name].ranges:
            held = (one for one in elements if one[:-1] == key[:-1] and within(str(key[-1]), str(one[-1])))
            return next(((elements[one],) for one in held), None)
        return (elements[key],) if key in elements else None

    def remembers_seconds(self, name: str, numbers: Numbers) -> int:
        """See `RuleMachine`."""
        return next(
            term.seconds
            for chain in self._ruleset.chains.values()
            for rule in chain.rules
            for term in rule
            if isinstance(term, Remember) and (term.set, term.of) == (name, numbers)
        )

    def has_counter(self, name: str) -> bool:
        """See `RuleMachine`."""
        return name in self._ruleset.counters


class _NoRules(Machine[Rule]):
    def table(self, chain: str) -> str:
        return chain

    def rules(self, chain: str) -> Sequence[Rule]:
        del chain
        return ()

    def carry_out(self, number: int, alive: Spread, at: At) -> tuple[Walked, Spread]:
        raise NotImplementedError
