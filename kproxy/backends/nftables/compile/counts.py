"""Whose connections the kernel has counted.

Only a connection's first packet comes through the nat chains. So what the element of a frontend has counted, in the set
of its way, is the number of connections that came by it, and the element of an endpoint counts those it was given. An
endpoint's can only have moved where a frontend's has: there may be 250,000 of them, of which a reading asks for a few.

Whatever goes takes its count with it, and what comes in its place begins at 0.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from kproxy.backends.base import Counter, Of
from kproxy.backends.nftables.compile.service import Claim, ServiceRules
from kproxy.backends.nftables.rules import names
from kproxy.backends.nftables.rules.change import EndpointOf
from kproxy.backends.nftables.rules.ruleset import Data, Found, Key, Numbers, SetSpec
from kproxy.backends.nftables.rules.ways import ENDPOINT_MAPS, place_of
from kproxy.state.model import Protocol, ServicePortName, endpoint_text

Owner: TypeAlias = Callable[[Claim], ServicePortName | None]
"""Tells whose frontend it is that clients know by a claim."""

_REJECTING = {names.REFUSED, names.REFUSED_NODE_PORTS}
_DROPPING = {names.DROPPED, names.DROPPED_NODE_PORTS, names.NOT_PERMITTED}


def sets_of_services(sets: Mapping[str, SetSpec]) -> dict[str, SetSpec]:
    """Return the sets that count for services: all that count but the maps of endpoints."""
    return {name: spec for name, spec in sets.items() if spec.counted and name not in ENDPOINT_MAPS}


def whose(
    counted: Iterable[tuple[str, Found]], owner: Owner, own: Mapping[Numbers, EndpointOf]
) -> Iterator[tuple[ServicePortName, Counter]]:
    """Tell for whom elements have counted, and what; leaves out those of nobody.

    ``own`` tells which endpoints of services with chains of their own numbers stand for.
    """
    for set_name, found in counted:
        if set_name == names.OWN_ENDPOINTS:
            numbers = Numbers(*map(int, found.key))
            for_whom = own.get(numbers)
            if for_whom is not None:
                counter = Counter(_counter_name("own", numbers), Of.CONNECTIONS, found.packets, for_whom.endpoint)
                yield for_whom.service, counter
            continue
        claim = _claim(set_name, found.key)
        name = owner(claim)
        if name is not None:
            yield name, _counter(set_name, found.key, found.data, found.packets)


def _counter(set_name: str, key: Key, data: Data, packets: int) -> Counter:
    if set_name in ENDPOINT_MAPS:
        ip, port = data or ("", 0)
        return Counter(_counter_name(set_name, key), Of.ENDPOINT, packets, endpoint_text(str(ip), int(port)))
    if set_name in _REJECTING:
        return Counter(_counter_name(set_name, key), Of.REJECTED, packets)
    of = Of.DROPPED if set_name in _DROPPING else Of.CONNECTIONS
    return Counter(_counter_name(set_name, key), of, packets)


def endpoint_elements(rules: ServiceRules, owned: Collection[Claim]) -> Iterator[tuple[str, Key, Data]]:
    """Yield the elements that count for a service's endpoints, but for those of services with chains of their own.

    Of frontends that two services want, only one is ``owned`` by it.
    """
    for claim, entry in rules.entries.items():
        if claim in owned:
            yield from (element for element in entry.elements if element[0] in ENDPOINT_MAPS)


def endpoint_counters(elements: Iterable[tuple[str, Key, Data]], packets: Iterable[int]) -> Sequence[Counter]:
    """Return the counters of endpoints that have counted anything, given their elements and what each has counted."""
    return [
        _counter(set_name, key, data, number)
        for (set_name, key, data), number in zip(elements, packets, strict=True)
        if number
    ]


def endpoints_of(rules: ServiceRules) -> Sequence[str]:
    """Return a service's endpoints."""
    return [endpoint_text(ip, port) for ip, port in dict.fromkeys((*rules.cluster, *rules.local))]


def _claim(set_name: str, key: Key) -> Claim:
    """Return by what clients know the frontend that an element is for."""
    place = place_of(set_name)
    if place is not None:
        ip, port = ("", key[0]) if place.node_port else key[:2]
        return Claim(str(ip), int(port), place.protocol)
    *ip_if_any, protocol, port = key
    return Claim(str(ip_if_any[0]) if ip_if_any else "", int(port), Protocol(str(protocol)))


def _counter_name(set_name: str, key: Sequence[str | int]) -> str:
    return " ".join((set_name, *map(str, key)))
