"""Brings elements of sets into the kernel straight by netlink, as long as no packet meets them.

libnftables takes 17 µs and 2 KiB of memory for an element, and a cluster may have 100,000. It is left those that are
more than a key and what that leads to: ranges and verdicts, of which there are few.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice

from kproxy.backends.nftables.kernel import netlink
from kproxy.backends.nftables.kernel.netlink import Writer, attribute
from kproxy.backends.nftables.kernel.packing import Packer
from kproxy.backends.nftables.rules import names
from kproxy.backends.nftables.rules.ruleset import Data, Elements, Key, SetSpec
from kproxy.state.model import IPFamily

PIECE = 4000
"""Elements that are loaded in one transaction."""
_LIST_SET = 2


def is_plain(spec: SetSpec) -> bool:
    """Tell whether a set's elements can be loaded here."""
    return not (spec.ranges or spec.verdicts or spec.remembers)


class Loader:
    """Loads elements of one table. To be closed when that is done, or has failed."""

    def __init__(self, family: IPFamily) -> None:
        """Raises NoNftablesError."""
        self._family = family
        self._writer = Writer()

    def transactions(self, name: str, spec: SetSpec, elements: Elements) -> Iterator[Callable[[], None]]:
        """Yield what loads the elements of one set, piece by piece. It raises KernelRefusedError."""
        packer, items = Packer(spec, self._family), iter(elements.items())
        while piece := list(islice(items, PIECE)):
            yield partial(self._add, name, packer, piece)

    def _add(self, name: str, packer: Packer, elements: Sequence[tuple[Key, Data]]) -> None:
        of_set = attribute(netlink.TABLE_ATTRIBUTE, names.TABLE) + attribute(_LIST_SET, name)
        bodies = []
        for start in range(0, len(elements), packer.most):
            some = elements[start : start + packer.most]
            keys, data = [key for key, _ in some], [data for _, data in some if data is not None]
            bodies.append(of_set + packer.element_list(keys, data))
        self._writer.add_elements(netlink.FAMILY_NUMBERS[self._family], bodies)

    def close(self) -> None:
        """Close its socket."""
        self._writer.close()
