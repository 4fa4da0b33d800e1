"""A packet on its way through rules: what it may become, with exact chances, and what rules of all kinds ask of it.

A packet meets choices (which endpoint?), so that at any place it may have several forms, a `Spread`; the world around
the rules decides where each is going.
"""

import enum
import ipaddress
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple, TypeAlias, TypeVar

from kproxy.state.model import Protocol

K = TypeVar("K")

# --- packets -------------------------------------------------------------------------------------------------------


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
        return ip in self.own_addresses or _address(ip).is_loopback


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
    found: dict[Outcome, Fraction] = {}
    for branch, chance in branches.items():
        add(found, branch.outcome, chance)
    return found


# --- spreads -------------------------------------------------------------------------------------------------------


class Skb(NamedTuple):
    """What rules can change about a packet on its way."""

    destination: str
    port: int
    translated: bool = False
    mark: int = 0
    masqueraded: bool = False
    memory: Memory = frozenset()


Spread: TypeAlias = Mapping[Skb, Fraction]
"""The forms a packet may have at some place, with their chances."""


def add(found: dict[K, Fraction], key: K, chance: Fraction) -> None:
    """Add to the chance of something. Most of the time it is the first, and adding fractions takes long."""
    before = found.get(key)
    found[key] = chance if before is None else before + chance


def total(*spreads: Spread) -> Spread:
    """Add up spreads."""
    some = [spread for spread in spreads if spread]
    if len(some) < 2:
        return some[0] if some else {}
    found = dict(some[0])
    for spread in some[1:]:
        for skb, chance in spread.items():
            add(found, skb, chance)
    return found


def changed(spread: Spread, change: Callable[[Skb], Skb]) -> Spread:
    """Change each form of a packet."""
    found: dict[Skb, Fraction] = {}
    for skb, chance in spread.items():
        add(found, change(skb), chance)
    return found


def weight(spread: Spread) -> Fraction:
    """Return the chance that a packet is there at all."""
    first, *others = spread.values() or (Fraction(0),)
    return sum(others, first)


# --- what rules of all kinds ask -----------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _network(cidr: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(cidr, strict=False)


@lru_cache(maxsize=4096)
def _address(ip: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(ip)


@lru_cache(maxsize=4096)
def within(ip: str, cidr: str) -> bool:
    """Tell whether an address lies in a prefix, or in a range written ``FIRST-LAST``."""
    first, dash, last = cidr.partition("-")
    if dash:
        return int(_address(first)) <= int(_address(ip)) <= int(_address(last))
    return _address(ip) in _network(cidr)


def came_by(name: str, wanted: str, wildcard: str) -> bool:
    """Tell whether an interface's name is the one wanted, which may end in a wildcard."""
    return name.startswith(wanted[:-1]) if wanted.endswith(wildcard) else name == wanted


def remember(skb: Skb, place: str, client: str) -> Skb:
    """Put a client on a list, or refresh it there."""
    others = (entry for entry in skb.memory if (entry.place, entry.client) != (place, client))
    return skb._replace(memory=frozenset((*others, Remembered(place, client, 0))))
