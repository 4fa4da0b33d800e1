"""Where turns begin (`Turn`, xt_statistic's mode nth).

The kernel counts in memory of its own, which it makes anew for all rules of a table at every commit: then each turn
begins again, at the place that its rule names. Were that always the same, the same endpoints would get more under
churn. So rules are compared as if all turns began with the first time, and a random place is put in at each commit.
"""

import re
import struct
from collections.abc import Iterator

from kproxy.backends.iptables.kernel.legacy.entry import MODULE_HEADER, OFFSETS, EntryLayout
from kproxy.backends.iptables.kernel.legacy.terms import BEGINNING, beginning, place_of_turn

_LIKELY = re.compile(rb"statistic\0.{20}" + struct.pack("=H", 1), re.DOTALL)
"""The match's name, whatever stands behind it, and mode nth."""


def turns(layout: EntryLayout, entry: bytes) -> Iterator[tuple[int, int]]:
    """Yield where an entry has a BEGINNING, and every how many times that turn is true."""
    target_offset, _ = OFFSETS.unpack_from(entry, layout.offsets_offset)
    yield from _turns_in(entry, layout.size, target_offset)


def without_places(matches: bytes) -> bytes:
    """Return the matches of a rule with all turns beginning at the first time, as `encode` makes them."""
    if not _LIKELY.search(matches):  # it is asked of every rule on the node
        return matches
    for place, every in list(_turns_in(matches, 0, len(matches))):
        matches = matches[:place] + beginning(every, 0) + matches[place + BEGINNING.size :]
    return matches


def _turns_in(modules: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end:
        found = place_of_turn(modules, start)
        if found is not None:
            yield found
        start += MODULE_HEADER.unpack_from(modules, start)[0]
