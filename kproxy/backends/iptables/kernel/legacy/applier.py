"""The legacy variant: the tables of ip_tables and ip6_tables, through libiptc.

Each commit replaces a table as a whole, for which the kernel takes its time in proportion to the table's size; all
before that is kept in proportion to the change.
"""

import errno
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from functools import partial
from random import randrange

from kproxy.backends.iptables.kernel.applier import ApplyResult
from kproxy.backends.iptables.kernel.edit import Lazily, TableContent, TableEdit, heirs
from kproxy.backends.iptables.kernel.engine import Engine, InterferedError, OutOfStepError
from kproxy.backends.iptables.kernel.errors import InterruptedReadingError, KernelRefusedError, UnencodableRuleError
from kproxy.backends.iptables.kernel.legacy.counted import Index, locate
from kproxy.backends.iptables.kernel.legacy.encode import Encoder
from kproxy.backends.iptables.kernel.legacy.entry import EntryLayout, entry_layout
from kproxy.backends.iptables.kernel.legacy.image import (
    HOOK_CHAINS,
    TableImage,
    nat_destination,
    target_name,
    with_counters,
)
from kproxy.backends.iptables.kernel.legacy.libiptc import LibIPTC, TableHandle
from kproxy.backends.iptables.kernel.legacy.lock import XtablesLock
from kproxy.backends.iptables.kernel.legacy.served import claim_in_entry, destinations_in_entries
from kproxy.backends.iptables.kernel.legacy.tableinfo import TableInfo, TableReader, existing_tables
from kproxy.backends.iptables.kernel.legacy.terms import UnencodableError
from kproxy.backends.iptables.kernel.order import Reading, Steps
from kproxy.backends.iptables.rules.counted import Place
from kproxy.backends.iptables.rules.diff import Hunk
from kproxy.backends.iptables.rules.firewall import KUBELET_CHAINS
from kproxy.backends.iptables.rules.ruleset import Chain, RuleSet, TableName, Turn
from kproxy.backends.iptables.rules.served import is_list
from kproxy.node import memory
from kproxy.plan.model import Destination
from kproxy.state.model import IPFamily


class LegacyApplier(Engine[bytes]):
    """See `Applier`.

    Others' edits are noticed by the tables' outlines. An edit that leaves the outline as it was (a rule replaced by one
    as long) is not, until the next `reconcile` or until a step is to change that very rule.
    """

    def __init__(self, family: IPFamily, lock: XtablesLock | None = None) -> None:
        """Raises NoIptablesError where the machine cannot do it. Acts on the calling thread's network namespace."""
        self._layout = layout = entry_layout(family)
        super().__init__(family, Reading(partial(target_name, layout), partial(claim_in_entry, layout)))
        self._lock = lock or XtablesLock()
        self._reader = TableReader(self._layout)  # before the library, as it says best what is wrong without privileges
        self._library = LibIPTC(family)
        self._encoder = Encoder(family)
        self._outlines: dict[TableName, TableInfo] = {}
        """Of the tables as they were read or left last; none while that is not certain."""
        self._in_turn: set[str] = set()
        """Chains of nat whose rules take turns, perhaps also some that are no more."""
        self._indexes: dict[TableName, tuple[int, TableInfo, Index]] = {}
        """Where counters stand, in tables of a version and an outline; for the thread that reads them alone."""

    def reconcile(self, ruleset: RuleSet) -> ApplyResult:
        """Read the tables and correct whatever is not as the ruleset says."""
        try:
            return super().reconcile(ruleset)
        finally:
            memory.give_back()  # here, where some ms don't matter: it is a fifth of the process' size

    def drifted(self) -> bool:
        """Tell, for some microseconds, whether the tables may not be as the last call left them."""
        return not self._is_certain() or any(self._reader.info(name) != self._outlines[name] for name in TableName)

    def udp_frontends(self) -> Set[Destination]:
        """Read where the rules in force now, whoever wrote them, take in UDP for services."""
        if not self._exists(TableName.NAT):
            return frozenset()
        image = self._image(TableName.NAT)
        lists = [chain for chain in image.chains if is_list(chain)]
        return {found for chain in lists for found in destinations_in_entries(self._layout, image.entries(chain))}

    def counted(
        self, places: Mapping[TableName, Iterable[Place]], version: int, hurry: Callable[[], bool] = lambda: False
    ) -> "Mapping[TableName, array[int]]":
        """Read how many packets the rules at these places have met. See `Applier`."""
        return {name: self._counted(name, its, version, hurry) for name, its in places.items()}

    def _counted(
        self, name: TableName, places: Iterable[Place], version: int, hurry: Callable[[], bool]
    ) -> "array[int]":
        try:
            info, table = self._reader.view(name, hurry)
        except KernelRefusedError as err:
            if err.code == errno.EFAULT:
                raise InterruptedReadingError(f"table {name} was about to be written") from None
            raise
        known = self._indexes.get(name)
        if known is None or known[:2] != (version, info):
            builtins = {HOOK_CHAINS[hook]: info.hook_entries[hook] for hook in info.hooks}
            known = self._indexes[name] = version, info, locate(self._layout, builtins, table, places, hurry)
        return known[2].packets(table)

    def make_way(self) -> None:
        """End what `counted` does in another thread. See `Applier`."""
        self._reader.make_way()

    def close(self) -> None:
        """Let go of the socket; the rules stay in force."""
        self._reader.close()

    def _exclusively(self) -> AbstractContextManager[None]:
        return self._lock.held()

    def _form(self, name: TableName, chain: str, rules: Chain) -> list[bytes]:
        encode = self._encoder.encode
        try:
            entries = [encode(rule) for rule in rules]
        except UnencodableError as err:
            raise UnencodableRuleError(name, chain, str(err)) from err
        if _takes_turns(rules):
            self._in_turn.add(chain)
        return entries

    def _read(self, name: TableName, expected: Callable[[str], Sequence[bytes]]) -> TableContent[bytes]:
        del expected  # bytes need no interpretation
        info, blob = self._reader.read(name)
        self._outlines[name] = info
        image = TableImage(self._layout, info, blob)
        return TableContent(
            chains=Lazily(image.chains, image.entries),
            builtins=image.builtins,
            target=self._reading.target,
        )

    def _image(self, table: str) -> TableImage:
        return TableImage(self._layout, *self._reader.read(table))

    def _exists(self, name: TableName) -> bool:
        return name in existing_tables(self.family)

    def _has_kubelet(self) -> bool:
        # Reading a table makes it.
        return "mangle" in existing_tables(self.family) and not KUBELET_CHAINS.isdisjoint(self._image("mangle").chains)

    def _is_certain(self) -> bool:
        return len(self._outlines) == len(TableName)

    def _forget(self) -> None:
        self._outlines.clear()

    def _start_watching(self) -> None:
        self._outlines.clear()  # reading takes them

    def _write(self, steps: Steps[bytes], *, check: bool) -> None:
        for name, edit in steps:
            with TableHandle(self._library, name) as handle:
                if self._reader.info(name) != self._outlines[name]:
                    raise _changed_by_others(name, check=check)
                handle.drop_entries(self._outlines[name].size)
                _edit(handle, self._layout, edit, check=check)
                if name is TableName.NAT:
                    self._in_turn = {chain for chain in self._in_turn if handle.begin_turns(chain, randrange)}
                _commit(handle)
            self._outlines[name] = self._reader.info(name)
            memory.keep_pieces(self._outlines[name].size)


def _takes_turns(rules: Chain) -> bool:
    """Tell whether rules spread connections in turn: then the last but one of them leaves every other to the last."""
    return any(isinstance(match, Turn) for rule in rules[-2:-1] for match in rule.matches)


def _changed_by_others(name: TableName, *, check: bool) -> Exception:
    text = f"table {name} had been changed by another program"
    if check:
        return OutOfStepError(text)
    return InterferedError(KernelRefusedError(name, errno.EAGAIN, text, "editing it"))


def _commit(handle: TableHandle) -> None:
    try:
        handle.commit()
    except KernelRefusedError as err:
        if err.code == errno.EAGAIN:  # the table has not as many entries any more as it had when it was read
            raise InterferedError(err) from err
        raise


def _edit(handle: TableHandle, layout: EntryLayout, edit: TableEdit[bytes], *, check: bool) -> None:
    try:
        _perform(handle, layout, edit, check=check)
    except KernelRefusedError as err:
        if check:  # a chain was not there, or was there already
            raise OutOfStepError(str(err)) from err
        raise


def _perform(handle: TableHandle, layout: EntryLayout, edit: TableEdit[bytes], *, check: bool) -> None:
    for chain in sorted(edit.fill):  # libiptc keeps chains sorted, and is quickest when they come so
        handle.create_chain(chain)
    for chain, entries in edit.fill.items():
        handle.append(chain, entries)
    for chain, hunks in edit.hunks.items():
        for hunk in reversed(hunks):  # from the end, so that numbers before it stay true
            if check and any(handle.entry(chain, n) != entry for n, entry in enumerate(hunk.old, hunk.at)):
                raise OutOfStepError(f"chain {chain} had been changed by another program")
            successors = _successors(handle, layout, chain, hunk)
            handle.delete(chain, hunk.at, len(hunk.old))
            handle.insert(chain, hunk.at, successors)
    for chain in edit.remove:
        if not handle.references(chain):
            handle.delete_chain(chain)


def _successors(handle: TableHandle, layout: EntryLayout, chain: str, hunk: Hunk[bytes]) -> Sequence[bytes]:
    """Return the new rules of a place, counting on where those that they replace stop."""
    inherited = heirs(hunk, lambda entry: nat_destination(layout, entry))
    return [
        with_counters(layout, entry, handle.counters(chain, hunk.at + inherited[number]))
        if number in inherited
        else entry
        for number, entry in enumerate(hunk.new)
    ]
