"""Takes counters straight out of a table's bytes.

A table of a large cluster is a hundred megabytes, of which 250,000 counters of eight bytes are wanted. Where they stand
is found out once for as long as the table stays as it is; after that a reading looks at these bytes alone.
"""

from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from kproxy.backends.iptables.kernel.errors import InterruptedReadingError
from kproxy.backends.iptables.kernel.legacy.entry import ERROR_TARGET_SIZE, MODULE_HEADER, EntryLayout
from kproxy.backends.iptables.rules.counted import ABSENT, Place

_NOWHERE = 0xFFFFFFFF
_ERROR = b"ERROR"


class Index(NamedTuple):
    """Where wanted counters stand, in units of their own size; _NOWHERE for those that are not there."""

    words: "array[int]"
    complete: bool

    def packets(self, table: memoryview) -> "array[int]":
        """Return the packets counted at all places, given a table's bytes."""
        words = table.cast("Q")
        if self.complete:
            return array("Q", [words[at] for at in self.words])
        return array("Q", [words[at] if at != _NOWHERE else ABSENT for at in self.words])


def locate(
    layout: EntryLayout,
    builtins: Mapping[str, int],
    table: memoryview,
    places: Iterable[Place],
    hurry: Callable[[], bool] = lambda: False,
) -> Index:
    """Find the counters of the rules at these places; ``builtins`` says where built-in chains begin.

    Raises InterruptedReadingError as soon as ``hurry`` says that somebody is waiting for the processor or the memory.
    """
    words, chains = _counters(layout, builtins, table, hurry)
    found, complete = array("I"), True
    for chain, length, positions in places:
        first, last = chains.get(chain, (0, -1))
        if last - first == length:
            found.extend([words[first + position] for position in positions])
        else:
            complete = False
            found.extend([_NOWHERE] * len(positions))
    return Index(found, complete)


def _counters(
    layout: EntryLayout, builtins: Mapping[str, int], table: memoryview, hurry: Callable[[], bool]
) -> "tuple[array[int], dict[str, tuple[int, int]]]":
    """Return where the counters of all entries stand, and which of them, from and to, are of each chain's rules."""
    # Written out, with everything at hand: it runs for every rule on the node.
    halves, end = table.cast("H"), len(table)
    offsets, counters, size = layout.offsets_offset, layout.counters_offset, layout.size
    starts = {start: chain for chain, start in builtins.items()}
    words = array("I")
    note = words.append
    chains: dict[str, tuple[int, int]] = {}
    chain, first, at = "", 0, 0
    while at < end:
        place = (at + offsets) >> 1
        target, following = halves[place], halves[place + 1]
        if target == size and following == size + ERROR_TARGET_SIZE and _is_mark(table, at + size):
            # A chain's last entry, just before, is its policy.
            chains[chain] = first, len(words) - 1
            chain, first = _name(table, at + size), len(words)
            if hurry():
                raise InterruptedReadingError("the table is about to be written")
        else:
            if at in starts:
                chains[chain] = first, len(words) - 1
                chain, first = starts[at], len(words)
            note((at + counters) >> 3)
        at += following
    return words, chains


def _is_mark(table: memoryview, target: int) -> bool:
    return table[target + 2 : target + 8] == _ERROR + b"\0"


def _name(table: memoryview, target: int) -> str:
    """Return the name that a mark bears: that of the chain which begins behind it, or ERROR at the table's end."""
    name = bytes(table[target + MODULE_HEADER.size : target + ERROR_TARGET_SIZE])
    return name.partition(b"\0")[0].decode(errors="replace")
