"""The words of an nftables ruleset, as far as kproxy needs them: sets with their elements, and chains of rules.

Values only; `render` spells them for nft. Each word does what the kernel's expression of that kind does, and
`walk` gives it the same meaning.
"""

import enum
from collections.abc import Mapping, Set
from typing import NamedTuple, TypeAlias

import msgspec

from kproxy.state.model import Protocol

# --- sets and maps -------------------------------------------------------------------------------------------------


class Column(enum.Enum):
    """One part of a set's keys, or of what a map leads to."""

    SOURCE = "saddr"
    DESTINATION = "daddr"
    PROTOCOL = "l4proto"
    PORT = "dport"
    NUMBER = "number"
    """A number that stands for nothing in the packet: which of several."""


class SetSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a set or map is declared as."""

    columns: tuple[Column, ...]
    data: tuple[Column, ...] = ()
    """What a map leads to; nothing for a set."""
    verdicts: bool = False
    """A map that leads to chains."""
    protocol: Protocol | None = None
    """Whose ports `Column.PORT` means. nft needs to know it wherever ports are data."""
    counted: bool = False
    """Each element counts the packets that found it."""
    ranges: bool = False
    """The last column is a prefix."""
    remembers: bool = False
    """Rules add elements, which time out."""


Key: TypeAlias = tuple[str | int, ...]
Data: TypeAlias = tuple[str | int, ...] | None
"""What an element of a map leads to: a value for each of `SetSpec.data`, or the name of a chain."""

Elements: TypeAlias = Mapping[Key, Data]


class Found(NamedTuple):
    """One element with what it has counted."""

    key: Key
    data: Data
    packets: int


class Numbers(NamedTuple):
    """What stands for an endpoint of a service where a packet does not tell which: a hash of the names of both."""

    service: int
    endpoint: int


# --- rules ---------------------------------------------------------------------------------------------------------


class Member(msgspec.Struct, frozen=True):
    """True for packets that a set holds."""

    set: str
    columns: tuple[Column, ...]
    protocol: Protocol | None = None


class FromPrefix(msgspec.Struct, frozen=True):
    """True for packets from a prefix, or from elsewhere."""

    cidr: str
    inverted: bool = False


class ToPrefixes(msgspec.Struct, frozen=True):
    """True for packets to one of some prefixes, or to none of them."""

    cidrs: tuple[str, ...]
    inverted: bool = False


class CameBy(msgspec.Struct, frozen=True):
    """True for packets that came in by an interface; a ``*`` at the end of its name stands for anything."""

    interface: str
    inverted: bool = False


class Own(msgspec.Struct, frozen=True):
    """True where the source or destination is one of the node's own addresses."""

    side: Column


class Speaks(msgspec.Struct, frozen=True):
    """True for packets of a protocol."""

    protocol: Protocol


class State(enum.Enum):
    """True for packets whose connection conntrack sees in that state."""

    NEW = "new"
    INVALID = "invalid"


class Translated(msgspec.Struct, frozen=True):
    """True for packets of connections whose destination was replaced."""


class Marked(msgspec.Struct, frozen=True):
    """True for packets with this bit in their mark."""

    bit: int


class Chance(msgspec.Struct, frozen=True):
    """True with a chance of one in ``of``."""

    of: int


class Turn(msgspec.Struct, frozen=True):
    """True once in ``of`` times that it is asked, and then false for as long again.

    Each counts for itself, from any place it was given when it was written.
    """

    of: int


class SetMark(msgspec.Struct, frozen=True):
    """Set a bit of the packet's mark."""

    bit: int


class FlipMark(msgspec.Struct, frozen=True):
    """Flip a bit of the packet's mark."""

    bit: int


class Returning(msgspec.Struct, frozen=True):
    """True for packets from a client that a set remembers to have been at an endpoint."""

    set: str
    of: Numbers


class Remember(msgspec.Struct, frozen=True):
    """Have a set remember for so many seconds that a client was at an endpoint. False if the set is full."""

    set: str
    of: Numbers
    seconds: int


class CountFor(msgspec.Struct, frozen=True):
    """Have the element of an endpoint count the packet. False if the set has none."""

    set: str
    of: Numbers


class Count(msgspec.Struct, frozen=True):
    """Count the packet in a counter of that name."""

    counter: str


class Deliver(msgspec.Struct, frozen=True):
    """Replace the destination by what a map holds under the packet's columns and a random number below ``draw``.

    False, so that the next rule is tried, if it holds nothing there.
    """

    map: str
    columns: tuple[Column, ...]
    protocol: Protocol
    draw: int


class DeliverTo(msgspec.Struct, frozen=True):
    """Replace the destination."""

    ip: str
    port: int


class Jump(msgspec.Struct, frozen=True):
    """Go through another chain and come back."""

    chain: str


class GoTo(msgspec.Struct, frozen=True):
    """Go through another chain instead of the rest of this one."""

    chain: str


class GoToFound(msgspec.Struct, frozen=True):
    """Go to the chain that a map holds for the packet, if any."""

    map: str
    columns: tuple[Column, ...]
    protocol: Protocol | None = None


class Verdict(enum.Enum):
    """What ends a packet's way."""

    RETURN = "return"
    """…through this chain, that is."""
    DROP = "drop"
    REJECT = "reject"
    MASQUERADE = "masquerade"


class PortIs(msgspec.Struct, frozen=True):
    """True for packets to one of some ports (first and last of each range), or to none. Others' rules have it."""

    ranges: tuple[tuple[int, int], ...]
    inverted: bool = False


class Unjudged(msgspec.Struct, frozen=True):
    """What others' rules ask for or do and kproxy does not know; ``text`` names the kernel's expression."""

    text: str


class InStates(msgspec.Struct, frozen=True):
    """True for packets whose connection is in one of several states, by conntrack's names. Others' rules have it."""

    states: frozenset[str]
    inverted: bool = False


class SourceNat(msgspec.Struct, frozen=True):
    """Replace the source address by one that the rule names. Others' rules have it."""


class Redirect(msgspec.Struct, frozen=True):
    """Send the packet to the node itself; port 0 keeps its port. Others' rules have it."""

    port: int


class Accept(msgspec.Struct, frozen=True):
    """Let the packet through the base chain. Others' rules have it."""


Term: TypeAlias = (
    Member
    | PortIs
    | Unjudged
    | InStates
    | SourceNat
    | Redirect
    | Accept
    | FromPrefix
    | ToPrefixes
    | CameBy
    | Own
    | Speaks
    | State
    | Translated
    | Marked
    | Chance
    | Turn
    | SetMark
    | FlipMark
    | Returning
    | Remember
    | CountFor
    | Count
    | Deliver
    | DeliverTo
    | Jump
    | GoTo
    | GoToFound
    | Verdict
)
Rule: TypeAlias = tuple[Term, ...]
"""Terms are carried out one after another, until one is false."""

# --- chains and the whole ------------------------------------------------------------------------------------------


class Hook(NamedTuple):
    """Where the kernel enters a chain."""

    type: str
    hook: str
    priority: int


class Chain(msgspec.Struct, frozen=True):
    """Rules, with the hook they hang on if it is a base chain."""

    rules: tuple[Rule, ...]
    hook: Hook | None = None


class RuleSet(msgspec.Struct, frozen=True):
    """kproxy's table in one address family."""

    sets: Mapping[str, SetSpec]
    elements: Mapping[str, Elements]
    """By set. Those that rules add (`SetSpec.remembers`) are not in it."""
    counters: Set[str]
    chains: Mapping[str, Chain]
