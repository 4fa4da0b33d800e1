"""A packet's walk through the kernel's rules: what holds whoever wrote them, and in whichever language.

Which hooks a packet passes and in which order, by what priorities chains are asked there, that nat is asked about the
first packet of a connection only and whoever translates it first has the last word, where jump, goto and return lead,
what a policy does. What a single rule says is a `Machine`'s business: each backend has one for its rules, in its
`rules.walk`.

All forms that a packet may take walk side by side, each with its exact chance. On the way is noted which rules were
passed, which of them decided, and which could not be judged.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Generic, NamedTuple, TypeVar

from kproxy.backends.packet import (
    DROPPED,
    UNTOUCHED,
    Branch,
    Outcome,
    Packet,
    PacketState,
    Skb,
    Spread,
    World,
    add,
    total,
    weight,
)
from kproxy.state.model import endpoint_text

# --- rules passed --------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """A chain, by what people call its table."""

    table: str
    chain: str


class Step(NamedTuple):
    """One rule on the way."""

    place: Place
    number: int
    """Within its chain, from 1."""


class Doubt(NamedTuple):
    """A rule that cannot be judged: it was taken not to match."""

    step: Step
    what: str
    """What of it is beyond judging."""


class ImpossibleRuleError(Exception):
    """The kernel would refuse such rules, so there is no telling what they would do."""


_NOWHERE: Spread = {}


class Walked(NamedTuple):
    """What came of a walk through a chain, or of one rule."""

    passed: Spread = _NOWHERE
    """Done with the base chain."""
    returned: Spread = _NOWHERE
    """Came to the end of the chain, or of those it went to."""

    def plus(self, other: "Walked") -> "Walked":
        """Add up."""
        if not other.passed and not other.returned:
            return self
        return Walked(total(self.passed, other.passed), total(self.returned, other.returned))


class Base(NamedTuple):
    """Where netfilter enters the rules of somebody."""

    hook: str
    """prerouting, input, forward, output or postrouting."""
    priority: int
    chain: str
    machine: "Machine[object]"
    nat: bool = False
    drops: bool = False
    """Whether its policy is to drop what no rule speaks of."""


class At(NamedTuple):
    """Where in a walk a rule is met."""

    walk: "Walk"
    base: Base
    step: Step
    depth: int

    def tried(self, spread: Spread) -> None:
        """Note that packets match the rule."""
        self.walk.passed(self.step, weight(spread))

    def lose(self, how: str, spread: Spread) -> None:
        """End packets here; ``how`` is `REFUSED` or `DROPPED`."""
        self.walk.lose(how, weight(spread), self.step)

    def decided(self, spread: Spread) -> None:
        """Note that this rule said where these packets go."""
        for skb in spread:
            self.walk.deciders.setdefault(endpoint_text(skb.destination, skb.port), self.step)

    def masqueraded(self) -> None:
        """Note that this rule replaces the source address."""
        self.walk.masqueraders[self.step] = None

    def doubts(self, what: str) -> None:
        """Note that the rule cannot be judged."""
        self.walk.doubts[Doubt(self.step, what)] = None


R_co = TypeVar("R_co", covariant=True)


class Machine(ABC, Generic[R_co]):
    """Somebody's rules, and how a packet passes them."""

    most_depth = 100
    """How deep chains may lie below each other."""

    @abstractmethod
    def table(self, chain: str) -> str:
        """Return what people call the table that a chain is in."""

    @abstractmethod
    def rules(self, chain: str) -> Sequence[R_co]:
        """Return a chain's rules."""

    @abstractmethod
    def carry_out(self, number: int, alive: Spread, at: At) -> tuple[Walked, Spread]:
        """Carry out the rule ``at`` is about, the one of that number (from 0) in its chain.

        Return what leaves the chain by it, and which packets go on to the next rule.
        """

    def enter(self, chain: str, alive: Spread, walk: "Walk", base: Base, depth: int = 0) -> Walked:
        """Send all forms of a packet through a chain side by side. Raises ImpossibleRuleError."""
        if depth >= self.most_depth:
            raise ImpossibleRuleError(f"chain {chain}: the kernel refuses chains that lead back to themselves")
        walked = Walked()
        place = Place(self.table(chain), chain)
        for number in range(len(self.rules(chain))):
            if not alive:
                break
            ended, alive = self.carry_out(number, alive, At(walk, base, Step(place, number + 1), depth))
            walked = walked.plus(ended)
        return Walked(walked.passed, total(walked.returned, alive))

    def below(self, chain: str, here: Spread, at: At) -> Walked:
        """Go through another chain."""
        return self.enter(chain, here, at.walk, at.base, at.depth + 1)

    def jump(self, chain: str, here: Spread, at: At) -> tuple[Walked, Spread]:
        """Go through another chain and come back."""
        walked = self.below(chain, here, at)
        return Walked(walked.passed), walked.returned


# --- the walk ------------------------------------------------------------------------------------------------------


class Walk:
    """One packet's way through all hooks."""

    def __init__(self, bases: Iterable[Base], packet: Packet, world: World) -> None:
        self.packet = packet
        self.world = world
        self.found: dict[Branch, Fraction] = {}
        self.steps: dict[Step, Fraction] = {}
        """The rules that matched, in order, and how likely a packet comes to each."""
        self.deciders: dict[str, Step] = {}
        """Which rule decided, by what became of the packet: an endpoint, `REFUSED` or `DROPPED`."""
        self.nat: dict[Step, None] = {}
        """The rules that matched where addresses are translated."""
        self.masqueraders: dict[Step, None] = {}
        """The rules that replaced the source address."""
        self.doubts: dict[Doubt, None] = {}
        self._bases = sorted(bases, key=lambda base: base.priority)

    def follow(self) -> Mapping[Branch, Fraction]:
        """Return all that can become of the packet, with chances that add up to one. Raises ImpossibleRuleError."""
        packet = self.packet
        spread: Spread = {Skb(packet.destination, packet.port, memory=self.world.memory): Fraction(1)}
        if packet.in_interface:
            own, away = self._routed(self._hook("prerouting", spread))
            self._arrive(self._hook("input", own, nat=False))
            self._arrive(self._hook("postrouting", self._hook("forward", away)))
        else:
            sent = self._hook("postrouting", self._hook("output", spread))
            own, away = self._routed(sent)
            self._arrive(away)
            # What the node sends to itself goes round by the loopback interface, where nat has had its say already.
            self._arrive(self._hook("input", self._hook("prerouting", own, nat=False), nat=False))
        return self.found

    def passed(self, step: Step, chance: Fraction) -> None:
        """Note that a rule matched."""
        if chance:
            add(self.steps, step, chance)

    def lose(self, how: str, chance: Fraction, step: Step | None = None) -> None:
        """End the walk of some packets; ``step`` is the rule that said so."""
        if chance:
            self._end(Branch(Outcome(how), self.world.memory), chance)
            if step is not None:
                self.deciders.setdefault(how, step)

    def _routed(self, spread: Spread) -> tuple[Spread, Spread]:
        own = {skb: chance for skb, chance in spread.items() if self.world.is_own(skb.destination)}
        return own, {skb: chance for skb, chance in spread.items() if skb not in own}

    def _arrive(self, spread: Spread) -> None:
        for skb, chance in spread.items():
            to = endpoint_text(skb.destination, skb.port) if skb.translated else UNTOUCHED
            self._end(Branch(Outcome(to, skb.masqueraded), skb.memory), chance)

    def _end(self, branch: Branch, chance: Fraction) -> None:
        if chance:
            add(self.found, branch, chance)

    def _hook(self, hook: str, spread: Spread, *, nat: bool = True) -> Spread:
        """Send packets through all base chains of a hook, by their priorities.

        Conntrack does by itself to all further packets of a connection what nat did to the first, so nat is asked about
        that one only; and once one chain has translated it, no other is asked at this hook.
        """
        nat = nat and self.packet.state is PacketState.NEW
        for base in self._bases:
            if base.hook != hook or not spread or (base.nat and not nat):
                continue
            settled: Spread = {}
            if base.nat:
                settled = {skb: chance for skb, chance in spread.items() if _is_settled(hook, skb)}
                spread = {skb: chance for skb, chance in spread.items() if skb not in settled}
            seen = len(self.steps)
            walked = base.machine.enter(base.chain, spread, self, base)
            if base.nat:
                self.nat.update(dict.fromkeys(itertools.islice(self.steps, seen, None)))
            if base.drops:
                policy = Step(Place(base.machine.table(base.chain), base.chain), 0)
                self.lose(DROPPED, weight(walked.returned), policy)
                walked = walked._replace(returned={})
            spread = total(settled, walked.passed, walked.returned)
        return spread


def _is_settled(hook: str, skb: Skb) -> bool:
    return skb.masqueraded if hook == "postrouting" else skb.translated
