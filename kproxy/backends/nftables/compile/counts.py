"""Whose connections the kernel has counted.

Only a connection's first packet comes through the nat chains, so what the element of an endpoint has counted is the
number of connections it was given; a service's are those of its endpoints together. Whatever goes takes its count with
it, and what comes in its place begins at 0: so the counts of what went are kept here, as long as the service is there.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from kproxy.backends.base import Counts
from kproxy.backends.nftables.compile.service import NOTHING, Claim, ServiceRules
from kproxy.backends.nftables.rules import names
from kproxy.backends.nftables.rules.change import EndpointOf
from kproxy.backends.nftables.rules.ruleset import Found, Numbers
from kproxy.backends.nftables.rules.ways import ENDPOINT_MAPS
from kproxy.state.model import Protocol, ServicePortName, endpoint_text

K = TypeVar("K")
Owner: TypeAlias = Callable[[Claim], ServicePortName | None]
"""Tells whose frontend it is that clients know by a claim."""

_REJECTING = {names.REFUSED, names.REFUSED_NODE_PORTS}
_DROPPING = {names.DROPPED, names.DROPPED_NODE_PORTS, names.NOT_PERMITTED}


class Tally:
    """Connections by service port and endpoint."""

    def __init__(self) -> None:
        self.connections: dict[ServicePortName, int] = {}
        self.endpoints: dict[ServicePortName, dict[str, int]] = {}
        self.rejected: dict[ServicePortName, int] = {}
        self.dropped: dict[ServicePortName, int] = {}

    def add(self, counted: Sequence[tuple[str, Found]], owner: Owner, own: Mapping[Numbers, EndpointOf]) -> None:
        """Add what was counted; ``own`` tells which endpoints of services with own chains numbers stand for."""
        for set_name, found in counted:
            if set_name == names.OWN_ENDPOINTS:
                for_whom = own.get(Numbers(*map(int, found.key)))
                if for_whom is not None:
                    self._add_endpoint(*for_whom, found.packets)
                continue
            name = owner(_claim(set_name, found))
            if name is not None:
                self._add_element(name, set_name, found)

    def _add_element(self, name: ServicePortName, set_name: str, found: Found) -> None:
        if set_name in _REJECTING:
            _add(self.rejected, name, found.packets)
        elif set_name in _DROPPING:
            _add(self.dropped, name, found.packets)
        elif found.data is not None:
            ip, port = found.data
            self._add_endpoint(name, endpoint_text(str(ip), int(port)), found.packets)

    def _add_endpoint(self, name: ServicePortName, endpoint: str, packets: int) -> None:
        _add(self.connections, name, packets)
        _add(self.endpoints.setdefault(name, {}), endpoint, packets)

    def forget(self, name: ServicePortName) -> None:
        """Forget a service port that is gone."""
        for one in (self.connections, self.endpoints, self.rejected, self.dropped):
            one.pop(name, None)

    def forget_endpoints(self, current: Mapping[ServicePortName, ServiceRules]) -> None:
        """Forget endpoints that are gone, but not their connections as a service's."""
        for name, counts in self.endpoints.items():
            rules = current.get(name, NOTHING)
            there = {endpoint_text(ip, port) for ip, port in (*rules.cluster, *rules.local)}
            for endpoint in counts.keys() - there:
                del counts[endpoint]


def total(services: Iterable[ServicePortName], past: Tally, now: Tally, invalid: int | None) -> Counts:
    """Return the counts of ``services``: those of what is there now and of what was in its place before."""
    endpoints: dict[tuple[ServicePortName, str], int] = {}
    for tally in (past, now):
        for name, counts in tally.endpoints.items():
            for endpoint, packets in counts.items():
                _add(endpoints, (name, endpoint), packets)
    none = dict.fromkeys(services, 0)
    return Counts(
        services=_together(none, past.connections, now.connections),
        endpoints=endpoints,
        rejected=_together(none, past.rejected, now.rejected),
        dropped=_together(none, past.dropped, now.dropped),
        invalid_dropped=invalid,
    )


def _claim(set_name: str, found: Found) -> Claim:
    """Return by what clients know the frontend that an element is for."""
    key = found.key
    place = ENDPOINT_MAPS.get(set_name)
    if place is not None:
        ip, port = ("", key[0]) if place.node_port else key[:2]
        return Claim(str(ip), int(port), place.protocol)
    *ip_if_any, protocol, port = key
    return Claim(str(ip_if_any[0]) if ip_if_any else "", int(port), Protocol(str(protocol)))


def _together(*several: Mapping[K, int]) -> dict[K, int]:
    summed = dict(several[0])
    for one in several[1:]:
        for key, packets in one.items():
            _add(summed, key, packets)
    return summed


def _add(to: dict[K, int], key: K, packets: int) -> None:
    to[key] = to.get(key, 0) + packets
