"""What to ask the kernel for, so that it tells of the flows that matter and of few others.

For each look the kernel walks its whole table: about 50 ns for each bucket, of which there are 65,000 or 262,000, and
300 ns for each entry. What it tells of costs ten times as much again. So there shall be few looks, and narrow ones.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from kproxy.plan.model import Destination
from kproxy.state.model import IPFamily, Protocol

_MOST_SEPARATE_LOOKS = 8
"""For more destinations than that, one look at everything is cheaper."""


class Look(NamedTuple):
    """One question to the kernel; a kernel that can't choose tells of more."""

    protocols: tuple[Protocol, ...]
    ip: str | None = None
    """Where flows were sent to, None for anywhere."""
    port: int | None = None
    answered: bool = False
    """Whether connections matter that have been answered, too: to people who look, and to nobody else."""

    @property
    def unanswered(self) -> bool:
        """Whether only flows are asked for that nobody has answered: those of UDP can go wrong at any time."""
        return not self.answered and Protocol.UDP not in self.protocols


def looks(family: IPFamily, destinations: Mapping[Protocol, Collection[Destination] | None]) -> list[Look]:
    """Return what to ask for, to learn of all flows to some destinations of each protocol, None being all of them."""
    found: list[Look] = []
    matter = {protocol: places for protocol, places in destinations.items() if places is None or places}
    if Protocol.UDP in matter:
        found += _separate(family, matter.pop(Protocol.UDP))
    if matter:
        found.append(_narrowest(family, matter))
    return found


def _separate(family: IPFamily, destinations: Collection[Destination] | None) -> list[Look]:
    """Return a look for each destination, or one for all if there are many: flows of UDP may be many, too."""
    everything = [Look((Protocol.UDP,))]
    if destinations is None:
        return everything
    asked = {_asked(family, destination) for destination in destinations}
    by_port = {destination.port for destination in asked if destination.ip is None}
    separate = [each for each in asked if each.ip is None or each.port not in by_port]
    if len(separate) > _MOST_SEPARATE_LOOKS:
        return everything
    return [Look((Protocol.UDP,), *destination) for destination in separate]


def _narrowest(family: IPFamily, connections: Mapping[Protocol, Collection[Destination] | None]) -> Look:
    """Return the one look that takes in all: connections without an answer are few wherever they lead."""
    protocols = tuple(sorted(connections))
    asked: set[Destination] = set()
    for destinations in connections.values():
        if destinations is None:
            return Look(protocols)
        asked.update(_asked(family, destination) for destination in destinations)
    ips, ports = {each.ip for each in asked}, {each.port for each in asked}
    if len(protocols) > 1 or len(ports) > 1:
        return Look(protocols)
    return Look(protocols, ips.pop() if len(ips) == 1 else None, ports.pop())


def _asked(family: IPFamily, destination: Destination) -> Destination:
    """Leave out what the kernel can't be asked for.

    Kernels (6.18 among them) take an IPv6 address in a filter for the one that is *not* wanted: in ctnetlink_filter_
    match_tuple(), ipv6_addr_cmp() is the wrong way round. So there the port must do.
    """
    return Destination(None, destination.port) if family is IPFamily.IPV6 else destination
