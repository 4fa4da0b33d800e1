"""What Gateways want of the engine, listener by listener, and what is wrong with it. Source: GatewaySpec.listeners.

A listener gets a place in the engine if it is accepted, nothing contradicts it, and (for https) at least one of its
certificates is sound. Whether routes may attach to it does not depend on that.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from kproxy.api.types import ObjectKey
from kproxy.ingress.api.gateway import GROUP, Gateway, GatewayListener, SecretReference
from kproxy.ingress.plan import grammar
from kproxy.ingress.plan.certificates import BadCertificate, Certificates
from kproxy.ingress.plan.gateway.grants import Grants, Referrer
from kproxy.ingress.plan.gateway.hosts import intersection
from kproxy.ingress.plan.gateway.selectors import is_sound, selects
from kproxy.ingress.plan.gateway.verdicts import (
    ACCEPTED,
    CONFLICTED,
    FALSE,
    OVERLAPPING_TLS,
    PROGRAMMED,
    RESOLVED_REFS,
    TRUE,
    Verdict,
)
from kproxy.ingress.plan.grammar import NotUsable
from kproxy.ingress.plan.matching import ANY_HOST, HostKind, HostPattern
from kproxy.ingress.plan.model import Protocol
from kproxy.ingress.plan.services import Unresolved
from kproxy.ingress.plan.world import World
from kproxy.state.findings import is_port
from kproxy.wording import quote

KIND = "Gateway"
ROUTE_KIND = "HTTPRoute"
_PROTOCOLS = {"HTTP": Protocol.HTTP, "HTTPS": Protocol.HTTPS}
_NAMESPACES = ("All", "Same", "Selector")


class Judged(NamedTuple):
    """A listener, in the plan's terms as far as it can be, and everything that is to be said of it."""

    listener: GatewayListener
    protocol: Protocol | None
    pattern: HostPattern
    certificates: tuple[ObjectKey, ...]
    secrets: frozenset[ObjectKey]
    """The Secrets that it names and may name, sound or not."""
    kinds: tuple[str, ...]
    conditions: Mapping[str, Verdict]

    @property
    def served(self) -> bool:
        """Whether it gets a place in the engine."""
        return self.conditions[PROGRAMMED].holds

    def allows(self, world: World, gateway: Gateway, namespace: str) -> bool:
        """Tell whether HTTPRoutes of a namespace may attach."""
        if ROUTE_KIND not in self.kinds:
            return False
        allowed = self.listener.allowed_routes.namespaces if self.listener.allowed_routes else None
        match (allowed.from_ if allowed else None) or "Same":
            case "All":
                return True
            case "Same":
                return namespace == gateway.metadata.namespace
            case "Selector" if allowed is not None:
                return is_sound(allowed.selector) and selects(allowed.selector, world.labels_of(namespace))
        return False


def judge(
    gateway: Gateway,
    world: World,
    grants: Grants,
    certificates: Certificates,
    taken: Mapping[str, str],
) -> tuple[Judged, ...]:
    """Judge the listeners of a Gateway. ``taken`` says, by name, which cannot have their port, and why."""
    listeners = gateway.spec.listeners or ()
    patterns = {index: _pattern(listener) for index, listener in enumerate(listeners)}
    conflicts = _conflicts(listeners, patterns)
    overlapping = _overlapping(listeners, patterns, conflicts)
    judged = []
    names: set[str] = set()
    for index, listener in enumerate(listeners):
        resolver = _Resolver(gateway, world, grants, certificates)
        found, secrets, refs = resolver.certificates_of(listener)
        kinds, kinds_verdict = _kinds(listener)
        conflict = conflicts.get(index)
        accepted = conflict or _accepted(gateway, listener, patterns[index], taken.get(listener.name))
        if listener.name in names:  # routes could not say which one they mean
            accepted = Verdict(FALSE, "UnsupportedValue", f"the name {quote(listener.name)} is there twice")
        names.add(listener.name)
        conditions = {
            ACCEPTED: accepted._replace(status=FALSE) if conflict else accepted,
            CONFLICTED: conflict or Verdict(FALSE, "NoConflicts", "no other listener wants the same"),
            RESOLVED_REFS: kinds_verdict or refs or Verdict(TRUE, "ResolvedRefs", "all references lead to something"),
        }
        conditions[PROGRAMMED] = _programmed(conditions, listener, found)
        if index in overlapping:
            conditions[OVERLAPPING_TLS] = Verdict(TRUE, "OverlappingHostnames", overlapping[index])
        judged.append(
            Judged(
                listener=listener,
                protocol=_PROTOCOLS.get(listener.protocol),
                pattern=patterns[index] or ANY_HOST,
                certificates=found,
                secrets=secrets,
                kinds=kinds,
                conditions=conditions,
            )
        )
    return tuple(judged)


def _pattern(listener: GatewayListener) -> HostPattern | None:
    try:
        return grammar.host(listener.hostname or "", HostKind.WILDCARD)
    except NotUsable:
        return None


def _accepted(gateway: Gateway, listener: GatewayListener, pattern: HostPattern | None, taken: str | None) -> Verdict:
    if listener.protocol not in _PROTOCOLS:
        supported = ", ".join(_PROTOCOLS)
        return Verdict(FALSE, "UnsupportedProtocol", f"protocol {quote(listener.protocol)} is not one of {supported}")
    if not is_port(listener.port):
        return Verdict(FALSE, "PortUnavailable", f"port {listener.port} is not in 1-65535")
    if taken is not None:
        return Verdict(FALSE, "PortUnavailable", taken)
    if pattern is None:
        return Verdict(FALSE, "UnsupportedValue", f"hostname {quote(listener.hostname or '')} is no host name")
    if not grammar.is_name(listener.name):
        return Verdict(FALSE, "UnsupportedValue", f"{quote(listener.name)} is no name for a listener")
    unsupported = _unsupported_tls(gateway, listener) or _unsupported_routes(listener)
    return unsupported or Verdict(TRUE, "Accepted", "the listener is valid")


def _unsupported_tls(gateway: Gateway, listener: GatewayListener) -> Verdict | None:
    if listener.protocol != "HTTPS":
        return None
    if gateway.spec.tls is not None and gateway.spec.tls.frontend is not None:
        # Serving without asking for them would open to everybody what was meant for some.
        return Verdict(FALSE, "UnsupportedValue", "spec.tls.frontend: clients' certificates are not supported")
    mode = listener.tls.mode if listener.tls else None
    if mode not in (None, "", "Terminate"):
        return Verdict(FALSE, "UnsupportedValue", f"tls.mode {quote(mode)} is not supported for HTTPS, use Terminate")
    return None


def _unsupported_routes(listener: GatewayListener) -> Verdict | None:
    allowed = listener.allowed_routes.namespaces if listener.allowed_routes else None
    origin = (allowed.from_ if allowed else None) or "Same"
    if origin not in _NAMESPACES:
        message = f"allowedRoutes.namespaces.from {quote(origin)} is not one of {', '.join(_NAMESPACES)}"
        return Verdict(FALSE, "UnsupportedValue", message)
    if allowed is not None and origin == "Selector" and not is_sound(allowed.selector):
        return Verdict(FALSE, "UnsupportedValue", "allowedRoutes.namespaces.selector is no sound selector")
    return None


def _programmed(conditions: Mapping[str, Verdict], listener: GatewayListener, found: Sequence[ObjectKey]) -> Verdict:
    if not conditions[ACCEPTED].holds:
        return Verdict(FALSE, "Invalid", "the listener is not accepted")
    if listener.protocol == "HTTPS" and not found:
        return Verdict(FALSE, "Invalid", "the listener has no certificate to show")
    return Verdict(TRUE, "Programmed", "the listener is part of the configuration")


def _kinds(listener: GatewayListener) -> tuple[tuple[str, ...], Verdict | None]:
    """Return the kinds of routes that a listener takes, and what is wrong with those it names."""
    if listener.protocol not in _PROTOCOLS:
        return (), None
    named = (listener.allowed_routes.kinds if listener.allowed_routes else None) or ()
    if not named:
        return (ROUTE_KIND,), None
    unknown = [f"{kind.group}/{kind.kind}" for kind in named if (kind.group, kind.kind) != (GROUP, ROUTE_KIND)]
    kinds = (ROUTE_KIND,) if len(unknown) < len(named) else ()
    if not unknown:
        return kinds, None
    message = f"routes of kind {', '.join(map(quote, unknown))} cannot attach, only {GROUP}/{ROUTE_KIND}"
    return kinds, Verdict(FALSE, "InvalidRouteKinds", message)


def _conflicts(listeners: Sequence[GatewayListener], patterns: Mapping[int, HostPattern | None]) -> dict[int, Verdict]:
    """Return which listeners contradict another one of the same Gateway: none of them is served."""
    found: dict[int, Verdict] = {}
    usable = [index for index, listener in enumerate(listeners) if listener.protocol in _PROTOCOLS]
    for index in usable:
        mine = listeners[index]
        others = [other for other in usable if other != index and listeners[other].port == mine.port]
        protocols = [listeners[other].name for other in others if listeners[other].protocol != mine.protocol]
        hosts = [
            listeners[other].name
            for other in others
            if listeners[other].protocol == mine.protocol and patterns[other] == patterns[index] is not None
        ]
        if protocols:
            message = f"port {mine.port} is wanted for another protocol by listener {', '.join(map(quote, protocols))}"
            found[index] = Verdict(TRUE, "ProtocolConflict", message)
        elif hosts:
            message = f"port and hostname are those of listener {', '.join(map(quote, hosts))}, too"
            found[index] = Verdict(TRUE, "HostnameConflict", message)
    return found


def _overlapping(
    listeners: Sequence[GatewayListener], patterns: Mapping[int, HostPattern | None], conflicts: Mapping[int, Verdict]
) -> dict[int, str]:
    """Return which https listeners share a port and some hosts: clients may reuse a connection for the wrong one."""
    found = {}
    https = [
        index for index, listener in enumerate(listeners) if listener.protocol == "HTTPS" and index not in conflicts
    ]
    for index in https:
        others = [
            listeners[other].name
            for other in https
            if other != index and listeners[other].port == listeners[index].port and _meet(patterns, index, other)
        ]
        if others:
            found[index] = f"some hosts are those of listener {', '.join(map(quote, others))}, too"
    return found


def _meet(patterns: Mapping[int, HostPattern | None], one: int, other: int) -> bool:
    first, second = patterns[one], patterns[other]
    return first is not None and second is not None and intersection(first, second) is not None


class _Resolver:
    """Follows the references to certificates of one Gateway's listeners."""

    def __init__(self, gateway: Gateway, world: World, grants: Grants, certificates: Certificates) -> None:
        self._key = gateway.metadata.key
        self._world = world
        self._grants = grants
        self._certificates = certificates

    def certificates_of(
        self, listener: GatewayListener
    ) -> tuple[tuple[ObjectKey, ...], frozenset[ObjectKey], Verdict | None]:
        """Return a listener's sound certificates, all Secrets it may name, and what is wrong with its references."""
        if listener.protocol != "HTTPS":
            return (), frozenset(), None
        references = (listener.tls.certificate_refs if listener.tls else None) or ()
        if not references:
            return (), frozenset(), Verdict(FALSE, "InvalidCertificateRef", "tls.certificateRefs names no Secret")
        found: list[ObjectKey] = []
        secrets: set[ObjectKey] = set()
        wrong: list[Unresolved] = []
        for reference in references:
            try:
                target = self._target(reference)
                secrets.add(target)
                found.append(self._certificate(target))
            except Unresolved as error:
                wrong.append(error)
        verdict = Verdict(FALSE, wrong[0].reason, "; ".join(map(str, wrong))) if wrong else None
        return tuple(dict.fromkeys(found)), frozenset(secrets), verdict

    def _target(self, reference: SecretReference) -> ObjectKey:
        if reference.group or reference.kind not in (None, "Secret"):
            name = f"{reference.group}/{reference.kind}" if reference.group else reference.kind
            raise Unresolved("InvalidCertificateRef", f"{quote(str(name))} holds no certificate; refer to a Secret")
        target = ObjectKey(reference.namespace or self._key.namespace, reference.name)
        if not self._grants.allow(Referrer(KIND, self._key.namespace), "Secret", target):
            raise Unresolved("RefNotPermitted", f"no ReferenceGrant lets {KIND}s here refer to Secret {target}")
        return target

    def _certificate(self, target: ObjectKey) -> ObjectKey:
        try:
            return self._certificates.get(self._world.secrets, target).key
        except BadCertificate as error:
            raise Unresolved("InvalidCertificateRef", str(error)) from error


def served_ports(judged: Sequence[Judged]) -> Iterator[int]:
    """Yield the ports of the listeners that are served, each once."""
    yield from sorted({one.listener.port for one in judged if one.served})
