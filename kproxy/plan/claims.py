"""Whose an address is that several Services name: decided once, for all backends.

Anybody who may create a Service may name any address as its external IP, another Service's ClusterIP among them
(CVE-2020-8554). So, for each address, port and protocol, and for each node port:

* a ClusterIP belongs to its Service, against external and load-balancer IPs of all others;
* an address that a load balancer was given comes before one that a Service only names as an external IP;
* among equals the older Service has it, as in the Gateway API, and of two of the same age (or of unknown age) the one
  whose name comes first.

All others lose it, as long as the owner is there. No order of events and no name makes a difference beyond that.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from typing import NamedTuple

from kproxy.api.types import Problem
from kproxy.plan.model import Frontend, FrontendKind
from kproxy.state.model import AGE_UNKNOWN, Protocol, ServicePort, ServicePortName, endpoint_text

_STANDING = {
    FrontendKind.CLUSTER_IP: 0,
    FrontendKind.NODE_PORT: 0,
    FrontendKind.LOAD_BALANCER: 1,
    FrontendKind.EXTERNAL_IP: 2,
}
_FIELDS = {
    FrontendKind.CLUSTER_IP: "spec.clusterIPs",
    FrontendKind.NODE_PORT: "spec.ports.nodePort",
    FrontendKind.LOAD_BALANCER: "status.loadBalancer.ingress",
    FrontendKind.EXTERNAL_IP: "spec.externalIPs",
}


class Claim(NamedTuple):
    """What a client sends to. No two service ports can have the same."""

    ip: str | None
    """None for a node port."""
    port: int
    protocol: Protocol

    def __str__(self) -> str:
        place = endpoint_text(self.ip, self.port) if self.ip else f"node port {self.port}"
        return f"{place}/{self.protocol.value.upper()}"


class Loss(NamedTuple):
    """A frontend of a service port that does nothing, as another one has it."""

    loser: ServicePortName
    claim: Claim
    kind: FrontendKind
    """What it would be to the loser."""
    owner: ServicePortName
    reason: str

    @property
    def problem(self) -> Problem:
        """The same, said about the loser's Service."""
        text = f"{self.claim} belongs to Service {self.owner.service}, {self.reason}; it has no effect here meanwhile"
        return Problem("Service", self.loser.service, _FIELDS[self.kind], text)


def claim_of(frontend: Frontend, protocol: Protocol) -> Claim:
    """Return what a frontend lays claim to."""
    return Claim(frontend.ip, frontend.port, protocol)


def claims_of(port: ServicePort) -> dict[Claim, FrontendKind]:
    """Return all that a service port lays claim to, by the best title it has."""
    protocol = port.name.protocol
    found = {Claim(ip, port.port, protocol): FrontendKind.EXTERNAL_IP for ip in port.external_ips}
    found.update((Claim(ip, port.port, protocol), FrontendKind.LOAD_BALANCER) for ip in port.load_balancer_vips)
    found[Claim(port.cluster_ip, port.port, protocol)] = FrontendKind.CLUSTER_IP
    if port.node_port:
        found[Claim(None, port.node_port, protocol)] = FrontendKind.NODE_PORT
    return found


class Claims:
    """Who wants what in one address family, and who has it. Costs what changes, not what there is."""

    def __init__(self) -> None:
        self._sole: dict[Claim, ServicePortName] = {}
        """Who has a claim that nobody else wants: nearly all of them."""
        self._rivals: dict[Claim, set[ServicePortName]] = {}
        """All who want a claim that several want."""
        self._lost: dict[ServicePortName, dict[Claim, ServicePortName]] = {}
        """What losers have lost, and to whom."""

    def lost(self, name: ServicePortName) -> Mapping[Claim, ServicePortName]:
        """Return what a service port wants and another one has."""
        return self._lost.get(name, {})

    def losers(self) -> Iterator[tuple[ServicePortName, Claim, ServicePortName]]:
        """Yield every loser with what it lost, and to whom, in order."""
        for name in sorted(self._lost):
            for claim in sorted(self._lost[name], key=str):
                yield name, claim, self._lost[name][claim]

    def replace(self, name: ServicePortName, old: Collection[Claim], new: Collection[Claim]) -> Set[Claim]:
        """Take in what a service port wants now; return the claims that have to be settled again.

        That includes those that it keeps: its title to them, or its age, may be another.
        """
        for claim in old:
            if claim not in new:
                self._withdraw(name, claim)
        for claim in new:
            if claim not in old:
                self._raise(name, claim)
        return {claim for claim in (*old, *new) if claim in self._rivals}

    def settle(self, claims: Iterable[Claim], ports: Mapping[ServicePortName, ServicePort]) -> Set[ServicePortName]:
        """Decide whose ``claims`` are; return the service ports for which anything is different now."""
        affected: set[ServicePortName] = set()
        for claim in claims:
            rivals = self._rivals.get(claim, ())
            owner = min(((_title(ports.get(name), claim), name) for name in rivals), default=(None, None))[1]
            for name in rivals:
                if self._set_loss(name, claim, None if name == owner else owner):
                    affected.add(name)
            if owner is not None and len(rivals) == 1:
                del self._rivals[claim]
                self._sole[claim] = owner
        return affected

    def _raise(self, name: ServicePortName, claim: Claim) -> None:
        if claim in self._rivals:
            self._rivals[claim].add(name)
        elif claim in self._sole:
            self._rivals[claim] = {self._sole.pop(claim), name}
        else:
            self._sole[claim] = name

    def _withdraw(self, name: ServicePortName, claim: Claim) -> None:
        self._set_loss(name, claim, None)
        if claim in self._rivals:
            self._rivals[claim].discard(name)
            if not self._rivals[claim]:
                del self._rivals[claim]
        else:
            self._sole.pop(claim, None)

    def _set_loss(self, name: ServicePortName, claim: Claim, owner: ServicePortName | None) -> bool:
        """Note to whom a claim is lost, if it is; return whether whether it is lost has changed."""
        lost = self._lost.get(name, {})
        before = claim in lost
        if owner is not None:
            self._lost.setdefault(name, {})[claim] = owner
        elif before:
            del lost[claim]
            if not lost:
                del self._lost[name]
        return before is (owner is None)


def explain(claim: Claim, loser: ServicePort | None, owner: ServicePort | None) -> Loss | None:
    """Return a loss with the reason for it; None where either is gone, or has given it up, a moment ago."""
    kind, title = (claims_of(port).get(claim) if port else None for port in (loser, owner))
    if loser is None or owner is None or kind is None or title is None:
        return None
    if _STANDING[title] < _STANDING[kind]:
        reason = f"whose {title.value} it is"
    elif owner.created < loser.created:
        reason = f"which is older, as its {title.value}"
    else:
        reason = f"whose name comes first, as its {title.value}"
    return Loss(loser.name, claim, kind, owner.name, reason)


def _title(port: ServicePort | None, claim: Claim) -> tuple[int, int]:
    """Rank what entitles a service port to a claim: the least has it."""
    kind = claims_of(port).get(claim) if port else None
    return (_STANDING[kind], port.created) if port and kind else (len(FrontendKind), AGE_UNKNOWN)
