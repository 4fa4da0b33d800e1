"""What the kernel holds of kproxy's table, in the words of `ruleset`.

Chains are read by name and hook only. Their rules could be read, but what libnftables makes of a rule differs from
version to version; whoever must be sure of them writes them again, which costs less.
"""

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from kproxy.backends.nftables.kernel import netlink
from kproxy.backends.nftables.kernel.elements import ElementReader, packets_of_last, split_message
from kproxy.backends.nftables.kernel.errors import NetlinkError
from kproxy.backends.nftables.kernel.netlink import Reader, attribute, attributes, number, text
from kproxy.backends.nftables.kernel.notes import declared_by_expressions
from kproxy.backends.nftables.kernel.packing import Packer, length
from kproxy.backends.nftables.kernel.presence import all_tables
from kproxy.backends.nftables.rules import names
from kproxy.backends.nftables.rules.ruleset import Found, Hook, Key, SetSpec
from kproxy.state.model import IPFamily

# Attributes, by kind of object (linux/netfilter/nf_tables.h).
_CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 3, 4, 5, 7
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_SET_NAME, _SET_FLAGS, _SET_KEY_LENGTH, _SET_DATA_TYPE, _SET_DATA_LENGTH = 2, 3, 5, 6, 7
_SET_NOTES, _SET_EXPRESSION = 13, 17
_LIST_SET = 2
_COUNTER_PACKETS = 2
_OBJECT_NAME, _OBJECT_DATA = 2, 4

_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")  # NF_INET_PRE_ROUTING, …
_SET_INTERVAL, _SET_MAP, _SET_TIMEOUT, _SET_EVAL = 0x4, 0x8, 0x10, 0x20
_TELLING_FLAGS = _SET_INTERVAL | _SET_MAP | _SET_TIMEOUT | _SET_EVAL
_SET_NUMBERS = (_SET_FLAGS, _SET_KEY_LENGTH, _SET_DATA_TYPE, _SET_DATA_LENGTH)
_VERDICTS = 0xFFFFFF00  # NFT_DATA_VERDICT


class SetShape(NamedTuple):
    """What the kernel knows of a set's declaration."""

    flags: int
    key_length: int
    data_length: int
    """0 for verdicts."""
    counted: bool
    by_expressions: bool = True
    """Whether nft finds it declared by ``typeof``, as kproxy declares its sets; see `notes` for why it matters."""

    @property
    def is_map(self) -> bool:
        """Whether its elements lead to something."""
        return bool(self.flags & _SET_MAP)


class KernelTable:
    """kproxy's table of one address family, as the kernel has it at the time of each call."""

    def __init__(self, family: IPFamily, reader: Reader) -> None:
        self._family = family
        self._number = netlink.FAMILY_NUMBERS[family]
        self._reader = reader
        self._of_table = attribute(netlink.TABLE_ATTRIBUTE, names.TABLE)

    def tables(self) -> frozenset[str]:
        """Return the names of all tables of this family, anybody's."""
        return all_tables(self._family, self._reader)

    def chains(self) -> dict[str, Hook | None]:
        """Return the chains, with the hooks of those that have one."""
        found: dict[str, Hook | None] = {}
        for message in self._reader.dump(netlink.GET_CHAIN, self._number, self._of_table):
            chain = attributes(message.body)
            if text(chain[netlink.TABLE_ATTRIBUTE]) == names.TABLE:
                found[text(chain[_CHAIN_NAME])] = _hook(chain)
        return found

    def sets(self) -> dict[str, SetShape]:
        """Return the sets and maps that have names."""
        return held_sets(self._reader, self._number, self._of_table)

    def counters(self) -> dict[str, int]:
        """Return the counters with the number of packets."""
        messages = self._reader.dump(netlink.GET_OBJECT, self._number, self._of_table)
        return dict(read_counter(message.body) for message in messages)

    def elements(self, name: str, spec: SetSpec, *, at_least: int = 0) -> Iterator[Found]:
        """Yield the elements of a set, declared as ``spec`` says, that have counted at least so many packets.

        One may come more than once: if the kernel makes a set's hash table larger or smaller, which it does a moment
        after elements have come or gone, a walk through it begins anew (nft_rhash_walk, net/netfilter/nft_set_hash.c).
        """
        reader = ElementReader(spec, self._family)
        body = self._of_table + attribute(_LIST_SET, name)
        for message in self._reader.dump(netlink.GET_ELEMENT, self._number, body):
            yield from reader.read(split_message(message.body)[1], at_least=at_least)

    def counted(self, name: str, spec: SetSpec) -> Iterable[Found]:
        """Return the elements of a set that have counted anything, each once."""
        return {found.key: found for found in self.elements(name, spec, at_least=1)}.values()

    def packets(self, elements: Sequence[tuple[str, Key]], sets: Mapping[str, SetSpec]) -> list[int] | None:
        """Return what some elements have counted, asking for each by its key; None if they are not all there.

        A dump costs the kernel the square of a set's size, for it begins anew for every 32 KiB; this a few
        microseconds an element.
        """
        found: list[int] = []
        for name, group in groupby(elements, key=itemgetter(0)):
            keys = [key for _, key in group]
            packer = Packer(sets[name], self._family, keys_only=True)
            for start in range(0, len(keys), _KEYS_AT_ONCE):
                some = keys[start : start + _KEYS_AT_ONCE]
                body = self._of_table + attribute(_LIST_SET, name) + packer.element_list(some)
                try:
                    messages = self._reader.ask(netlink.GET_ELEMENT, self._number, body)
                except NetlinkError as error:
                    if error.code == errno.ENOENT:
                        return None
                    raise
                if len(messages) != len(some):
                    return None
                found += [packets_of_last(message.body) for message in messages]
        return found


_KEYS_AT_ONCE = 200
"""Each is answered by a message of its own, which takes 4 KiB or more of the socket's memory."""


class HeldChain(NamedTuple):
    """A chain of anybody's."""

    hook: Hook | None
    drops: bool
    """Whether its policy is to drop."""


def held_chains(reader: Reader, family: int, of_table: bytes) -> dict[str, HeldChain]:
    """Return the chains of a table, which ``of_table`` names; ``family`` is nf_tables' number of it."""
    found = {}
    wanted = text(attributes(memoryview(of_table))[netlink.TABLE_ATTRIBUTE])
    for message in reader.dump(netlink.GET_CHAIN, family, of_table):
        chain = attributes(message.body)
        if text(chain[netlink.TABLE_ATTRIBUTE]) == wanted:
            drops = _CHAIN_POLICY in chain and number(chain[_CHAIN_POLICY]) == 0
            found[text(chain[_CHAIN_NAME])] = HeldChain(_hook(chain), drops)
    return found


def held_sets(reader: Reader, family: int, of_table: bytes, *, nameless: bool = False) -> dict[str, SetShape]:
    """Return the sets and maps of a table, also those that have no name if that is wanted."""
    found = {}
    for message in reader.dump(netlink.GET_SET, family, of_table):
        its = attributes(message.body)
        name = text(its[_SET_NAME])
        if nameless or not name.startswith("__"):  # those without a name get one such as __set0 from the kernel
            values = {kind: number(its[kind]) for kind in _SET_NUMBERS if kind in its}
            found[name] = SetShape(
                values.get(_SET_FLAGS, 0) & _TELLING_FLAGS,
                values[_SET_KEY_LENGTH],
                0 if values.get(_SET_DATA_TYPE) == _VERDICTS else values.get(_SET_DATA_LENGTH, 0),
                _SET_EXPRESSION in its,
                declared_by_expressions(bytes(its.get(_SET_NOTES, b""))),
            )
    return found


def shape_of(spec: SetSpec, family: IPFamily) -> SetShape:
    """Return what the kernel must know of a set that is declared as ``spec`` says."""
    flags = _SET_MAP if spec.data or spec.verdicts else 0
    flags |= _SET_INTERVAL if spec.ranges else 0
    flags |= _SET_TIMEOUT | _SET_EVAL if spec.remembers else 0
    return SetShape(flags, length(spec.columns, family), length(spec.data, family), spec.counted)


def _hook(chain: Mapping[int, memoryview]) -> Hook | None:
    if _CHAIN_HOOK not in chain:
        return None
    hook = attributes(chain[_CHAIN_HOOK])
    priority = int.from_bytes(hook[_HOOK_PRIORITY], "big", signed=True)
    return Hook(text(chain[_CHAIN_TYPE]), _HOOKS[number(hook[_HOOK_NUMBER])], priority)


def read_counter(body: memoryview) -> tuple[str, int]:
    """Return name and packets of a counter, from a message about it."""
    its = attributes(body)
    return text(its[_OBJECT_NAME]), number(attributes(its[_OBJECT_DATA])[_COUNTER_PACKETS])
