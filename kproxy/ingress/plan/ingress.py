"""Ingresses → doors, entries and rules. Source: networking/v1 and the Ingress page of the Kubernetes documentation.

All Ingresses of our classes together are one listener for any host, at the ports for clear text and for TLS. Several
that name the same host are put together; where they want the same path of it, the oldest gets it. What the API leaves
open is decided so:

* A rule without a host is for all hosts, also those that other rules name: it takes what their paths do not want.
* A default backend takes, of the hosts that its own Ingress names, every path that no rule of the host wants; of all
  other hosts what no rule at all wants. There the oldest of several default backends gets it.
* ImplementationSpecific is Prefix. A TLS entry without hosts is for the hosts of its Ingress' rules.
* A path whose backend leads nowhere is not left out, lest its requests go to somebody else's broader path: they are
  answered 503.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from kproxy.api.types import ObjectKey, Problem
from kproxy.ingress.api.networking import HTTPIngressPath, Ingress, IngressBackend, IngressClass
from kproxy.ingress.plan import grammar
from kproxy.ingress.plan.action import BackendKey, Rule, RuleKey, WeightedBackend
from kproxy.ingress.plan.assemble import Door, Shadowed
from kproxy.ingress.plan.certificates import BadCertificate, Certificates
from kproxy.ingress.plan.grammar import NotUsable
from kproxy.ingress.plan.matching import ANY_HOST, ANY_PATH, HostKind, HostPattern, Match, PathKind, PathMatch
from kproxy.ingress.plan.model import ListenerKey, Protocol, ServerName
from kproxy.ingress.plan.precedence import Entry, Seniority
from kproxy.ingress.plan.services import Unresolved, resolve
from kproxy.ingress.plan.settings import PlanSettings
from kproxy.ingress.plan.world import World
from kproxy.state.findings import Findings, is_label
from kproxy.wording import quote, shown

KIND = "Ingress"
LISTENER = ListenerKey(KIND)
DEFAULT_BACKEND = -1
"""The number of the rule that an Ingress' default backend is."""

_PATH_KINDS = {"Exact": PathKind.EXACT, "Prefix": PathKind.PREFIX, "ImplementationSpecific": PathKind.PREFIX}
_OLDEST = Seniority("", KIND, "", "")


class _Place(NamedTuple):
    """A path of a host, and the reference to its backend, not resolved yet."""

    entry: Entry
    backend: IngressBackend
    field: str


class Reading(NamedTuple):
    """What one Ingress says, as far as it can be told from itself alone."""

    places: tuple[_Place, ...] = ()
    certificates: tuple[tuple[HostPattern, ObjectKey, str], ...] = ()
    """For which host which Secret is named, and in which field."""
    problems: tuple[Problem, ...] = ()


class Ingresses(NamedTuple):
    """What all Ingresses together come to."""

    doors: tuple[Door, ...]
    rules: Mapping[RuleKey, Rule]
    problems: tuple[Problem, ...]
    served: frozenset[ObjectKey]
    services: frozenset[ObjectKey]
    """All Services named, whether there are such or not."""
    secrets: frozenset[ObjectKey]
    """All Secrets named, likewise."""


class IngressReader:
    """Reads all Ingresses of a world; what an Ingress says by itself is read once."""

    def __init__(self, settings: PlanSettings) -> None:
        self._settings = settings
        self._readings: dict[ObjectKey, tuple[Ingress, Reading]] = {}

    def read(self, world: World, certificates: Certificates) -> Ingresses:
        """Return what the Ingresses of our classes come to."""
        ours = [
            ingress for ingress in world.ingresses.values() if is_ours(ingress, world.ingress_classes, self._settings)
        ]
        ours.sort(key=lambda ingress: ingress.metadata.age_key)
        readings = [self._reading(ingress) for ingress in ours]
        self._readings = {ingress.metadata.key: self._readings[ingress.metadata.key] for ingress in ours}
        problems = [problem for reading in readings for problem in reading.problems]
        rules = dict(_rules(world, (place for reading in readings for place in reading.places), problems))
        names = _server_names(world, certificates, ours, readings, problems)
        entries = tuple(place.entry for reading in readings for place in reading.places)
        return Ingresses(
            doors=tuple(self._doors(entries, names, self._fallback(world, certificates, problems))),
            rules=rules,
            problems=tuple(problems),
            served=frozenset(ingress.metadata.key for ingress in ours),
            services=frozenset(
                ObjectKey(place.entry.rule.namespace, place.backend.service.name)
                for reading in readings
                for place in reading.places
                if place.backend.service is not None
            ),
            secrets=frozenset(self._secrets(readings)),
        )

    def _reading(self, ingress: Ingress) -> Reading:
        key = ingress.metadata.key
        held = self._readings.get(key)
        if held is None or held[0] is not ingress:
            held = self._readings[key] = (ingress, read_ingress(ingress))
        return held[1]

    def _doors(
        self, entries: tuple[Entry, ...], names: tuple[ServerName, ...], fallback: ObjectKey | None
    ) -> Iterator[Door]:
        for protocol, binds in (
            (Protocol.HTTP, self._settings.http_binds),
            (Protocol.HTTPS, self._settings.https_binds),
        ):
            for port in sorted({bind.port for bind in binds}):
                yield Door(
                    owner=LISTENER,
                    seniority=_OLDEST,
                    binds=tuple(bind for bind in binds if bind.port == port),
                    port=port,
                    protocol=protocol,
                    pattern=ANY_HOST,
                    entries=entries,
                    names=names if protocol is Protocol.HTTPS else (),
                    fallback=fallback if protocol is Protocol.HTTPS else None,
                )

    def _fallback(self, world: World, certificates: Certificates, problems: list[Problem]) -> ObjectKey | None:
        key = self._settings.default_certificate
        if key is None:
            return None
        try:
            return certificates.get(world.secrets, key).key
        except BadCertificate as error:
            problems.append(Problem("Secret", key, "data", f"{error}; there is no certificate to fall back to"))
            return None

    def _secrets(self, readings: Iterable[Reading]) -> Iterator[ObjectKey]:
        if self._settings.default_certificate is not None:
            yield self._settings.default_certificate
        for reading in readings:
            for _, key, _ in reading.certificates:
                yield key


def is_ours(ingress: Ingress, classes: Mapping[ObjectKey, IngressClass], settings: PlanSettings) -> bool:
    """Tell whether an Ingress is of a class of ours: by annotation, by name, or by default."""
    annotations = ingress.metadata.annotations
    if annotations is not None and annotations.ingress_class:
        return annotations.ingress_class == settings.ingress_class
    name = ingress.spec.ingress_class_name
    if name:
        known = classes.get(ObjectKey("", name))
        if known is None:
            return name == settings.ingress_class
        return known.spec.controller == settings.ingress_controller
    return settings.without_class or any(_is_default(known, settings) for known in classes.values())


def _is_default(known: IngressClass, settings: PlanSettings) -> bool:
    annotations = known.metadata.annotations
    marked = annotations is not None and annotations.default_class == "true"
    return marked and known.spec.controller == settings.ingress_controller


def read_ingress(ingress: Ingress) -> Reading:
    """Return what an Ingress says, and what of it makes no sense."""
    key = ingress.metadata.key
    findings = Findings(KIND, key)
    if not (is_label(key.namespace) and grammar.is_name(key.name)):
        findings.add("metadata", f"{quote(str(key))} is no valid name; the Ingress is ignored")
        return Reading(problems=tuple(findings.problems))
    places = list(_places(ingress, findings))
    hosts = tuple(dict.fromkeys(place.entry.host for place in places))
    places += _default_places(ingress, hosts)
    return Reading(tuple(places), tuple(_certificates(ingress, hosts, findings)), tuple(findings.problems))


def _places(ingress: Ingress, findings: Findings) -> Iterator[_Place]:
    """Yield the paths of an Ingress. They are counted across its rules, usable or not, so that numbers stay."""
    key = ingress.metadata.key
    number = 0
    for rule_index, rule in enumerate(ingress.spec.rules or ()):
        paths = (rule.http.paths if rule.http else None) or ()
        field = f"spec.rules[{rule_index}]"
        try:
            pattern = grammar.host(rule.host or "", HostKind.WILDCARD_ONE)
        except NotUsable as error:
            findings.add(f"{field}.host", f"{error}; the rule is left out")
            number += len(paths)
            continue
        for path_index, path in enumerate(paths):
            where = f"{field}.http.paths[{path_index}]"
            match = _match(path, where, findings)
            if match is not None:
                rule_key = RuleKey(KIND, key.namespace, key.name, number)
                entry = Entry(pattern, match, rule_key, _seniority(ingress, number))
                yield _Place(entry, path.backend or IngressBackend(), f"{where}.backend")
            number += 1


def _default_places(ingress: Ingress, hosts: Sequence[HostPattern]) -> Iterator[_Place]:
    if ingress.spec.default_backend is None:
        return
    key = RuleKey(KIND, ingress.metadata.namespace, ingress.metadata.name, DEFAULT_BACKEND)
    for pattern in dict.fromkeys((*hosts, ANY_HOST)):
        entry = Entry(pattern, Match(path=ANY_PATH), key, _seniority(ingress, DEFAULT_BACKEND), is_default=True)
        yield _Place(entry, ingress.spec.default_backend, "spec.defaultBackend")


def _seniority(ingress: Ingress, number: int) -> Seniority:
    created, namespace, name = ingress.metadata.age_key
    return Seniority(created, KIND, namespace, name, number)


def _match(path: HTTPIngressPath, field: str, findings: Findings) -> Match | None:
    path_type = path.path_type or "ImplementationSpecific"
    kind = _PATH_KINDS.get(path_type)
    if kind is None:
        findings.add(f"{field}.pathType", f"{quote(path_type)} is not one of {', '.join(_PATH_KINDS)}; it is left out")
        return None
    try:
        text = path.path or "/"
        value = grammar.path(text) if kind is PathKind.EXACT else grammar.prefix(text)
    except NotUsable as error:
        hint = "; for regular expressions use an HTTPRoute" if path_type == "ImplementationSpecific" else ""
        findings.add(f"{field}.path", f"{error}; the path is left out{hint}")
        return None
    if path_type == "ImplementationSpecific" and any(char in value for char in "(*$"):
        findings.add(f"{field}.path", f"{quote(text)} is taken literally; for regular expressions use an HTTPRoute")
    return Match(path=PathMatch(kind, value))


def _certificates(
    ingress: Ingress, rule_hosts: Sequence[HostPattern], findings: Findings
) -> Iterator[tuple[HostPattern, ObjectKey, str]]:
    for index, tls in enumerate(ingress.spec.tls or ()):
        field = f"spec.tls[{index}]"
        if not tls.secret_name:
            continue  # the fallback certificate is meant
        if not grammar.is_name(tls.secret_name):
            findings.add(f"{field}.secretName", f"{quote(tls.secret_name)} is no valid name; the entry is left out")
            continue
        secret = ObjectKey(ingress.metadata.namespace, tls.secret_name)
        for host_index, text in enumerate(tls.hosts or ()):
            try:
                yield grammar.host(text, HostKind.WILDCARD_ONE), secret, f"{field}.secretName"
            except NotUsable as error:
                findings.add(f"{field}.hosts[{host_index}]", f"{error}; it is left out")
        if not tls.hosts:
            for pattern in rule_hosts:
                yield pattern, secret, f"{field}.secretName"


def _rules(world: World, places: Iterable[_Place], problems: list[Problem]) -> Iterator[tuple[RuleKey, Rule]]:
    seen: set[RuleKey] = set()
    for place in places:
        key = place.entry.rule
        if key not in seen:
            seen.add(key)
            yield key, Rule(key=key, backends=(_backend(world, place, problems),))


def _backend(world: World, place: _Place, problems: list[Problem]) -> WeightedBackend:
    """Resolve a backend. One that leads nowhere is a backend without endpoints, which is answered with 503."""
    key = ObjectKey(place.entry.rule.namespace, place.entry.rule.name)
    service = place.backend.service
    if service is None or service.port is None or not is_label(service.name):
        reason = _why_no_service(place.backend)
        problems.append(Problem(KIND, key, place.field, f"{reason}; its requests are answered with 500"))
        return WeightedBackend(backend=None)
    target = ObjectKey(key.namespace, service.name)
    try:
        number = None if service.port.name else service.port.number or 0
        return WeightedBackend(backend=resolve(world.services, target, number=number, name=service.port.name or None))
    except Unresolved as error:
        problems.append(Problem(KIND, key, place.field, f"{error}; its requests are answered with 503"))
        return WeightedBackend(backend=BackendKey(target.namespace, target.name, service.port.number or 0))


def _why_no_service(backend: IngressBackend) -> str:
    if backend.resource is not None:
        return f"a {shown(backend.resource.kind)} cannot be a backend; name a Service"
    if backend.service is None:
        return "missing; name a Service and one of its ports"
    if not is_label(backend.service.name):
        return f"{quote(backend.service.name)} is no valid name of a Service"
    return "the Service's port is missing"


def _server_names(
    world: World,
    certificates: Certificates,
    ingresses: Sequence[Ingress],
    readings: Sequence[Reading],
    problems: list[Problem],
) -> tuple[ServerName, ...]:
    """Return which certificate is for which host: the oldest Ingress' that names a sound one."""
    names: dict[HostPattern, ObjectKey] = {}
    for ingress, reading in zip(ingresses, readings, strict=True):
        told: set[tuple[ObjectKey, str]] = set()
        for pattern, secret, field in reading.certificates:
            try:
                names.setdefault(pattern, certificates.get(world.secrets, secret).key)
            except BadCertificate as error:
                if (secret, field) not in told:
                    problems.append(Problem(KIND, ingress.metadata.key, field, str(error)))
                told.add((secret, field))
    return tuple(ServerName(pattern, (secret,)) for pattern, secret in names.items())


def shadow_problems(shadowed: Iterable[Shadowed]) -> Iterator[Problem]:
    """Say which paths of Ingresses get no requests because an older object has the same."""
    for entry, by in shadowed:
        if entry.rule.kind == KIND and not entry.is_default:
            key = ObjectKey(entry.rule.namespace, entry.rule.name)
            path = entry.match.path
            reason = f"{entry.host} {path.kind.value} {quote(path.value or '/')} is already {by}'s, which goes first"
            yield Problem(KIND, key, f"path {entry.rule.rule}", reason)
