"""What brings a ruleset into the kernel, whichever variant of iptables the node uses."""

from array import array
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Protocol

import msgspec

from kproxy.backends.iptables.rules.counted import Place
from kproxy.backends.iptables.rules.diff import RuleSetChange
from kproxy.backends.iptables.rules.ruleset import RuleSet, TableName
from kproxy.plan.model import Destination


class ApplyResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one successful call did."""

    full: bool
    """Whether the tables were read and compared as a whole."""
    repaired: int = 0
    """Chains that were not as they should be, other than by the change that was asked for. Only a full comparison
    tells; the first one after a start finds all there is to do."""
    fell_back: str = ""
    """Why an incremental step became a full comparison; empty if it did not."""


class Applier(Protocol):
    """One address family's way to the kernel. Not thread-safe. Methods raise BackendError's subclasses in `errors`.

    After an error, what is in force is for each table either what was or what should be, and the next call of
    whichever kind compares in full.
    """

    @property
    def rule_counts(self) -> Mapping[TableName, int]:
        """How many rules of kproxy's are in force, hooks included."""

    def reconcile(self, ruleset: RuleSet) -> ApplyResult:
        """Read the tables and correct whatever is not as the ruleset says."""

    def apply(self, change: RuleSetChange) -> ApplyResult:
        """Make one step from the ruleset that the last call left, touching only the chains it names."""

    def cleanup(self) -> None:
        """Remove all that is kproxy's or kube-proxy's, and nothing else."""

    def drifted(self) -> bool:
        """Tell, for some microseconds, whether the tables may not be as the last call left them.

        It may cry wolf, when others changed what is theirs. What it can't see, `reconcile` repairs: see the variants.
        """

    def udp_frontends(self) -> Set[Destination]:
        """Read where the rules in force now, whoever wrote them, take in UDP for services."""

    def counted(
        self, places: Mapping[TableName, Iterable[Place]], version: int, hurry: Callable[[], bool] = lambda: False
    ) -> "Mapping[TableName, array[int]]":
        """Read how many packets the rules at these places have met, one after the other; ABSENT where there are none.

        May be called from another thread than everything else, at any time. ``version`` is another one whenever the
        rules may be. ``hurry`` tells, from before `make_way` is called, whether the rules are about to be written.
        Raises InterruptedReadingError then.
        """

    def make_way(self) -> None:
        """End what `counted` does in another thread, if it would keep the caller waiting: it is about to write."""

    def close(self) -> None:
        """Let go of what was opened; the rules stay in force."""
