"""The legacy tables as the kernel holds them, for a walk: entries become rules when a walk comes to their chain.

A table of 70,000 rules is copied at once, which takes the kernel some milliseconds; of its rules a walk sees a few.
"""

from collections.abc import Iterator, Sequence, Set

from kproxy.backends.iptables.kernel.legacy.decode import VERDICTS, decode_entry, jump
from kproxy.backends.iptables.kernel.legacy.entry import (
    ERROR_TARGET_SIZE,
    MODULE_HEADER,
    OFFSETS,
    EntryLayout,
    entry_layout,
)
from kproxy.backends.iptables.kernel.legacy.tableinfo import TableInfo, TableReader, existing_tables
from kproxy.backends.iptables.rules.held import HeldRule, HeldTable
from kproxy.backends.iptables.rules.ruleset import Accept, Drop, Jump, TargetTerm
from kproxy.backends.iptables.rules.walk import HOOKS
from kproxy.state.model import IPFamily

_HOOK_CHAINS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")  # by hook number, netfilter.h


def held_tables(family: IPFamily) -> Iterator[HeldTable]:
    """Read the legacy tables that exist, and make none. Raises BackendError's subclasses in `errors`."""
    layout = entry_layout(family)
    tables = [name for name in HOOKS if name in existing_tables(family)]
    if not tables:
        return
    reader = TableReader(layout)
    try:
        for name in tables:
            yield LegacyTable(name, layout, *reader.read(name))
    finally:
        reader.close()


class LegacyTable(HeldTable):
    """One table."""

    def __init__(self, name: str, layout: EntryLayout, info: TableInfo, blob: bytes) -> None:
        super().__init__(name, layout.family)
        self._layout = layout
        self._blob = blob
        self._view = memoryview(blob)
        self._starts = {_HOOK_CHAINS[hook]: info.hook_entries[hook] for hook in info.hooks}
        self._ends = {info.underflows[hook] for hook in info.hooks}
        self._policies = {_HOOK_CHAINS[hook]: info.underflows[hook] for hook in info.hooks}
        self._flags_at = 82 if layout.family is IPFamily.IPV4 else 131  # flags of struct ipt_ip, struct ip6t_ip6
        self._head = layout.size + ERROR_TARGET_SIZE

    def read(self, chain: str) -> Sequence[HeldRule] | None:
        """See `HeldTable`."""
        start = self._starts.get(chain)
        if start is None:
            start = self._find(chain)
            if start is None:
                return None
            self._starts[chain] = start
        return list(self._rules_from(start))

    def chain_names(self) -> Set[str]:
        """See `HeldTable`."""
        found = set(self._policies)
        offset, end = 0, len(self._blob)
        while offset < end:
            _, size = OFFSETS.unpack_from(self._blob, offset + self._layout.offsets_offset)
            if self._is_mark(offset):
                name = self._name_before(offset + self._head)
                self._starts[name] = offset + self._head
                found.add(name)
            offset += size
        return found - {"ERROR"}  # the mark at the table's end

    def policy_drops(self, chain: str) -> bool:
        """See `HeldTable`."""
        offset = self._policies.get(chain)
        return offset is not None and self._at(offset)[0].rule.target == Drop()

    def _rules_from(self, offset: int) -> Iterator[HeldRule]:
        """Yield the rules up to the chain's policy: its last entry, which matches everything."""
        while True:
            held, following = self._at(offset)
            if offset in self._ends or self._is_mark(following):
                return
            yield held
            offset = following

    def _at(self, offset: int) -> tuple[HeldRule, int]:
        _, size = OFFSETS.unpack_from(self._blob, offset + self._layout.offsets_offset)
        entry = self._view[offset : offset + size]
        flags = entry[self._flags_at]

        def verdict(number: int) -> TargetTerm | None:
            if number == offset + size:
                return None
            if number < 0:
                return VERDICTS.get(number, Accept())
            return self._jump(number, flags)

        rule, packets, octets = decode_entry(self._layout, entry, verdict)
        return HeldRule(rule, packets, octets), offset + size

    def _jump(self, start: int, flags: int) -> Jump:
        name = self._name_before(start)
        self._starts[name] = start
        return jump(name, flags, self._layout)

    def _name_before(self, start: int) -> str:
        """Return the name of the chain whose first entry stands there: the mark before it bears it."""
        at = start - self._head + self._layout.size + MODULE_HEADER.size
        return self._blob[at : at + 30].partition(b"\0")[0].decode(errors="replace")

    def _is_mark(self, offset: int) -> bool:
        if offset >= len(self._blob):
            return True
        target, size = OFFSETS.unpack_from(self._blob, offset + self._layout.offsets_offset)
        if target != self._layout.size or size - target != ERROR_TARGET_SIZE:
            return False
        return self._blob[offset + target + 2 : offset + target + 7] == b"ERROR"

    def _find(self, chain: str) -> int | None:
        """Look for a chain by its name, as no jump has led there yet."""
        needle = chain.encode() + b"\0"
        at = self._blob.find(needle)
        while at >= 0:
            mark = at - MODULE_HEADER.size - self._layout.size
            if mark >= 0 and self._is_mark(mark):
                return mark + self._head
            at = self._blob.find(needle, at + 1)
        return None
