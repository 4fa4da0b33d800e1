"""Follow one packet through a compiled ruleset and say what becomes of it, with exact probabilities.

There is one module for each kind of ruleset, all with the same two functions:

    branches(ruleset, packet, world) -> Mapping[Branch, Fraction]
    outcomes(ruleset, packet, world) -> Mapping[Outcome, Fraction]

The words they speak are here; they know nothing of any backend.
"""

import enum
import ipaddress
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple, TypeAlias

from kproxy.state.model import Protocol


class PacketState(enum.StrEnum):
    """What conntrack says of the connection a packet belongs to."""

    NEW = "new"
    ESTABLISHED = "established"
    INVALID = "invalid"


class Packet(NamedTuple):
    """A packet as it enters the node's network stack."""

    source: str
    destination: str
    port: int
    protocol: Protocol = Protocol.TCP
    in_interface: str = ""
    """Where it came in; empty if the node itself sends it."""
    state: PacketState = PacketState.NEW


class Remembered(NamedTuple):
    """One entry of a list that the kernel keeps of clients, for session affinity."""

    place: str
    """Which list; each kind of ruleset has names of its own for them."""
    client: str
    seconds_ago: int


Memory: TypeAlias = frozenset[Remembered]


def aged(memory: Memory, seconds: int) -> Memory:
    """Return what is remembered when some time has passed."""
    return frozenset(entry._replace(seconds_ago=entry.seconds_ago + seconds) for entry in memory)


class World(NamedTuple):
    """What there is around the rules."""

    own_addresses: frozenset[str]
    """The addresses of the node's interfaces. 127.0.0.0/8 and ::1 are its own in any case."""
    forward_accept: bool = True
    """Whether the node forwards packets that no rule speaks of (the policy of the FORWARD hook)."""
    input_accept: bool = True
    """Whether it takes in packets for itself that no rule speaks of (the policy of the INPUT hook)."""
    memory: Memory = frozenset()

    def is_own(self, ip: str) -> bool:
        """Tell whether packets to ``ip`` stay on the node."""
        return ip in self.own_addresses or ipaddress.ip_address(ip).is_loopback


UNTOUCHED, REFUSED, DROPPED = "untouched", "refused", "dropped"


class Outcome(NamedTuple):
    """What became of a packet."""

    to: str
    """The address and port it was sent on to, or one of `UNTOUCHED` (to where it was meant), `REFUSED`, `DROPPED`."""
    masqueraded: bool = False
    """Whether its receiver sees the node's address instead of the sender's."""


class Branch(NamedTuple):
    """One of the things that can become of a packet, and what is remembered of its sender afterwards."""

    outcome: Outcome
    memory: Memory


def without_memory(branches: Mapping[Branch, Fraction]) -> dict[Outcome, Fraction]:
    """Add up the chances of branches that differ only in what is remembered."""
    total: dict[Outcome, Fraction] = {}
    for branch, chance in branches.items():
        total[branch.outcome] = total.get(branch.outcome, Fraction(0)) + chance
    return total
