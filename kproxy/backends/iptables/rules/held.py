"""Tables as the kernel holds them, whoever wrote the rules: what a walk and a comparison go by."""

from abc import abstractmethod
from collections.abc import Sequence, Set
from typing import NamedTuple

from kproxy.backends.iptables.rules.render import render_rule
from kproxy.backends.iptables.rules.ruleset import Rule
from kproxy.backends.iptables.rules.walk import RuleMachine
from kproxy.backends.packet import Spread
from kproxy.backends.walk import At, ImpossibleRuleError, Walked
from kproxy.state.model import IPFamily


class HeldRule(NamedTuple):
    """A rule with what it has counted."""

    rule: Rule
    packets: int = 0
    octets: int = 0
    text: str = ""
    """As the kernel's tools print it; empty: as `render` does."""


class HeldTable(RuleMachine):
    """One table of one family. Chains are read when they are asked for, each once."""

    def __init__(self, name: str, family: IPFamily) -> None:
        super().__init__(name)
        self.kind = name
        """Which of iptables' tables it is; ``name`` is what people are to call it."""
        self.family = family
        self._held: dict[str, Sequence[HeldRule] | None] = {}
        self._rules: dict[str, Sequence[Rule]] = {}

    @abstractmethod
    def read(self, chain: str) -> Sequence[HeldRule] | None:
        """Read a chain's rules; None if there is no such chain."""

    @abstractmethod
    def chain_names(self) -> Set[str]:
        """Return the names of all chains."""

    @abstractmethod
    def policy_drops(self, chain: str) -> bool:
        """Tell whether a built-in chain drops what no rule speaks of."""

    def held(self, chain: str) -> Sequence[HeldRule] | None:
        """Return a chain's rules with their counters; None if there is no such chain."""
        if chain not in self._held:
            self._held[chain] = self.read(chain)
        return self._held[chain]

    def rules(self, chain: str) -> Sequence[Rule]:
        """See `Machine`."""
        if chain not in self._rules:
            self._rules[chain] = [held.rule for held in self.held(chain) or ()]
        return self._rules[chain]

    def carry_out(self, number: int, alive: Spread, at: At) -> tuple[Walked, Spread]:
        """See `Machine`. The kernel took the rule: what seems impossible is only not understood."""
        try:
            return super().carry_out(number, alive, at)
        except ImpossibleRuleError as error:
            at.doubts(str(error))
            return Walked(), alive

    def text(self, chain: str, number: int) -> str:
        """Return a rule as text; number 0 is the policy."""
        if not number:
            return f"-P {chain} {'DROP' if self.policy_drops(chain) else 'ACCEPT'}"
        held = (self.held(chain) or ())[number - 1]
        return held.text or f"-A {chain}{render_rule(held.rule, self.family)}"
