"""The steps of applying, which both variants of iptables share.

A variant says in which form it compares rules, how it reads a table, how it writes edits, how it counts and how it
notices others; what is read, compared and edited when is the same for both, and is here.
"""

from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

from kproxy.backends.iptables.kernel.applier import ApplyResult
from kproxy.backends.iptables.kernel.edit import Lazily, TableContent, TableEdit, edit_for_change, edit_for_repair
from kproxy.backends.iptables.kernel.errors import KernelRefusedError, TableBusyError
from kproxy.backends.iptables.kernel.order import Reading, Steps, commit_order
from kproxy.backends.iptables.rules.counted import Place
from kproxy.backends.iptables.rules.diff import ChainChange, RuleSetChange
from kproxy.backends.iptables.rules.firewall import GUARD_HOOKS, LOCALNET_GUARD
from kproxy.backends.iptables.rules.names import KUBE_FIREWALL, is_ours
from kproxy.backends.iptables.rules.ruleset import Chain, RuleSet, Table, TableName
from kproxy.plan.model import Destination
from kproxy.state.model import IPFamily

_ATTEMPTS = 5
"""How often to start over when others change a table between read and commit without taking the lock."""

T = TypeVar("T", bound=Hashable)
R = TypeVar("R")


class OutOfStepError(Exception):
    """The kernel's tables are not what the last call left."""


class InterferedError(Exception):
    """Somebody else changed a table between read and commit: the commit was refused, and may work at once."""

    def __init__(self, refusal: KernelRefusedError) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class Engine(ABC, Generic[T]):
    """An `Applier` that lacks the parts that depend on the variant."""

    def __init__(self, family: IPFamily, reading: Reading[T]) -> None:
        """Make one; ``reading`` is what can be read off rules in the variant's form."""
        self.family = family
        self._reading = reading
        self._rule_counts = dict.fromkeys(TableName, 0)

    @property
    def rule_counts(self) -> Mapping[TableName, int]:
        """How many rules of kproxy's are in force, hooks included."""
        return dict(self._rule_counts)

    def reconcile(self, ruleset: RuleSet) -> ApplyResult:
        """Read the tables and correct whatever is not as the ruleset says."""
        return self._try(lambda: ApplyResult(full=True, repaired=self._reconcile(ruleset, {})))

    def apply(self, change: RuleSetChange) -> ApplyResult:
        """Make one step from the ruleset that the last call left, touching only the chains it names."""
        return self._try(lambda: self._apply(change))

    def cleanup(self, *, keep_guard: bool = False) -> None:
        """Remove all that is kproxy's or kube-proxy's, and nothing else; the guard of 127.0.0.0/8 only if told to."""
        self._try(lambda: self._cleanup(keep_guard=keep_guard))

    def guard(self) -> None:
        """See to it that the guard of 127.0.0.0/8 is in force, and touch nothing else."""
        self._try(self._guard)

    def is_guarded(self) -> bool:
        """Tell whether the guard of 127.0.0.0/8 is in force, whoever put it there."""
        if not self._exists(TableName.FILTER):
            return False
        guard, jumps = self._guard_forms()
        found = self._read(TableName.FILTER, lambda chain: guard if chain == KUBE_FIREWALL else jumps.get(chain, ()))
        hooked = set(jumps["INPUT"]) <= set(found.chains.get("INPUT", ()))
        self._forget()
        return hooked and set(guard) <= set(found.chains.get(KUBE_FIREWALL, ()))

    @abstractmethod
    def counted(
        self, places: Mapping[TableName, Iterable[Place]], version: int, hurry: Callable[[], bool] = lambda: False
    ) -> "Mapping[TableName, array[int]]":
        """Read how many packets the rules at these places have met. See `Applier`."""

    @abstractmethod
    def make_way(self) -> None:
        """End what `counted` does in another thread. See `Applier`."""

    @abstractmethod
    def drifted(self) -> bool:
        """Tell, cheaply, whether the tables are not as the last call left them."""

    @abstractmethod
    def udp_frontends(self) -> Set[Destination]:
        """Read where the rules in force now, whoever wrote them, take in UDP for services."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what was opened; the rules stay in force."""

    # --- what depends on the variant -------------------------------------------------------------------------------

    @abstractmethod
    def _exclusively(self) -> AbstractContextManager[None]:
        """Keep other programs from the tables."""

    @abstractmethod
    def _form(self, name: TableName, chain: str, rules: Chain) -> list[T]:
        """Put rules of a chain into the form in which they are compared and written."""

    @abstractmethod
    def _read(self, name: TableName, expected: Callable[[str], Sequence[T]]) -> TableContent[T]:
        """Read a whole table; ``expected`` tells which rules of ours a chain may hold."""

    @abstractmethod
    def _exists(self, name: TableName) -> bool:
        """Tell whether there is such a table, without making one."""

    @abstractmethod
    def _has_kubelet(self) -> bool:
        """Tell whether a kubelet has left its marks."""

    @abstractmethod
    def _is_certain(self) -> bool:
        """Tell whether what the last call left is known."""

    @abstractmethod
    def _forget(self) -> None:
        """Be no longer certain."""

    @abstractmethod
    def _start_watching(self) -> None:
        """Notice from here on what others do to the tables."""

    @abstractmethod
    def _write(self, steps: Steps[T], *, check: bool) -> None:
        """Commit edits one after the other, and remember what they leave.

        With ``check``, raises OutOfStepError if others have been at the tables since the last call.
        """

    # --- one attempt of each ---------------------------------------------------------------------------------------

    def _try(self, step: Callable[[], R]) -> R:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._exclusively():
                    return step()
            except InterferedError as err:
                self._forget()
                if attempt == _ATTEMPTS:
                    text = f"changed by another program without the lock, {attempt} times in a row"
                    raise TableBusyError(err.refusal.table, err.refusal.code, text, "committing it") from err
            except BaseException:
                self._forget()
                raise
        raise AssertionError("the last attempt returns or raises")

    def _apply(self, change: RuleSetChange) -> ApplyResult:
        changes = {name: change.table(name) for name in TableName}
        reason = ""
        if not self._is_certain():
            reason = "what the kernel holds was not certain"
        elif change.hooks_changed or any(not is_ours(name, chain) for name in TableName for chain in changes[name]):
            reason = "hooks or a shared chain changed"
        else:
            try:
                edits = {name: self._edit_for_change(name, changes[name]) for name in TableName}
                self._write(commit_order(edits, self._reading), check=True)
            except OutOfStepError as err:
                reason = str(err)
        if reason:
            return ApplyResult(full=True, repaired=self._reconcile(change.after, changes), fell_back=reason)
        for name in TableName:
            self._rule_counts[name] += sum(len(new or ()) - len(old or ()) for old, new in changes[name].values())
        return ApplyResult(full=False)

    def _reconcile(self, ruleset: RuleSet, changes: Mapping[TableName, Mapping[str, ChainChange]]) -> int:
        """Return how many chains were not as they should be, other than those that were to be changed."""
        self._start_watching()
        edits = {name: self._edit_for_repair(name, ruleset.table(name)) for name in TableName}
        self._write(commit_order(edits, self._reading), check=False)
        for name in TableName:
            table = ruleset.table(name)
            self._rule_counts[name] = len(table.hooks) + sum(map(len, table.chains.values()))
        return sum(len(edit.chains.difference(changes.get(name, ()))) for name, edit in edits.items())

    def _cleanup(self, *, keep_guard: bool) -> None:
        edits = {
            name: self._edit_for_removal(name, keep_guard=keep_guard) if self._exists(name) else TableEdit[T]()
            for name in TableName
        }
        self._write(commit_order(edits, self._reading), check=False)
        self._forget()
        self._rule_counts = dict.fromkeys(TableName, 0)

    def _guard(self) -> None:
        guard, jumps = self._guard_forms()
        found = self._read(TableName.FILTER, lambda chain: guard if chain == KUBE_FIREWALL else jumps.get(chain, ()))
        edit = edit_for_repair(found, {KUBE_FIREWALL: guard}, jumps, lambda _: False)
        self._write([(TableName.FILTER, edit)] if edit.chains else [], check=False)
        self._forget()

    def _guard_forms(self) -> tuple[list[T], dict[str, list[T]]]:
        """Return the guard and the jumps to it, by built-in chain, in the variant's form."""
        jumps = {hook.builtin: self._form(TableName.FILTER, hook.builtin, (hook.rule,)) for hook in GUARD_HOOKS}
        return self._form(TableName.FILTER, KUBE_FIREWALL, (LOCALNET_GUARD,)), jumps

    # --- edits -----------------------------------------------------------------------------------------------------

    def _edit_for_change(self, name: TableName, changes: Mapping[str, ChainChange]) -> TableEdit[T]:
        return edit_for_change(changes, lambda chain, rules: self._form(name, chain, rules))

    def _edit_for_repair(self, name: TableName, table: Table) -> TableEdit[T]:
        chains = table.chains
        wanted = Lazily(chains, lambda chain: self._form(name, chain, chains[chain]))
        hooks: dict[str, list[T]] = {}
        for hook in table.hooks:
            hooks.setdefault(hook.builtin, []).extend(self._form(name, hook.builtin, (hook.rule,)))
        found = self._read(name, lambda chain: wanted[chain] if chain in chains else hooks.get(chain, ()))
        return edit_for_repair(found, wanted, hooks, lambda chain: is_ours(name, chain))

    def _edit_for_removal(self, name: TableName, *, keep_guard: bool) -> TableEdit[T]:
        guard = (LOCALNET_GUARD,) if self.family is IPFamily.IPV4 else ()
        ours = self._form(name, KUBE_FIREWALL, guard)
        found = self._read(name, lambda chain: ours if chain == KUBE_FIREWALL else ())
        # Nobody but kproxy misses KUBE-FIREWALL if there is nothing in it but what is ours, and no kubelet.
        alone = set(found.chains.get(KUBE_FIREWALL, ())) <= set(ours)
        with_firewall = alone and not keep_guard and not self._has_kubelet()
        return edit_for_repair(
            found, {}, {}, lambda chain: is_ours(name, chain) or (with_firewall and chain == KUBE_FIREWALL)
        )
