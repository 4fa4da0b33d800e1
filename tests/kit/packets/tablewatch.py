"""Looks at a node's rules: all the time, where some must never be missing, or once, where all must be as they should.

A legacy table is replaced as a whole by each commit, so each look shows one state that packets have met.
"""

import contextlib
import io
import json
import threading
from types import TracebackType
from typing import Self

from hack.lab import Node
from hack.lab.addresses import CLUSTER_CIDR, CLUSTER_CIDR6
from kproxy import cli
from kproxy.backends.iptables.kernel.legacy.entry import COUNTERS, EntryLayout, entry_layout
from kproxy.backends.iptables.kernel.legacy.image import TableImage
from kproxy.backends.iptables.kernel.legacy.tableinfo import TableInfo, TableReader
from kproxy.state.model import IPFamily
from tests.kit.iptables.text import comparable, parse_tables
from tests.kit.packets import World

PAUSE = 0.002
"""Seconds between two looks; a commit takes longer, as the kernel waits for all processors to leave the old rules."""


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
        self._info: TableInfo | None = None
        self._mask = self._bytes = 0
        self._seen: set[tuple[str, bytes]] = set()
        self._last: set[tuple[str, bytes]] = set()
        self._wanted = self._look()
        assert self._wanted
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="table watch", daemon=True)

    def _look(self) -> set[tuple[str, bytes]]:
        info, blob = self._reader.read("nat")
        self.looks += 1
        if info == self._info and int.from_bytes(blob, "little") & self._mask == self._bytes:
            return self._seen
        image = TableImage(self._layout, info, blob)
        entries = {(chain, entry) for chain in image.chains for entry in image.entries(chain)}
        self.states += entries != self._last
        self._last = entries
        self._info, self._mask = info, _all_but_counters(self._layout, image, info.size)
        self._bytes = int.from_bytes(blob, "little") & self._mask
        self._seen = {(chain, entry) for chain, entry in entries if any(word in entry for word in self._words)}
        return self._seen

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


def _all_but_counters(layout: EntryLayout, image: TableImage, size: int) -> int:
    """A mask for a table's bytes as one number: packets are counted all the time, and make no other rules."""
    mask = bytearray(b"\xff" * size)
    for offsets in image.chains.values():
        for offset in offsets:
            start = offset + layout.counters_offset
            mask[start : start + COUNTERS.size] = bytes(COUNTERS.size)
    return int.from_bytes(mask, "little")


def own_rules(text: str) -> object:
    """kproxy's own chains of an iptables-save, less what depends on the kernel's settings."""
    return {
        table: {
            chain: rules for chain, rules in chains.items() if chain.startswith("KUBE-") and chain != "KUBE-FORWARD"
        }
        for table, chains in comparable(parse_tables(text)).items()
        if table in ("nat", "filter")
    }


def expected_rules(world: World, family: str, layout: str = "classic") -> object:
    """What `own_rules` must be: the rules that the API server's objects make."""
    objects = [obj for kind in ("services", "endpointslices", "nodes") for obj in world.control.objects(kind)]
    file = world.lab.folder / "objects.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    command = ["render", "-f", str(file), "--family", family, "--layout", layout]
    flags = ["--hostname-override", world.lab.node.name, "--cluster-cidr", f"{CLUSTER_CIDR},{CLUSTER_CIDR6}"]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert cli.main([*command, *flags]) == cli.OK
    return own_rules(said.getvalue())
