"""The legacy variant: the tables of ip_tables and ip6_tables, through libiptc.

Each commit replaces a table as a whole, which takes the kernel time in proportion to the table's size; the rest is
kept in proportion to the change.
"""

import errno
from collections.abc import Callable, Mapping
from typing import TypeVar

from kproxy.backends.iptables.applier import ApplyResult, ChainCounters
from kproxy.backends.iptables.diff import ChainChange, RuleSetChange
from kproxy.backends.iptables.edit import (
    Lazily,
    TableContent,
    TableEdit,
    commit_order,
    edit_for_change,
    edit_for_repair,
)
from kproxy.backends.iptables.encode import Encoder, UnencodableError
from kproxy.backends.iptables.entry import entry_layout
from kproxy.backends.iptables.errors import KernelRefusedError, TableBusyError, UnencodableRuleError
from kproxy.backends.iptables.firewall import KUBELET_CHAINS, LOCALNET_GUARD
from kproxy.backends.iptables.image import TableImage, target_name
from kproxy.backends.iptables.libiptc import LibIPTC, TableHandle
from kproxy.backends.iptables.lock import XtablesLock
from kproxy.backends.iptables.names import KUBE_FIREWALL, is_ours
from kproxy.backends.iptables.ruleset import Chain, RuleSet, Table, TableName
from kproxy.backends.iptables.tableinfo import TableInfo, TableReader, existing_tables
from kproxy.state.model import IPFamily

_ATTEMPTS = 5
"""How often to start over when others change a table between read and commit without taking the lock."""

R = TypeVar("R")


class _OutOfStepError(Exception):
    """The kernel's table is not what the last commit left."""


class LegacyApplier:
    """See `Applier`."""

    def __init__(self, family: IPFamily, lock: XtablesLock | None = None) -> None:
        """Raises NoIptablesError where the machine cannot do it. Acts on the calling thread's network namespace."""
        self._family = family
        self._layout = entry_layout(family)
        self._lock = lock or XtablesLock()
        self._library = LibIPTC(family)
        self._reader = TableReader(self._layout)
        self._encoder = Encoder(family)
        self._left: dict[TableName, TableInfo] = {}
        """The tables' outlines after the last commit; empty while what the kernel holds is not certain."""
        self._rule_counts = dict.fromkeys(TableName, 0)

    def close(self) -> None:
        """Let go of the socket; the rules stay in force."""
        self._reader.close()

    @property
    def rule_counts(self) -> Mapping[TableName, int]:
        """How many rules of kproxy's are in force, hooks included."""
        return dict(self._rule_counts)

    def reconcile(self, ruleset: RuleSet) -> ApplyResult:
        """Read the tables and correct whatever is not as the ruleset says."""
        return ApplyResult(full=True, repaired=self._locked(lambda: self._reconcile(ruleset, {})))

    def apply(self, change: RuleSetChange) -> ApplyResult:
        """Make one step from the ruleset that the last call left, touching only the chains it names."""
        return self._locked(lambda: self._apply(change))

    def cleanup(self) -> None:
        """Remove all that is kproxy's or kube-proxy's, and nothing else."""
        self._locked(self._cleanup)

    def drifted(self) -> bool:
        """Tell, for some microseconds, whether the tables are not as the last call left them."""
        if not self._left:
            return True
        return any(self._reader.info(name) != self._left[name] for name in TableName)

    def counters(self) -> Mapping[TableName, ChainCounters]:
        """Read the counters of all rules in kproxy's own chains."""
        result = {}
        for name in TableName:
            image = self._read(name)
            result[name] = {chain: image.counters(chain) for chain in image.chains if is_ours(name, chain)}
        return result

    # --- one attempt each, under the lock --------------------------------------------------------------------------

    def _locked(self, step: Callable[[], R]) -> R:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._lock.held():
                    return step()
            except KernelRefusedError as err:
                if err.code != errno.EAGAIN:
                    raise
                if attempt == _ATTEMPTS:
                    text = f"changed by another program without the lock, {attempt} times in a row"
                    raise TableBusyError(err.table, err.code, text, "committing it") from err
        raise AssertionError("the last attempt returns or raises")

    def _apply(self, change: RuleSetChange) -> ApplyResult:
        changes = {name: change.table(name) for name in TableName}
        reason = ""
        if not self._left:
            reason = "what the kernel holds was not certain"
        elif change.hooks_changed or any(not is_ours(name, chain) for name in TableName for chain in changes[name]):
            reason = "hooks or a shared chain changed"
        else:
            try:
                self._commit_all({name: self._edit_for_change(name, changes[name]) for name in TableName}, check=True)
            except _OutOfStepError as err:
                reason = str(err)
        if reason:
            return ApplyResult(full=True, repaired=self._reconcile(change.after, changes), fell_back=reason)
        for name in TableName:
            self._rule_counts[name] += sum(len(new or ()) - len(old or ()) for old, new in changes[name].values())
        return ApplyResult(full=False)

    def _reconcile(self, ruleset: RuleSet, changes: Mapping[TableName, Mapping[str, ChainChange]]) -> int:
        """Return how many chains were not as they should be, other than those that were to be changed."""
        self._left.clear()
        edits = {name: self._edit_for_repair(name, ruleset.table(name)) for name in TableName}
        self._commit_all(edits)
        for name in TableName:
            table = ruleset.table(name)
            self._rule_counts[name] = len(table.hooks) + sum(map(len, table.chains.values()))
            self._left.setdefault(name, self._reader.info(name))
        return sum(len(edit.chains.difference(changes.get(name, ()))) for name, edit in edits.items())

    def _cleanup(self) -> None:
        self._left.clear()
        present = existing_tables(self._family)
        edits = {name: self._edit_for_removal(name) if name in present else TableEdit[bytes]() for name in TableName}
        self._commit_all(edits)
        self._left.clear()
        self._rule_counts = dict.fromkeys(TableName, 0)

    # --- edits -----------------------------------------------------------------------------------------------------

    def _edit_for_change(self, name: TableName, changes: Mapping[str, ChainChange]) -> TableEdit[bytes]:
        return edit_for_change(changes, lambda chain, rules: self._encode(name, chain, rules))

    def _edit_for_repair(self, name: TableName, table: Table) -> TableEdit[bytes]:
        chains = table.chains
        wanted = Lazily(chains, lambda chain: self._encode(name, chain, chains[chain]))
        hooks = [(hook.builtin, self._encode(name, hook.builtin, (hook.rule,))[0]) for hook in table.hooks]
        return edit_for_repair(self._content(name), wanted, hooks, lambda chain: is_ours(name, chain))

    def _edit_for_removal(self, name: TableName) -> TableEdit[bytes]:
        content = self._content(name)
        with_firewall = name is TableName.FILTER and self._firewall_is_left_to_us(content)
        return edit_for_repair(
            content, {}, [], lambda chain: is_ours(name, chain) or (with_firewall and chain == KUBE_FIREWALL)
        )

    def _firewall_is_left_to_us(self, content: TableContent[bytes]) -> bool:
        """Tell whether nobody but kproxy can miss KUBE-FIREWALL."""
        if self._family is not IPFamily.IPV4 or KUBE_FIREWALL not in content.chains:
            return False
        guard = self._encoder.encode(LOCALNET_GUARD)
        if any(entry != guard for entry in content.chains[KUBE_FIREWALL]):
            return False
        if "mangle" not in existing_tables(self._family):  # reading it would create it
            return True
        return KUBELET_CHAINS.isdisjoint(self._read("mangle").chains)

    def _encode(self, name: TableName, chain: str, rules: Chain) -> list[bytes]:
        encode = self._encoder.encode
        try:
            return [encode(rule) for rule in rules]
        except UnencodableError as err:
            raise UnencodableRuleError(name, chain, str(err)) from err

    # --- the kernel ------------------------------------------------------------------------------------------------

    def _read(self, table: str) -> TableImage:
        return TableImage(self._layout, *self._reader.read(table))

    def _content(self, name: TableName) -> TableContent[bytes]:
        image = self._read(name)
        return TableContent(
            chains=Lazily(image.chains, image.entries),
            builtins=image.builtins,
            target=lambda entry: target_name(self._layout, entry),
        )

    def _commit_all(self, edits: Mapping[TableName, TableEdit[bytes]], *, check: bool = False) -> None:
        """Commit the edits; with ``check``, raise _OutOfStepError where a table is not what the last commit left."""
        try:
            for name, edit in commit_order(edits):
                with TableHandle(self._library, name) as handle:
                    if check and self._reader.info(name) != self._left[name]:
                        raise _OutOfStepError(f"table {name} had been changed by another program")
                    _edit(handle, edit, check=check)
                    handle.commit()
                self._left[name] = self._reader.info(name)
        except BaseException:
            self._left.clear()
            raise


def _edit(handle: TableHandle, edit: TableEdit[bytes], *, check: bool) -> None:
    try:
        _perform(handle, edit, check=check)
    except KernelRefusedError as err:
        if check:  # a chain was not there, or was there already
            raise _OutOfStepError(str(err)) from err
        raise


def _perform(handle: TableHandle, edit: TableEdit[bytes], *, check: bool) -> None:
    for chain in sorted(edit.fill):  # libiptc keeps chains sorted, and is quickest when they come so
        handle.create_chain(chain)
    for chain, entries in edit.fill.items():
        handle.append(chain, entries)
    for chain, hunks in edit.hunks.items():
        for hunk in reversed(hunks):  # from the end, so that numbers before it stay true
            if check and any(handle.entry(chain, n) != entry for n, entry in enumerate(hunk.old, hunk.at)):
                raise _OutOfStepError(f"chain {chain} had been changed by another program")
            handle.delete(chain, hunk.at, len(hunk.old))
            handle.insert(chain, hunk.at, hunk.new)
    for chain in edit.remove:
        if not handle.references(chain):
            handle.delete_chain(chain)
