"""The layout: how the kernel finds out, in a few lookups, what becomes of a connection.

Each address and port that clients connect to is an element of the set of its *way*: by which pool of endpoints it goes
on, with what masquerading, and how many endpoints there are. The endpoints are elements of a map, numbered from 0:

    set tcp/cluster-4/off-cluster { 10.96.0.10 . 80 }
    map tcp/cluster-endpoints {
        10.96.0.10 . 80 . 0 : 10.244.0.11 . 8080,
        10.96.0.10 . 80 . 1 : 10.244.1.12 . 8080,
        10.96.0.10 . 80 . 2 : 10.244.1.13 . 8080 }
    chain tcp/services    { ip daddr . tcp dport @tcp/cluster-4/off-cluster goto tcp/cluster-4/off-cluster; … }
    chain tcp/cluster-4/off-cluster { …mark what is to be masqueraded…; goto tcp/cluster-4 }
    chain tcp/cluster-4   { jump tcp/cluster-4/once; …again and again…; goto tcp/cluster-1 }
    chain tcp/cluster-4/once { dnat to ip daddr . tcp dport . numgen random mod 4 map @tcp/cluster-endpoints }

Two things in it are not as one would write them by hand; both keep the cost of a change independent of the number of
services, which the obvious ways do not (nf_tables, Linux 6.18, measured with 30,000 services of 5 endpoints):

* *Sets with a rule for each, instead of one map of verdicts.* Whenever an element that leads to a chain is added, the
  kernel walks through all such elements to look for loops (nft_table_validate): 5 ms. There are as many of these sets
  as there are ways in use, a dozen at most.
* *Sizes are powers of two, and a number that no endpoint has is drawn again.* With a chain for each number of
  endpoints, services would change their way, and chains come and go, with every pod; and when a rule comes that uses a
  map, the kernel walks through the whole of it (nf_tables_bind_set): 20 ms. More than half of the numbers have an
  endpoint, so 32 draws fail together less often than once in 2**32 times, which is how even numgen itself is; then the
  endpoint with number 0 gets the connection.

Protocols are kept apart because nft (1.0.6 to 1.1.3 at least) gets no port into a map's data without knowing whose.
"""

from functools import lru_cache
from typing import NamedTuple

from kproxy.backends.nftables.rules.ruleset import Column, Key, SetSpec
from kproxy.plan.model import Masquerade, Target
from kproxy.state.model import Protocol

_DRAWS_FAIL = 2.0**-32
"""How often all draws together may fail."""


class Place(NamedTuple):
    """By what clients' packets are looked up: protocol, and either address and port or the node's own port."""

    protocol: Protocol
    node_port: bool

    @property
    def prefix(self) -> str:
        """What the names of all that is for this place begin with."""
        return f"{self.protocol}/node-port" if self.node_port else str(self.protocol)

    @property
    def columns(self) -> tuple[Column, ...]:
        """What packets are looked up by."""
        return (Column.PORT,) if self.node_port else (Column.DESTINATION, Column.PORT)

    @property
    def set_spec(self) -> SetSpec:
        """The declaration of sets of frontends."""
        return SetSpec(columns=self.columns, protocol=self.protocol)

    @property
    def own_chains_spec(self) -> SetSpec:
        """The declaration of the map from frontends to the chains of services that have chains of their own."""
        return SetSpec(columns=self.columns, protocol=self.protocol, verdicts=True)

    @property
    def endpoints_spec(self) -> SetSpec:
        """The declaration of maps of endpoints."""
        return SetSpec(
            columns=(*self.columns, Column.NUMBER),
            data=(Column.DESTINATION, Column.PORT),
            protocol=self.protocol,
            counted=True,
        )

    @property
    def services(self) -> str:
        """The chain that looks up what becomes of a packet."""
        return f"{self.prefix}/services"

    @property
    def short_cut(self) -> str:
        """The chain that looks up the cluster's endpoints for senders that no Local policy is for."""
        return f"{self.prefix}/short-cut"

    @property
    def own_chains(self) -> str:
        """The map that leads to services' own chains, where they have some: for affinity, or to take turns."""
        return f"{self.prefix}/own-chains"

    def endpoints(self, pool: Target) -> str:
        """The map of the endpoints of a pool."""
        return f"{self.prefix}/{pool.value}-endpoints"


ENDPOINT_MAPS = {
    place.endpoints(pool): place
    for place in (Place(protocol, node_port) for protocol in Protocol for node_port in (False, True))
    for pool in (Target.CLUSTER, Target.LOCAL)
}
"""Every map of endpoints there can be, by name."""


@lru_cache(maxsize=1024)
def place_of(set_name: str) -> Place | None:
    """Return the place that a set of frontends or a map of endpoints is for; None for sets of other kinds."""
    protocol, _, rest = set_name.partition("/")
    if not rest or protocol not in _PROTOCOLS:
        return None
    return Place(_PROTOCOLS[protocol], node_port=rest.startswith("node-port/"))


_PROTOCOLS = {str(protocol): protocol for protocol in Protocol}


class Draw(NamedTuple):
    """A draw among the endpoints of a pool, of ``size`` numbers."""

    place: Place
    pool: Target
    size: int

    @property
    def chain(self) -> str:
        """The chain that draws one of the endpoints."""
        return f"{self.place.prefix}/{self.pool.value}-{self.size}"

    @property
    def once(self) -> str:
        """The chain that draws one number, which an endpoint may have or not."""
        return f"{self.chain}/once"

    @property
    def endpoints(self) -> str:
        """The map of the endpoints."""
        return self.place.endpoints(self.pool)


class Way(NamedTuple):
    """What becomes of connections, the same for many frontends, each an element of the set of the way's name.

    ``size`` is the number of endpoints rounded up to a power of two, 0 for none: then there is but the short cut.
    """

    place: Place
    pool: Target
    size: int
    masquerade: Masquerade = Masquerade.NEVER
    short_cut: bool = False
    """Whether some senders are to be looked up among the ways of the short cut."""
    of_short_cut: bool = False
    """Whether this is one of those."""
    alone: bool = False
    """Whether it is one that leads where all others lead nowhere."""

    @property
    def draw(self) -> Draw:
        """The draw it leads to."""
        return Draw(self.place, self.pool, self.size)

    @property
    def spec(self) -> SetSpec:
        """The declaration of the set of frontends.

        Its elements count connections, each of them once: by the way they come by first, if that leads anywhere.
        """
        counted = self.alone if self.of_short_cut else bool(self.size)
        return SetSpec(columns=self.place.columns, protocol=self.place.protocol, counted=counted)

    @property
    def name(self) -> str:
        """The set of frontends, and the chain they go to if there is anything to do before the draw."""
        return _name(self)


@lru_cache(maxsize=1024)
def _name(way: Way) -> str:
    if way.of_short_cut:
        return f"{way.place.short_cut}/{'only/' if way.alone else ''}{way.pool.value}-{way.size}"
    base = way.draw.chain if way.size else f"{way.place.prefix}/nowhere"
    if way.short_cut:
        base += "/short-cut"
    return f"{base}/{_SUFFIX[way.masquerade]}" if way.masquerade is not Masquerade.NEVER else base


_SUFFIX = {Masquerade.OFF_CLUSTER: "off-cluster", Masquerade.ALWAYS: "masquerade"}


def size_for(endpoints: int) -> int:
    """Return the size of the draw among so many endpoints."""
    return 1 << (endpoints - 1).bit_length() if endpoints else 0


def draws(size: int) -> int:
    """Return how many times to draw among ``size`` numbers, of which more than half have an endpoint: of 2 both."""
    if size <= 2:
        return 1
    fails = 1 - (size / 2 + 1) / size
    times, together = 1, fails
    while together > _DRAWS_FAIL:
        times, together = times + 1, together * fails
    return times


def frontend_key(place: Place, ip: str | None, port: int) -> Key:
    """Return the key of a frontend in sets for ``place``."""
    return (port,) if place.node_port else (ip or "", port)
