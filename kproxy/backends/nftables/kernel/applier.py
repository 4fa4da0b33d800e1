"""Brings rulesets into the kernel: the one way in, for one address family.

* A change is one transaction: all of it or nothing.
* The whole table, if it is not there, is loaded in pieces (see `loading`); the hooks come last, so that no packet ever
  meets half a table.
* A chain that is used no more is emptied at once and removed a second later at the earliest, in a transaction of its
  own: before Linux 6.2 the kernel may hold a chain for used by a map for a while (kubernetes/kubernetes#122296). No
  packet can be in it by then; and if it cannot be removed it stays till next time, and does no harm.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import closing
from functools import partial
from random import randrange
from typing import NamedTuple
from typing import Protocol as Interface

import msgspec

from kproxy.backends.nftables.kernel.elements import ElementReader, split_message
from kproxy.backends.nftables.kernel.errors import KernelRefusedError
from kproxy.backends.nftables.kernel.library import Libnftables
from kproxy.backends.nftables.kernel.loading import PIECE, Loader, is_plain
from kproxy.backends.nftables.kernel.netlink import Reader
from kproxy.backends.nftables.kernel.reconcile import compare
from kproxy.backends.nftables.kernel.table import KernelTable
from kproxy.backends.nftables.kernel.watch import Heard, Watch
from kproxy.backends.nftables.rules import names
from kproxy.backends.nftables.rules.change import Change, from_nothing
from kproxy.backends.nftables.rules.render import Renderer
from kproxy.backends.nftables.rules.ruleset import Found, Key, RuleSet, SetSpec
from kproxy.backends.nftables.rules.ways import Place
from kproxy.node import memory
from kproxy.plan.model import Destination
from kproxy.state.model import IPFamily, Protocol

log = logging.getLogger(__name__)

LARGE = 4000
"""A change of more elements than this says more than the kernel's notices can hold."""
_KEEP_CHAINS_SECONDS = 1.0


class Counted(NamedTuple):
    """What was counted: by elements of sets, and by counters with a name."""

    elements: Sequence[tuple[str, Found]]
    counters: Mapping[str, int]


class ApplyResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one successful call did."""

    full: bool
    """Whether the table was read and compared."""
    loaded: bool = False
    """Whether the whole table was brought in anew, so that everything in it began to count."""
    repaired: int = 0
    """Chains and sets that were not as they should be, other than by the step that was asked for. Chains whose rules
    were edited are repaired uncounted."""
    gone: Sequence[tuple[str, Found]] = ()
    """Elements that are there no more, by set, with what they had counted."""


class Applier(Interface):
    """One address family's way to the kernel. Not thread-safe. Methods raise BackendError's subclasses in `errors`."""

    def reconcile(self, change: Change) -> ApplyResult:
        """Make a step, but from what the table is found to hold, whatever that is."""

    def apply(self, change: Change) -> ApplyResult:
        """Make one step from the ruleset that the last call left."""

    def drifted(self) -> bool:
        """Tell whether somebody else has changed the table."""

    def counted(self, sets: Mapping[str, SetSpec]) -> Counted:
        """Read what elements of some sets have counted, where it is anything, and what counters with a name have.

        This and `packets` may be called from another thread than everything else, at any time.
        """

    def packets(self, elements: Sequence[tuple[str, Key]], sets: Mapping[str, SetSpec]) -> Sequence[int] | None:
        """Read what some elements have counted; None if they are not all there."""

    def udp_frontends(self) -> Set[Destination]:
        """Read where the table in force now, if there is one, takes in UDP for services."""

    def cleanup(self) -> None:
        """Remove kproxy's table and kube-proxy's."""

    def close(self) -> None:
        """Free what it holds of the system's."""


class NftApplier:
    """The `Applier` that libnftables and netlink make."""

    def __init__(self, family: IPFamily) -> None:
        """Raises NoNftablesError."""
        self._family = family
        # A turn begins anew whenever its rule is written: not always with the same endpoint.
        self._render = Renderer(family, randrange)
        self._library = Libnftables()
        self._reader = Reader()
        self._kernel = KernelTable(family, self._reader)
        self._watch = Watch(family, self._reader)
        self._counting_reader = Reader()
        self._counting = KernelTable(family, self._counting_reader)
        """For the thread that reads what was counted alone."""
        self._specs: Mapping[str, SetSpec] = {}
        self._drifted = False
        self._unused_chains: dict[str, float] = {}

    # --- steps -----------------------------------------------------------------------------------------------------

    def apply(self, change: Change) -> ApplyResult:
        """See `Applier`."""
        self._remove_unused_chains()
        for name in change.chains_come:
            self._unused_chains.pop(name, None)
        if change.empty:
            return ApplyResult(full=False)
        self._specs = {**change.after.sets, **change.sets_gone}
        gone = self._run([self._script(self._render.change(change))], change)
        self._retire(change.chains_gone)
        return ApplyResult(full=False, gone=gone)

    def reconcile(self, change: Change) -> ApplyResult:
        """See `Applier`."""
        ruleset = change.after
        self._hear()
        self._drifted = False
        self._unused_chains.clear()
        found = compare(self._kernel, ruleset, self._family)
        if found is None or not found.repairable:
            self._load(ruleset, replacing=found is not None)
            return ApplyResult(full=True, loaded=True)
        try:
            gone = self._repair(found.change)
        except KernelRefusedError as error:
            log.warning("cannot repair the %s table, loading it anew: %s", self._render.table, error)
            self._load(ruleset, replacing=True)
            return ApplyResult(full=True, loaded=True, repaired=len(found.places - change.touched))
        return ApplyResult(full=True, repaired=len(found.places - change.touched), gone=gone)

    def _repair(self, change: Change) -> Sequence[tuple[str, Found]]:
        self._specs = change.after.sets
        gone = self._run([self._script(self._render.change(change))], change)
        self._retire(change.chains_gone)
        return gone

    def _load(self, ruleset: RuleSet, *, replacing: bool) -> None:
        """Bring in the whole table, in place of the one that is there."""
        everything = from_nothing(ruleset)
        table = self._render.table
        fresh = f"add table {table}\ndelete table {table}\nadd table {table}\n"
        self._specs = ruleset.sets
        if replacing:
            self._run([self._script(fresh + self._render.change(everything))], everything)
        else:
            with closing(Loader(self._family)) as loader:
                self._run([*self._pieces(everything, fresh, loader)], everything)
        self._library.forget()
        memory.give_back()

    def _pieces(self, everything: Change, fresh: str, loader: Loader) -> Iterator[Callable[[], object]]:
        """Yield the transactions that bring in a whole table, after one that begins with ``fresh``."""
        ruleset = everything.after
        hooks = {name: chain for name, chain in ruleset.chains.items() if chain.hook}
        inner = {name: chain for name, chain in ruleset.chains.items() if not chain.hook}
        frame = msgspec.structs.replace(everything, chains_come=inner)
        yield self._script(fresh + "\n".join((*self._render.frame(frame), "")))
        for name, elements in sorted(ruleset.elements.items()):
            spec = ruleset.sets[name]
            if is_plain(spec):
                yield from loader.transactions(name, spec, elements)
            else:
                yield from map(self._script, self._render.element_batches({name: elements}, PIECE))
        yield self._script("\n".join((*self._render.rewrite_chains(hooks), "")))

    def _script(self, text: str) -> Callable[[], object]:
        return partial(self._library.run, text)

    def _retire(self, chains: Set[str]) -> None:
        now = time.monotonic()
        self._unused_chains.update(dict.fromkeys(chains, now))

    def _remove_unused_chains(self) -> None:
        long_ago = time.monotonic() - _KEEP_CHAINS_SECONDS
        due = sorted(name for name, since in self._unused_chains.items() if since < long_ago)
        if not due:
            return
        script = "".join(f"delete chain {self._render.table} {name}\n" for name in due)
        try:
            self._run([self._script(script)], None)
        except KernelRefusedError as error:
            log.debug("unused chains stay for now: %s", error)
            self._retire(frozenset(due))
        else:
            for name in due:
                del self._unused_chains[name]

    # --- transactions ----------------------------------------------------------------------------------------------

    def _run(self, transactions: Sequence[Callable[[], object]], change: Change | None) -> Sequence[tuple[str, Found]]:
        """Carry out transactions; return the elements that are gone for it, with what they had counted."""
        self._hear()
        if len(transactions) == 1 and (change is None or change.size <= LARGE):
            transactions[0]()
            return self._after_own(self._watch.hear())
        elements = list(self._counted_by(change)) if change is not None else []
        self._note(self._watch.look_away())
        done = 0
        try:
            for carry_out in transactions:
                carry_out()
                done += 1
        finally:
            self._drifted |= not self._watch.look_again(done)
        return elements

    def _hear(self) -> None:
        self._note(self._watch.hear())

    def _note(self, heard: Heard) -> None:
        self._drifted |= heard.transactions > 0 or not heard.complete

    def _after_own(self, heard: Heard) -> list[tuple[str, Found]]:
        """Take in what was said of a transaction of ours; return what the elements had counted that it removed."""
        self._drifted |= heard.transactions != 1 or not heard.complete
        return [
            (name, found)
            for name, raw in map(split_message, heard.elements_gone)
            if (spec := self._specs.get(name)) is not None and spec.counted
            for found in ElementReader(spec, self._family).read(raw, at_least=1)
        ]

    def _counted_by(self, change: Change) -> Iterator[tuple[str, Found]]:
        """Yield what elements have counted that are about to go."""
        for name, keys in change.elements_gone.items():
            spec = self._specs.get(name)
            if spec is not None and spec.counted:
                yield from ((name, found) for found in self._kernel.counted(name, spec) if found.key in keys)

    # --- the rest --------------------------------------------------------------------------------------------------

    def drifted(self) -> bool:
        """See `Applier`."""
        self._hear()
        if not self._drifted:
            self._remove_unused_chains()
        return self._drifted

    def counted(self, sets: Mapping[str, SetSpec]) -> Counted:
        """See `Applier`."""
        found = [(name, element) for name, spec in sets.items() for element in self._counting.counted(name, spec)]
        return Counted(found, self._counting.counters())

    def packets(self, elements: Sequence[tuple[str, Key]], sets: Mapping[str, SetSpec]) -> Sequence[int] | None:
        """See `Applier`."""
        return self._counting.packets(elements, sets)

    def udp_frontends(self) -> Set[Destination]:
        """See `Applier`."""
        if names.TABLE not in self._kernel.tables():
            return frozenset()
        found: set[Destination] = set()
        by_port, by_address = Place(Protocol.UDP, node_port=True), Place(Protocol.UDP, node_port=False)
        for name, shape in self._kernel.sets().items():
            place = by_port if name.startswith(f"{by_port.prefix}/") else by_address
            if not name.startswith(f"{place.prefix}/") or shape.data_length:
                continue  # a map of endpoints holds no frontend that isn't in a set, too
            spec = place.own_chains_spec if shape.is_map else place.set_spec
            keys = [element.key for element in self._kernel.elements(name, spec)]
            found.update(
                Destination(None, int(key[0])) if place.node_port else Destination(str(key[0]), int(key[1]))
                for key in keys
            )
        return found

    def cleanup(self) -> None:
        """See `Applier`."""
        ip = self._render.table.partition(" ")[0]
        both = (names.TABLE, names.KUBE_PROXY_TABLE)
        self._library.run("".join(f"add table {ip} {name}\ndelete table {ip} {name}\n" for name in both))
        self._unused_chains.clear()
        self._watch.hear()

    def close(self) -> None:
        """See `Applier`."""
        self._library.close()
        self._watch.close()
        self._reader.close()
        self._counting_reader.close()
