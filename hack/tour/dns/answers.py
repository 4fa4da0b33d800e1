"""From a question to a response: what the zone knows, what others know, and how nothing is said in either case."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rdtypes.IN.SRV
import dns.rrset
from dns.message import Message, QueryMessage
from dns.name import Name
from dns.rcode import Rcode
from dns.rdata import Rdata
from dns.rdatatype import AAAA, ANY, CNAME, A, RdataType
from dns.rdtypes.nsbase import NSBase

from hack.tour.dns.zone import IN, Zone

LARGEST_DATAGRAM = 1232  # bytes; larger ones may be lost as fragments
LONGEST_CHAIN = 8  # of names that stand for names

Ask: TypeAlias = Callable[[Name, RdataType], Awaitable[Message | None]]
"""Asks others. None if there is nobody, or nobody answers."""


async def respond(query: Message, zone: Zone, ask: Ask | None) -> Message:
    """The response to a query, from `zone` where it covers the name, else from others."""
    response = dns.message.make_response(query, recursion_available=ask is not None, our_payload=LARGEST_DATAGRAM)
    if query.opcode() != dns.opcode.QUERY:
        response.set_rcode(dns.rcode.NOTIMP)
        return response
    if len(query.question) != 1:
        response.set_rcode(dns.rcode.FORMERR)
        return response
    question = query.question[0]
    if question.rdclass != IN or question.rdtype in (dns.rdatatype.AXFR, dns.rdatatype.IXFR):
        response.set_rcode(dns.rcode.REFUSED)
        return response
    response.set_rcode(await _answer(response, question.name, question.rdtype, zone, ask))
    return response


async def _answer(response: Message, name: Name, kind: RdataType, zone: Zone, ask: Ask | None) -> Rcode:
    """Fill in the answer, following names that stand for names. Returns the response's code, that of the last one."""
    if zone.covers(name):
        response.flags |= dns.flags.AA
    for _ in range(LONGEST_CHAIN):
        if not zone.covers(name):
            return await _from_others(response, name, kind, ask)
        node = zone.node(name)
        if node is None:
            _no_such(response, zone)
            return dns.rcode.NXDOMAIN
        if kind == ANY:
            for data in node.values():
                _add(response.answer, name, data, zone)
            return dns.rcode.NOERROR
        if kind in node:
            _add(response.answer, name, node[kind], zone)
            _add_locations(response, node[kind], zone)
            return dns.rcode.NOERROR
        alias = node.get(CNAME)
        if alias is None:
            _no_such(response, zone)
            return dns.rcode.NOERROR  # NODATA
        _add(response.answer, name, alias, zone)
        assert isinstance(alias[0], NSBase)  # as dnspython calls data that is nothing but a name
        name = alias[0].target
    return dns.rcode.SERVFAIL


async def _from_others(response: Message, name: Name, kind: RdataType, ask: Ask | None) -> Rcode:
    """What others know. Where nobody can be asked, an alias alone is an answer; a name that is not ours is refused."""
    if ask is None:
        return dns.rcode.NOERROR if response.answer else dns.rcode.REFUSED
    found = await ask(name, kind)
    if found is None:
        return dns.rcode.SERVFAIL
    response.answer.extend(found.answer)
    response.authority.extend(found.authority)
    return found.rcode()


def _add(section: list[dns.rrset.RRset], name: Name, data: tuple[Rdata, ...], zone: Zone) -> None:
    section.append(dns.rrset.from_rdata_list(name, zone.ttl, data))


def _no_such(response: Message, zone: Zone) -> None:
    """A negative answer says for how long it holds by the SOA record beside it (RFC 2308)."""
    _add(response.authority, zone.origin, (zone.soa,), zone)


def _add_locations(response: Message, data: tuple[Rdata, ...], zone: Zone) -> None:
    """With SRV records go the addresses of the names in them, to save the client a question for each."""
    targets = dict.fromkeys(one.target for one in data if isinstance(one, dns.rdtypes.IN.SRV.SRV))
    for target in targets:
        node = zone.node(target) or {}
        for kind in (A, AAAA):
            if kind in node:
                _add(response.additional, target, node[kind], zone)


def parse(wire: bytes) -> Message | None:
    """A query from the wire; None for what cannot be read, and for what is itself a response: nobody answers those."""
    try:
        query = dns.message.from_wire(wire)
    except Exception:  # dnspython raises many kinds; whatever a stranger sends, the server goes on
        return None
    return query if isinstance(query, QueryMessage) and not query.flags & dns.flags.QR else None
