"""Rules as values: what an iptables rule says, before it becomes text or bytes.

Each match and target is one small struct with the kernel's meaning, not a string of options; ``render`` spells it as
iptables-save does, ``encode`` lays it out as the kernel's ``struct ipt_entry``, and ``walk`` follows
it. What they have in common is decided here and nowhere else.
"""

import enum
from collections.abc import Mapping
from typing import ClassVar, TypeAlias

import msgspec

from kproxy.state.model import Protocol


class TableName(enum.StrEnum):
    """The two tables kproxy writes to."""

    FILTER = "filter"
    NAT = "nat"


class Term(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Base of matches and targets: equal when of the same type with the same fields."""


# --- matches -------------------------------------------------------------------------------------------------------


class Comment(Term, frozen=True, gc=False):
    """Says what the rule is for; always true. At most 255 bytes (xt_comment.h)."""

    text: str


class DestinationPort(Term, frozen=True, gc=False):
    """The packet's destination port lies in ``first..last`` (inclusive). The rule must name ``protocol`` too."""

    protocol: Protocol
    first: int
    last: int


class ConnectionState(enum.Flag):
    """What conntrack says of a packet's connection. Values are private to kproxy; ``encode`` has the kernel's."""

    NEW = enum.auto()
    ESTABLISHED = enum.auto()
    RELATED = enum.auto()
    INVALID = enum.auto()
    DNAT = enum.auto()


class State(Term, frozen=True, gc=False):
    """The connection is in one of ``states`` (``-m conntrack --ctstate``)."""

    states: ConnectionState
    inverted: bool = False


class Side(enum.StrEnum):
    """Which address of a packet is looked at."""

    SOURCE = "src"
    DESTINATION = "dst"


class LocalAddress(Term, frozen=True, gc=False):
    """The source or destination is one of the node's own addresses (``-m addrtype --dst-type LOCAL``)."""

    side: Side
    inverted: bool = False


class Mark(Term, frozen=True, gc=False):
    """The packet's mark, under ``mask``, equals ``value``."""

    value: int
    mask: int
    inverted: bool = False


class Random(Term, frozen=True, gc=False):
    """True with a chance of ``threshold`` / 2**31, drawn anew for each packet.

    The kernel (xt_statistic.c) compares 31 random bits with this very number, so it is kept as the kernel has it:
    arithmetic on it is exact.
    """

    threshold: int

    ONE: ClassVar[int] = 1 << 31


class Turn(Term, frozen=True, gc=False):
    """True once in ``every`` times that it is asked, and then false for as long again (xt_statistic's mode nth).

    Each rule counts for itself, from any place it was given when it was written.
    """

    every: int


class RecentCheck(Term, frozen=True, gc=False):
    """The source address was put on ``list_name`` at most ``seconds`` ago; older entries are reaped on the way."""

    list_name: str
    seconds: int


class RecentSet(Term, frozen=True, gc=False):
    """Always true; puts the source address on ``list_name``, or refreshes it there."""

    list_name: str


class Ports(Term, frozen=True, gc=False):
    """The destination port lies in one of some ranges, or in none. Others' rules have it; kproxy writes none such."""

    ranges: tuple[tuple[int, int], ...]
    inverted: bool = False


class Unjudged(Term, frozen=True, gc=False):
    """What others' rules ask for and kproxy does not know; ``text`` is iptables' spelling, or the extension's name."""

    text: str


Match: TypeAlias = (
    Comment | DestinationPort | State | LocalAddress | Mark | Random | Turn | RecentCheck | RecentSet | Ports | Unjudged
)

# --- targets -------------------------------------------------------------------------------------------------------


class Jump(Term, frozen=True, gc=False):
    """Go on in another chain and come back at its end; with ``goto``, return to this chain's caller instead."""

    chain: str
    goto: bool = False


class Accept(Term, frozen=True, gc=False):
    """Let the packet through this table."""


class Drop(Term, frozen=True, gc=False):
    """Discard the packet silently."""


class Return(Term, frozen=True, gc=False):
    """Leave this chain."""


class Reject(Term, frozen=True, gc=False):
    """Discard the packet and answer with ICMP port unreachable."""


class SetMark(Term, frozen=True, gc=False):
    """Replace the bits under ``mask`` of the packet's mark: mark = (mark & ~mask) ^ value (``--set-xmark``)."""

    value: int
    mask: int


class MasqueradeSource(Term, frozen=True, gc=False):
    """Replace the source address by that of the outgoing interface, ports drawn fully at random (``--random-fully``).

    Random ports avoid the races between connections set up at the same time that sequential ones invite
    (kubernetes/kubernetes#56903).
    """


class DestinationNat(Term, frozen=True, gc=False):
    """Send the connection to this address and port instead."""

    ip: str
    port: int


class GoOn(Term, frozen=True, gc=False):
    """A target of others' that leaves the packet's way as it is, such as LOG."""

    text: str


class Redirect(Term, frozen=True, gc=False):
    """Send the connection to the node itself; ``port`` 0 keeps the port. Others' rules have it."""

    port: int = 0


class SourceNat(Term, frozen=True, gc=False):
    """Replace the source address by one that ``text`` tells. Others' rules have it."""

    text: str


class Strange(Term, frozen=True, gc=False):
    """A target of others' that kproxy does not know."""

    text: str


TargetTerm: TypeAlias = (
    Jump
    | Accept
    | Drop
    | Return
    | Reject
    | SetMark
    | MasqueradeSource
    | DestinationNat
    | GoOn
    | Redirect
    | SourceNat
    | Strange
)

# --- rules, chains, tables -----------------------------------------------------------------------------------------


class Prefix(Term, frozen=True, gc=False):
    """An address prefix such as ``10.96.0.10/32``, in canonical form; ``inverted`` means "not from there"."""

    cidr: str
    inverted: bool = False


class Interface(Term, frozen=True, gc=False):
    """An interface by name; a trailing ``+`` stands for any rest of the name."""

    name: str
    inverted: bool = False


class Rule(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One rule: if all of it matches, do ``target``; None means only count the packet."""

    target: TargetTerm | None
    source: Prefix | None = None
    destination: Prefix | None = None
    in_interface: Interface | None = None
    protocol: Protocol | None = None
    matches: tuple[Match, ...] = ()


Chain: TypeAlias = tuple[Rule, ...]
"""The rules of one chain, in order."""


class Hook(msgspec.Struct, frozen=True, gc=False):
    """A rule of kproxy's in a built-in chain: the only thing it writes outside its own chains."""

    builtin: str
    rule: Rule


class Table(msgspec.Struct, frozen=True):
    """kproxy's part of one table: its own chains, and its hooks in the built-in ones.

    Hooks are listed in the order they shall stand in each built-in chain. They go to its top, as kube-proxy's do, so
    that nobody's ACCEPT comes before them; one that is already somewhere in the chain stays where it is.
    """

    chains: Mapping[str, Chain]
    hooks: tuple[Hook, ...] = ()


class RuleSet(msgspec.Struct, frozen=True):
    """kproxy's rules of one address family."""

    filter: Table
    nat: Table

    def table(self, name: TableName) -> Table:
        """Return the table of that name."""
        return self.filter if name is TableName.FILTER else self.nat
