"""Looks at a node's nat table all the time, for tests in which some rules must never be missing.

The legacy table is replaced as a whole by each commit, so each look shows one state that packets have met.
"""

import threading
from types import TracebackType
from typing import Self

from hack.lab import Node
from kproxy.backends.iptables.entry import entry_layout
from kproxy.backends.iptables.image import TableImage
from kproxy.backends.iptables.tableinfo import TableReader
from kproxy.state.model import IPFamily

PAUSE = 0.001
"""Seconds between two looks. A table of a few hundred rules is read and taken apart in about as many."""


class TableWatch:
    """Watches, for as long as the block lasts, the rules of which the comments contain any of the words.

    It needs the classic layout, which comments every rule of a Service. Rules that only jump to a Service's endpoint
    with another chance than before are not the same rules: what is watched must not change.
    """

    def __init__(self, node: Node, family: IPFamily, *words: str) -> None:
        self.looks = 0
        self.states = 0
        """Different tables seen, in a row."""
        self.lost: set[tuple[str, bytes]] = set()
        """Rules that were missing at any time, with their chains."""
        self._words = [word.encode() for word in words]
        self._layout = entry_layout(family)
        with node.namespace.entered():
            self._reader = TableReader(self._layout)
        self._last: set[tuple[str, bytes]] = set()
        self._wanted = self._look()
        assert self._wanted
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="table watch", daemon=True)

    def _look(self) -> set[tuple[str, bytes]]:
        info, blob = self._reader.read("nat")
        self.looks += 1
        image = TableImage(self._layout, info, blob)
        entries = {(chain, entry) for chain in image.chains for entry in image.entries(chain)}
        self.states += entries != self._last
        self._last = entries
        return {(chain, entry) for chain, entry in entries if any(word in entry for word in self._words)}

    def _run(self) -> None:
        while not self._stop.wait(PAUSE):
            self.lost |= self._wanted - self._look()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._reader.close()
