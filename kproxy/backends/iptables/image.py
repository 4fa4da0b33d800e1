"""A table as the kernel holds it, taken apart into chains of entries that can be compared with encoded rules.

The kernel knows neither chains nor names of jump targets: a chain is a stretch of entries after a mark that bears its
name, a jump is an offset. Here offsets become names again, and what the kernel writes into entries (counters, scratch
fields, what its extensions keep for themselves) is blanked, so that an entry of ours equals what `encode` made of its
rule.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence

from kproxy.backends.iptables.encode import standard_target
from kproxy.backends.iptables.entry import (
    COUNTERS,
    ERROR_TARGET_SIZE,
    MODULE_HEADER,
    OFFSETS,
    EntryLayout,
)
from kproxy.backends.iptables.tableinfo import TableInfo

_HOOK_CHAINS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")  # by hook number, netfilter.h
_VERDICTS = {-1: b"DROP", -2: b"ACCEPT", -4: b"QUEUE", -5: b"RETURN"}  # -NF_… - 1, and XT_RETURN
_STANDARD = bytes(29)  # XT_STANDARD_TARGET: no name means a verdict or a jump
_ERROR = b"ERROR"  # XT_ERROR_TARGET
_STATISTIC = b"statistic"
_STATISTIC_PRIVATE = slice(MODULE_HEADER.size + 16, MODULE_HEADER.size + 24)  # xt_statistic_info.master


def _name(padded: bytes) -> bytes:
    return padded.partition(b"\0")[0]


class TableImage:
    """One table, read once."""

    def __init__(self, layout: EntryLayout, info: TableInfo, blob: bytes) -> None:
        self._layout = layout
        self._blob = blob
        self.builtins = {_HOOK_CHAINS[hook]: info.hook_entries[hook] for hook in info.hooks}
        """Built-in chains, with the offsets they begin at."""
        self._offsets = _split(layout, self.builtins, blob)
        # Every chain has an entry at least, its policy, so that where it begins identifies it.
        self._names = {offsets[0]: chain for chain, offsets in self._offsets.items()}

    @property
    def chains(self) -> Mapping[str, Sequence[int]]:
        """All chains, built-in ones too, with their entries' offsets; the last is the chain's policy."""
        return self._offsets

    def entries(self, chain: str) -> list[bytes]:
        """Return a chain's rules in the form that `encode` gives to rules."""
        return [self._normal(offset) for offset in self._offsets[chain][:-1]]

    def counters(self, chain: str) -> list[tuple[int, int]]:
        """Return (packets, bytes) of each of a chain's rules."""
        blob, at = self._blob, self._layout.counters_offset
        return [COUNTERS.unpack_from(blob, offset + at) for offset in self._offsets[chain][:-1]]

    def _normal(self, offset: int) -> bytes:
        blob = self._blob
        target_offset, next_offset = OFFSETS.unpack_from(blob, offset + self._layout.offsets_offset)
        next_entry = offset + next_offset
        verdict_at = offset + target_offset + MODULE_HEADER.size
        verdict = int.from_bytes(blob[verdict_at : verdict_at + 4], sys.byteorder, signed=True)
        if verdict in _VERDICTS:
            name = _VERDICTS[verdict]
        else:
            name = b"" if verdict == next_entry else self._names.get(verdict, "").encode()
        return normal_form(self._layout, blob[offset:next_entry], name)


def normal_form(layout: EntryLayout, entry: bytes, standard: bytes) -> bytes:
    """Return an entry of the kernel's in the form that `encode` gives to rules.

    ``standard`` is what its verdict means, if it has the standard target.
    """
    target_offset, _ = OFFSETS.unpack_from(entry, layout.offsets_offset)
    matches = entry[layout.size : target_offset]
    if _STATISTIC in matches:
        matches = _without_private_fields(matches)
    target = entry[target_offset:]
    if target.startswith(_STANDARD, 2):
        target = standard_target(standard)
    after_offsets = layout.offsets_offset + OFFSETS.size
    return b"".join(
        (
            entry[: layout.cache_offset],
            bytes(layout.offsets_offset - layout.cache_offset),
            entry[layout.offsets_offset : after_offsets],
            bytes(layout.size - after_offsets),
            matches,
            target,
        )
    )


def target_name(layout: EntryLayout, entry: bytes) -> str:
    """Return the target of an entry in `encode`'s form: a verdict, a chain or an extension; empty where none."""
    (target_offset, _) = OFFSETS.unpack_from(entry, layout.offsets_offset)
    return _name(entry[target_offset + 2 : target_offset + 31]).decode(errors="replace")


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


def _without_private_fields(matches: bytes) -> bytes:
    """Blank what kernels before 4.11 let out of their own: the address of statistic's state."""
    parts = []
    start = 0
    while start < len(matches):
        size, name, _ = MODULE_HEADER.unpack_from(matches, start)
        part = bytearray(matches[start : start + size])
        if _name(name) == _STATISTIC:
            part[_STATISTIC_PRIVATE] = bytes(8)
        parts.append(part)
        start += size
    return b"".join(parts)
