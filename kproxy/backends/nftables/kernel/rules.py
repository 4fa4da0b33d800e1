"""Tables as the kernel holds them, rule by rule: kproxy's own, and those of others that hang on the same hooks.

Read by netlink alone: libnftables would turn all elements of all sets into text first, and one of its versions may fall
over what another has written. Of sets only the elements are asked for that a packet is looked up by.
"""

import errno
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from kproxy.backends.nftables.kernel import netlink
from kproxy.backends.nftables.kernel.elements import ElementReader, split_message
from kproxy.backends.nftables.kernel.errors import NetlinkError
from kproxy.backends.nftables.kernel.netlink import Reader, attribute, attributes, each_attribute, number, text
from kproxy.backends.nftables.kernel.packing import Packer
from kproxy.backends.nftables.kernel.table import HeldChain, SetShape, held_chains, held_sets
from kproxy.backends.nftables.rules.decompile import decompile
from kproxy.backends.nftables.rules.machine import RuleMachine
from kproxy.backends.nftables.rules.registers import Attributes, Expression, Ranges, Tables
from kproxy.backends.nftables.rules.render import FAMILIES, Renderer
from kproxy.backends.nftables.rules.ruleset import (
    Column,
    CountFor,
    Data,
    Deliver,
    Found,
    GoToFound,
    Key,
    Member,
    Numbers,
    Remember,
    Returning,
    Rule,
    SetSpec,
)
from kproxy.backends.packet import Skb, Spread
from kproxy.backends.walk import At, Base, ImpossibleRuleError, Walked
from kproxy.state.model import IPFamily, Protocol

_RULE_CHAIN, _RULE_EXPRESSIONS = 2, 4
_EXPRESSION_NAME, _EXPRESSION_DATA = 1, 2
_LIST_SET, _LIST_ELEMENTS = 2, 3
_ELEMENT_KEY, _ELEMENT_FLAGS, _ELEMENT_KEY_END = 1, 3, 10
_VALUE = 1
_INTERVAL_END = 1
_PROTOCOLS = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.SCTP: 132}
_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
_INET = 1  # NFPROTO_INET


class HeldTable(RuleMachine):
    """One table. Chains are read when they are asked for, each once."""

    def __init__(self, reader: Reader, family: IPFamily, table: str, number_of_family: int) -> None:
        """``number_of_family`` is the table's own, which may be that of inet."""
        words = {_INET: "inet", **{netlink.FAMILY_NUMBERS[one]: FAMILIES[one] for one in IPFamily}}
        self.name = f"{words.get(number_of_family, '?')} {table}"
        self.family = family
        self._reader = reader
        self._number = number_of_family
        self._of_table = attribute(netlink.TABLE_ATTRIBUTE, table)
        self._chains: dict[str, HeldChain] | None = None
        self._sets: dict[str, SetShape] | None = None
        self._read: dict[str, list[Rule]] = {}
        self._counts: dict[str, list[tuple[int, int] | None]] = {}
        self._specs: dict[str, SetSpec] = {}
        self._seconds: dict[tuple[str, Numbers], int] = {}
        self._anonymous: dict[str, Ranges] = {}
        self._found: dict[tuple[str, Key], Found | None] = {}
        self._renderer = Renderer(family)

    def close(self) -> None:
        """Close the reader, which all tables read together share."""
        self._reader.close()

    # --- chains ----------------------------------------------------------------------------------------------------

    @property
    def chains(self) -> dict[str, HeldChain]:
        """The chains, with the hooks of those that have one."""
        if self._chains is None:
            self._chains = held_chains(self._reader, self._number, self._of_table)
        return self._chains

    def bases(self) -> Iterator[Base]:
        """Yield where netfilter enters the table."""
        for name, chain in self.chains.items():
            if chain.hook is not None and chain.hook.hook in _HOOKS:
                hook = chain.hook
                yield Base(hook.hook, hook.priority, name, self, nat=hook.type == "nat", drops=chain.drops)

    def rules(self, chain: str) -> Sequence[Rule]:
        """See `Machine`."""
        if chain not in self._read:
            self._read[chain], self._counts[chain] = [], []
            body = self._of_table + attribute(_RULE_CHAIN, chain)
            for message in self._reader.dump(netlink.GET_RULE, self._number, body):
                its = attributes(message.body)
                if text(its[_RULE_CHAIN]) == chain:
                    self._take(chain, its)
        return self._read[chain]

    def _take(self, chain: str, its: Attributes) -> None:
        expressions = list(_expressions(its.get(_RULE_EXPRESSIONS, memoryview(b""))))
        rule = decompile(
            expressions, self.family, Tables(attributes, self._ranges_of, lambda name: self._shape(name).key_length)
        )
        counters = [one.attributes for one in expressions if one.name == "counter"]
        self._counts[chain].append((number(counters[0][2]), number(counters[0][1])) if counters else None)
        self._read[chain].append(rule)
        for term in rule:
            self._note(term)

    def _note(self, term: object) -> None:
        """Learn from a rule what the keys of a set are."""
        match term:
            case Member(name, columns, protocol):
                ranges = bool(self._shape(name).flags & 0x4)
                self._specs[name] = SetSpec(columns=columns, protocol=protocol, ranges=ranges)
            case GoToFound(name, columns, protocol):
                self._specs[name] = SetSpec(columns=columns, protocol=protocol, verdicts=True)
            case Deliver(name, columns, protocol, _):
                data = (Column.DESTINATION, Column.PORT)
                self._specs[name] = SetSpec(columns=(*columns, Column.NUMBER), data=data, protocol=protocol)
            case CountFor(name) | Returning(name):
                self._specs.setdefault(name, SetSpec(columns=(Column.NUMBER, Column.NUMBER)))
            case Remember(name, numbers, seconds):
                self._seconds[name, numbers] = seconds

    def chains_read(self) -> Mapping[str, Sequence[Rule]]:
        """Return the chains that were asked for so far."""
        return self._read

    def declare(self, name: str, spec: SetSpec) -> bool:
        """Say how a set is declared that no rule read so far looks into; return whether it is there at all."""
        self._specs.setdefault(name, spec)
        return self._shape(name).key_length > 0

    def counts(self, chain: str, at: int) -> tuple[int, int] | None:
        """Return packets and bytes that a rule (from 0) has counted; None if it does not count."""
        self.rules(chain)
        return self._counts[chain][at]

    def text(self, chain: str, at: int) -> str:
        """Return a rule (from 0) as nft would spell it."""
        return self._renderer.rule(self.rules(chain)[at])

    def carry_out(self, number: int, alive: Spread, at: At) -> tuple[Walked, Spread]:
        """See `Machine`. The kernel took the rule: what seems impossible is only not understood."""
        try:
            return super().carry_out(number, alive, at)
        except ImpossibleRuleError as error:
            at.doubts(str(error))
            return Walked(), alive

    # --- sets ------------------------------------------------------------------------------------------------------

    def spec(self, name: str) -> SetSpec | None:
        """See `RuleMachine`."""
        return self._specs.get(name)

    def _shape(self, name: str) -> SetShape:
        if self._sets is None:
            self._sets = held_sets(self._reader, self._number, self._of_table, nameless=True)
        return self._sets.get(name, SetShape(0, 0, 0, False))

    def _is_member(self, term: Member, skb: Skb, at: At) -> bool:
        self._note(term)  # rules may look into one set by different fields
        return super()._is_member(term, skb, at)

    def find(self, name: str, key: Key) -> tuple[Data] | None:
        """See `RuleMachine`."""
        found = self.element(name, key)
        return None if found is None else (found.data,)

    def element(self, name: str, key: Key) -> Found | None:
        """Return an element with what it has counted; None if there is none."""
        if (name, key) not in self._found:
            self._found[name, key] = self._ask(name, key)
        return self._found[name, key]

    def _ask(self, name: str, key: Key) -> Found | None:
        spec = self._specs[name]
        wanted = Packer(spec, self.family, keys_only=True).element_list([key])
        body = self._of_table + attribute(_LIST_SET, name) + wanted
        try:
            answers = self._reader.ask(netlink.GET_ELEMENT, self._number, body)
        except NetlinkError as error:
            if error.code == errno.ENOENT:
                return None
            raise
        # Whether a set's elements count says nothing of what they are looked up by.
        reader = ElementReader(msgspec.structs.replace(spec, counted=True), self.family)
        found = (one for message in answers for one in reader.read(split_message(message.body)[1]))
        return next(found, None)

    def elements_found(self) -> Iterator[tuple[str, Found]]:
        """Yield the elements that were looked for and found, with the names of their sets."""
        for (name, _), found in self._found.items():
            if found is not None:
                yield name, found

    def remembers_seconds(self, name: str, numbers: Numbers) -> int:
        """See `RuleMachine`."""
        return self._seconds.get((name, numbers), 0)

    def _ranges_of(self, name: str) -> Ranges | None:
        """Return the elements of a set without a name, which the kernel calls __set0 or the like."""
        if not name.startswith("__"):
            return None
        if name not in self._anonymous:
            self._anonymous[name] = list(self._read_ranges(name))
        return self._anonymous[name]

    def _read_ranges(self, name: str) -> Iterator[tuple[bytes, bytes]]:
        body = self._of_table + attribute(_LIST_SET, name)
        single: list[tuple[bytes, bool]] = []
        for message in self._reader.dump(netlink.GET_ELEMENT, self._number, body):
            for _, raw in each_attribute(split_message(message.body)[1]):
                its = attributes(raw)
                key = bytes(attributes(its[_ELEMENT_KEY])[_VALUE])
                if _ELEMENT_KEY_END in its:
                    yield key, bytes(attributes(its[_ELEMENT_KEY_END])[_VALUE])
                else:
                    flags = number(its[_ELEMENT_FLAGS]) if _ELEMENT_FLAGS in its else 0
                    single.append((key, bool(flags & _INTERVAL_END)))
        yield from _paired(single)


def held_tables(family: IPFamily) -> list["HeldTable"]:
    """Return all tables that packets of a family pass, anybody's. Raises NoNftablesError."""
    reader = Reader()
    found = [
        HeldTable(reader, family, text(attributes(message.body)[1]), number_of_family)
        for number_of_family in (netlink.FAMILY_NUMBERS[family], _INET)
        for message in reader.dump(netlink.GET_TABLE, number_of_family)
    ]
    if not found:
        reader.close()
    return found


def _paired(elements: Sequence[tuple[bytes, bool]]) -> Iterator[tuple[bytes, bytes]]:
    """Put the ends of intervals, which are one beyond them, to their beginnings."""
    if not any(is_end for _, is_end in elements):
        yield from ((key, key) for key, _ in elements)
        return
    ordered = sorted(elements)
    for at, (key, is_end) in enumerate(ordered):
        if is_end:
            continue
        following = ordered[at + 1][0] if at + 1 < len(ordered) else None
        last = (int.from_bytes(following, "big") if following else 1 << 8 * len(key)) - 1
        yield key, last.to_bytes(len(key), "big")


def _expressions(data: memoryview) -> Iterator[Expression]:
    for _, raw in each_attribute(data):
        its = attributes(raw)
        yield Expression(text(its[_EXPRESSION_NAME]), attributes(its.get(_EXPRESSION_DATA, memoryview(b""))))
