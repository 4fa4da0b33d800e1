"""Names that are there, and names that are not.

There are two ways to get no address. NXDOMAIN says that there is no such name, and a client goes on with the next of
its search domains. NODATA (no error, and no answer either) says that there is such a name, with records of other types:
a client stops. To tell one from the other, a zone must know all its names: those with records and those that only lead
to others, as ``shop.svc.cluster.local`` leads to ``item.shop.svc.cluster.local`` (RFC 8020).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.zone
from dns.name import Name
from dns.rdata import Rdata
from dns.rdatatype import RdataType

TTL = 5  # seconds that others may remember a record; CoreDNS' own for clusters
IN = dns.rdataclass.IN

Node: TypeAlias = Mapping[RdataType, tuple[Rdata, ...]]
NOTHING_OF_ITS_OWN: Node = MappingProxyType({})


class Record(NamedTuple):
    """One record: its name, absolute, and its data."""

    name: Name
    data: Rdata


def record(name: Name, kind: RdataType, text: str) -> Record:
    """A record from its text, as in a zone file. Raises dns.exception.DNSException where it makes no sense."""
    return Record(name, dns.rdata.from_text(IN, kind, text, origin=dns.name.root, relativize=False))


class Zone:
    """All records at and below `origin`, and those of the names of `beside` (reverse names), which are just as ours."""

    def __init__(self, origin: Name, records: Iterable[Record], ttl: int = TTL) -> None:
        self.origin = origin
        self.ttl = ttl  # seconds
        nodes: defaultdict[Name, dict[RdataType, dict[Rdata, None]]] = defaultdict(dict)
        for name, data in records:
            nodes[name].setdefault(data.rdtype, {})[data] = None  # the same record twice is one
        self._nodes: dict[Name, Node] = {
            name: {kind: tuple(found) for kind, found in types.items()} for name, types in nodes.items()
        }
        for name in tuple(self._nodes):
            if name.is_subdomain(origin):
                self._add_ancestors(name)

    def _add_ancestors(self, name: Name) -> None:
        while name != self.origin:
            self._nodes.setdefault(name, NOTHING_OF_ITS_OWN)
            name = name.parent()

    def covers(self, name: Name) -> bool:
        """Whether what this zone says about a name is final, be it that there is none."""
        return name.is_subdomain(self.origin) or name in self._nodes

    def node(self, name: Name) -> Node | None:
        """The records of a name by type, empty if it only leads to others; None if there is no such name."""
        return self._nodes.get(name)

    @property
    def soa(self) -> Rdata:
        """Who is in charge; a negative answer carries it, and how long it may be remembered."""
        return self._nodes[self.origin][dns.rdatatype.SOA][0]


def from_file(text: str) -> Zone:
    """A zone from a zone file, for whoever plays the rest of the world."""
    parsed = dns.zone.from_text(text, relativize=False)
    assert parsed.origin is not None
    found = [Record(name, data) for name, _, data in parsed.iterate_rdatas()]
    return Zone(parsed.origin, found, min(ttl for _, ttl, _ in parsed.iterate_rdatas()))
