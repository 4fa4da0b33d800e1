"""A table as the kernel holds it, taken apart into chains of entries that can be compared with encoded rules.

The kernel knows neither chains nor names of jump targets: a chain is a stretch of entries after a mark that bears its
name, a jump is an offset. Here offsets become names again, and what the kernel writes into entries (counters, scratch
fields) is blanked, so that an entry of ours equals what `encode` made of its rule.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence

from kproxy.backends.iptables.kernel.legacy.entry import (
    COUNTERS,
    ERROR_TARGET_SIZE,
    MODULE_HEADER,
    OFFSETS,
    EntryLayout,
)
from kproxy.backends.iptables.kernel.legacy.tableinfo import TableInfo
from kproxy.backends.iptables.kernel.legacy.terms import standard_target
from kproxy.backends.iptables.kernel.legacy.turns import without_places

HOOK_CHAINS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")  # by hook number, netfilter.h
_ERROR = b"ERROR"  # XT_ERROR_TARGET
_DNAT = b"DNAT"
_VERDICT = struct.Struct("=i")
_VERDICTS = {  # -NF_… - 1, and XT_RETURN; all else are offsets
    -1: standard_target(b"DROP"),
    -2: standard_target(b"ACCEPT"),
    -4: standard_target(b"QUEUE"),
    -5: standard_target(b"RETURN"),
}
_GO_ON = standard_target(b"")


def _name(padded: bytes) -> bytes:
    return padded.partition(b"\0")[0]


class TableImage:
    """One table, read once."""

    def __init__(self, layout: EntryLayout, info: TableInfo, blob: bytes) -> None:
        self._layout = layout
        self._blob = blob
        self.builtins = {HOOK_CHAINS[hook]: info.hook_entries[hook] for hook in info.hooks}
        """Built-in chains, with the offsets they begin at."""
        self._offsets = _split(layout, self.builtins, blob)
        # A jump goes to a chain's first entry, and every chain has one at least, its policy.
        self._targets = _VERDICTS | {
            offsets[0]: standard_target(chain.encode()) for chain, offsets in self._offsets.items()
        }

    @property
    def chains(self) -> Mapping[str, Sequence[int]]:
        """All chains, built-in ones too, with their entries' offsets; the last is the chain's policy."""
        return self._offsets

    def entries(self, chain: str) -> list[bytes]:
        """Return a chain's rules in the form that `encode` gives to rules."""
        # Written out, with everything at hand: it runs for every rule on the node.
        blob, targets = self._blob, self._targets
        size, cache, at = self._layout.size, self._layout.cache_offset, self._layout.offsets_offset
        scratch, tail = bytes(at - cache), bytes(size - at - OFFSETS.size)
        entries = []
        for start in self._offsets[chain][:-1]:
            target_offset, next_offset = OFFSETS.unpack_from(blob, start + at)
            target_start, end = start + target_offset, start + next_offset
            matches = without_places(blob[start + size : target_start])
            if blob[target_start + 2]:
                target = blob[target_start:end]
            else:  # XT_STANDARD_TARGET, whose name is empty
                (verdict,) = _VERDICT.unpack_from(blob, target_start + MODULE_HEADER.size)
                target = _GO_ON if verdict == end else targets[verdict]
            offsets = blob[start + at : start + at + OFFSETS.size]
            entries.append(b"".join((blob[start : start + cache], scratch, offsets, tail, matches, target)))
        return entries


def normal_form(layout: EntryLayout, entry: bytes, standard: bytes) -> bytes:
    """Return one entry, as libiptc holds it, in the form that `encode` gives to rules.

    ``standard`` is the name that libiptc gives for what is a verdict or a jump.
    """
    target_offset, _ = OFFSETS.unpack_from(entry, layout.offsets_offset)
    target = entry[target_offset:]
    after_offsets = layout.offsets_offset + OFFSETS.size
    return b"".join(
        (
            entry[: layout.cache_offset],
            bytes(layout.offsets_offset - layout.cache_offset),
            entry[layout.offsets_offset : after_offsets],
            bytes(layout.size - after_offsets),
            without_places(_scrubbed(entry[layout.size : target_offset])),
            _scrubbed(target) if target[2] else standard_target(standard),
        )
    )


def target_name(layout: EntryLayout, entry: bytes) -> str:
    """Return the target of an entry in `encode`'s form: a verdict, a chain or an extension; empty where none."""
    (target_offset, _) = OFFSETS.unpack_from(entry, layout.offsets_offset)
    return _name(entry[target_offset + 2 : target_offset + 31]).decode(errors="replace")


def nat_destination(layout: EntryLayout, entry: bytes) -> bytes:
    """Return what says where an entry in `encode`'s form sends connections to; empty where it does not."""
    (target_offset, _) = OFFSETS.unpack_from(entry, layout.offsets_offset)
    return entry[target_offset:] if _name(entry[target_offset + 2 : target_offset + 31]) == _DNAT else b""


def with_counters(layout: EntryLayout, entry: bytes, counters: bytes) -> bytes:
    """Return an entry in `encode`'s form that does not begin to count at zero."""
    at = layout.counters_offset
    return entry[:at] + counters + entry[at + COUNTERS.size :]


def _split(layout: EntryLayout, builtins: Mapping[str, int], blob: bytes) -> dict[str, list[int]]:
    """Return each chain's entries' offsets."""
    starts = {start: chain for chain, start in builtins.items()}
    chains: dict[str, list[int]] = {}
    current: list[int] = []
    for offset in _entry_offsets(layout, blob):
        if offset in starts:
            current = chains[starts[offset]] = []
        elif (name := _chain_mark(layout, blob, offset)) is not None:
            current = chains[name] = []
            continue
        current.append(offset)
    chains.pop(_ERROR.decode(), None)  # the mark at the table's end
    return chains


def _entry_offsets(layout: EntryLayout, blob: bytes) -> Iterator[int]:
    offset, at, size, unpack = 0, layout.offsets_offset, len(blob), OFFSETS.unpack_from
    while offset < size:
        yield offset
        offset += unpack(blob, offset + at)[1]


def _chain_mark(layout: EntryLayout, blob: bytes, offset: int) -> str | None:
    """Return the name that a mark bears, None for an ordinary entry."""
    target_offset, next_offset = OFFSETS.unpack_from(blob, offset + layout.offsets_offset)
    if target_offset != layout.size or next_offset - target_offset != ERROR_TARGET_SIZE:
        return None
    start = offset + target_offset
    if _name(blob[start + 2 : start + 31]) != _ERROR:
        return None
    return _name(blob[start + MODULE_HEADER.size : offset + next_offset]).decode(errors="replace")


def _scrubbed(modules: bytes) -> bytes:
    """Blank what stands behind the names of matches and targets.

    The kernel copies a name without padding it, so that whatever was in the reader's buffer stays behind it; libiptc's
    is not blank. (What extensions keep in their data for themselves, the kernel has blanked since 4.11.)
    """
    parts = []
    start = 0
    while start < len(modules):
        size, name, revision = MODULE_HEADER.unpack_from(modules, start)
        parts += [MODULE_HEADER.pack(size, _name(name), revision), modules[start + MODULE_HEADER.size : start + size]]
        start += size
    return b"".join(parts)
