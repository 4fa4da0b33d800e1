"""From an HTTP plan to HAProxy's configuration."""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from kproxy.api.types import ObjectKey
from kproxy.ingress.haproxy.compile import certificates, frontends
from kproxy.ingress.haproxy.compile.conditions import Expression
from kproxy.ingress.haproxy.compile.slots import ATTEMPTS, backend_slot, redirects
from kproxy.ingress.haproxy.compile.tables import Hosts, Routes, Table, patterns, table
from kproxy.ingress.haproxy.compile.words import Words
from kproxy.ingress.haproxy.settings import EngineSettings
from kproxy.ingress.haproxy.text import model
from kproxy.ingress.haproxy.text.counts import BUCKETS
from kproxy.ingress.haproxy.text.model import NOTHING, Configuration, Memory
from kproxy.ingress.plan.action import BackendKey, Rule, RuleKey, WeightedBackend
from kproxy.ingress.plan.matching import HostPattern
from kproxy.ingress.plan.model import Bind, Frontend, Plan, Protocol

_OWN_PORT = {Protocol.HTTP: 80, Protocol.HTTPS: 443}


class LeftOut(msgspec.Struct, frozen=True):
    """What of a plan is not to be translated, because HAProxy refused it."""

    rules: frozenset[RuleKey] = frozenset()
    certificates: frozenset[ObjectKey] = frozenset()
    binds: frozenset[Bind] = frozenset()


NOTHING_LEFT_OUT = LeftOut()


def compile_plan(
    plan: Plan, settings: EngineSettings, before: Memory = NOTHING, without: LeftOut = NOTHING_LEFT_OUT
) -> Configuration:
    """Return the configuration of a plan, as near as can be to the one that has left ``before`` behind."""
    return _Compilation(plan, settings, before, without, {}).configuration()


class _Last(msgspec.Struct, frozen=True):
    plan: Plan
    settings: EngineSettings
    without: LeftOut
    configuration: Configuration
    uses: Mapping[BackendKey, Sequence[tuple[str, Rule, WeightedBackend]]]
    """The slots of each backend."""


class Compiler:
    """Compiles one plan after another, and remembers what has not changed in between."""

    def __init__(self) -> None:
        self._last: _Last | None = None
        self._tables: dict[Routes, Table] = {}

    def compile(self, plan: Plan, settings: EngineSettings, before: Memory, without: LeftOut) -> Configuration:
        """Return the same as `compile_plan`."""
        last = self._last
        if last is not None and _differs_in_backends_only(last, plan, settings, before, without):
            configuration, uses = _with_backends(last, plan, settings), last.uses
        else:
            compilation = _Compilation(plan, settings, before, without, self._tables)
            configuration, uses = compilation.configuration(), compilation.uses()
            self._tables = compilation.known_tables
        self._last = _Last(plan, settings, without, configuration, uses)
        return configuration


def _differs_in_backends_only(
    last: _Last, plan: Plan, settings: EngineSettings, before: Memory, without: LeftOut
) -> bool:
    return (
        plan.frontends is last.plan.frontends
        and plan.rules is last.plan.rules
        and plan.certificates is last.plan.certificates
        and plan.backends.keys() == last.plan.backends.keys()
        and (settings, without, before) == (last.settings, last.without, last.configuration.memory)
    )


def _with_backends(last: _Last, plan: Plan, settings: EngineSettings) -> Configuration:
    """Return the last configuration with other backends: what changes most often, and least."""
    fresh = {
        name: backend_slot(rule, choice, backend, settings)
        for key, backend in plan.backends.items()
        if backend is not last.plan.backends[key]
        for name, rule, choice in last.uses.get(key, ())
    }
    return msgspec.structs.replace(last.configuration, slots={**last.configuration.slots, **fresh})


class _Compilation:
    """Gathers what the sections need to know of each other."""

    def __init__(
        self, plan: Plan, settings: EngineSettings, before: Memory, without: LeftOut, known: Mapping[Routes, Table]
    ) -> None:
        """``known`` are tables that have been made before."""
        self._settings = settings
        self._without = without
        self._words = Words(plan, settings, before, without.rules)
        self._certificates = {key: one for key, one in plan.certificates.items() if key not in without.certificates}
        self._frontends = [one for one in plan.frontends if self._binds(one)]
        self._before = known
        self.known_tables: dict[Routes, Table] = {}
        self._hosts: dict[str, dict[HostPattern, str]] = {}
        same: dict[tuple[tuple[HostPattern, int], ...], dict[HostPattern, str]] = {}
        for frontend in self._frontends:
            # HTTP mostly has the very hosts that HTTPS has.
            behind = tuple((listener.pattern, id(listener.hosts)) for listener in frontend.listeners)
            if behind not in same:
                hosts = Hosts(frontend)
                same[behind] = {one: self._table_of(hosts, one) for one in patterns(frontend)}
            self._hosts[frontends.name_of(frontend)] = same[behind]
        self._tables = {made.name: made for made in self.known_tables.values()}
        self._features = before.features | self._asked_for(plan)

    def uses(self) -> Mapping[BackendKey, Sequence[tuple[str, Rule, WeightedBackend]]]:
        """Return the slots of each backend."""
        return self._words.uses

    def configuration(self) -> Configuration:
        """Put everything together."""
        memory = msgspec.structs.replace(self._words.memory, features=self._features)
        lists = {
            frontends.name_of(one): certificates.crt_list(one.tls, self._certificates)
            for one in self._frontends
            if one.tls is not None
        }
        maps, host_maps = self._maps()
        return Configuration(
            head=tuple(self._head(lists)),
            slots=self._words.slots,
            maps=maps,
            host_maps=tuple(host_maps),
            certificates={certificates.path(key): certificates.pem(one) for key, one in self._certificates.items()},
            crt_lists={f"certs/{name}.list": one.lines for name, one in lists.items()},
            memory=memory,
        )

    def _binds(self, frontend: Frontend) -> Sequence[Bind]:
        return [bind for bind in frontend.binds if bind not in self._without.binds]

    def _table_of(self, hosts: Hosts, pattern: HostPattern) -> str:
        """Return the name of a pattern's table. Many hosts share one."""
        routes = hosts.routes(pattern, self._words.get)
        made = self.known_tables.get(routes)
        if made is None:
            made = self.known_tables[routes] = self._before.get(routes) or table(routes)
        return made.name

    def _asked_for(self, plan: Plan) -> frozenset[str]:
        asked = {one for frontend in self._frontends for one in frontends.features_of(patterns(frontend))}
        if any(made.exact for made in self._tables.values()):
            asked.add(frontends.EXACT_PATHS)
        if any(made.groups for made in self._tables.values()):
            asked.add(frontends.GROUPS)
        if self._words.draws:
            asked.add(frontends.DRAWN)
        if any(map(redirects, plan.rules.values())):
            asked.add(frontends.REDIRECTS)
        return frozenset(asked)

    # --- maps ------------------------------------------------------------------------------------------------------

    def _maps(self) -> tuple[Mapping[str, Mapping[str, str]], list[str]]:
        maps: dict[str, Mapping[str, str]] = dict(self._leaves())
        hosts: list[str] = []
        for frontend in self._frontends:
            name = frontends.name_of(frontend)
            of = frontends.pattern_maps(frontends.host_maps(name), self._hosts[name])
            if _tells_listeners_apart(frontend):
                of |= frontends.pattern_maps(frontends.listener_maps(name), _listeners(frontend))
            maps |= of
            hosts += of
        maps[model.PORTS] = dict(self._ports())
        maps[model.TRUSTED] = dict.fromkeys(self._settings.trusted, "")
        in_use = self._in_use(maps)
        return {name: _words(maps[name]) for name in in_use}, [name for name in hosts if name in in_use]

    def _in_use(self, maps: Collection[str]) -> list[str]:
        """Return the maps that the configuration names; there are no others at the runtime socket."""
        wanted = {
            model.EXACT: frontends.EXACT_PATHS,
            model.CONDITIONS: frontends.GROUPS,
            model.WEIGHTS: frontends.DRAWN,
            model.DRAWS: frontends.DRAWN,
            model.PORTS: frontends.REDIRECTS,
        }

        def in_use(name: str) -> bool:
            if name in wanted:
                return wanted[name] in self._features
            if name == model.TRUSTED:
                return bool(self._settings.trusted)
            ending = name.rpartition("-")[2]
            return ending not in (frontends.ONE, frontends.WILD) or ending in self._features

        return [name for name in maps if in_use(name)]

    def _leaves(self) -> Mapping[str, Mapping[str, str]]:
        exact: dict[str, str] = {}
        prefix: dict[str, str] = {}
        conditions: dict[str, str] = {}
        for name, made in self._tables.items():
            exact |= {f"{name}{path}": word for path, word in made.exact.items()}
            prefix |= {f"{name}{path}/" if path else name: word for path, word in made.prefix.items()}
            for group in made.groups:
                conditions |= dict(group.entries())
        return {
            model.EXACT: exact,
            model.PREFIX: prefix,
            model.CONDITIONS: conditions,
            model.WEIGHTS: self._words.weights,
            model.DRAWS: self._words.draws,
        }

    def _ports(self) -> Mapping[str, str]:
        """Return what stands behind the host in a URL of each scheme, where it is not the scheme's own."""
        return {
            f"{frontends.name_of(frontend)}/{protocol.value}": f":{frontend.port}"
            for frontend in self._frontends
            for protocol in Protocol
            if frontend.port != _OWN_PORT[protocol]
        }

    # --- sections --------------------------------------------------------------------------------------------------

    def _head(self, lists: Mapping[str, certificates.CrtList]) -> list[str]:
        expressions: dict[Expression, list[str]] = {}
        for made in self._tables.values():
            for group in made.groups:
                for expression in group.expressions():
                    names = expressions.setdefault(expression, [])
                    if group.name not in names:
                        names.append(group.name)
        speaker = frontends.Speaker(
            self._settings, self._features, {key: sorted(one) for key, one in expressions.items()}
        )
        lines = [*_general(self._settings), *_defaults(self._settings), *_answers(self._settings)]
        for frontend in self._frontends:
            found = lists.get(frontends.name_of(frontend))
            lines += speaker.section(frontend, self._binds(frontend), strict_sni=found is not None and found.strict)
        return lines


def _words(entries: Mapping[str, str]) -> Mapping[str, str]:
    """Return the entries whose keys are one word: hosts and paths of requests have no white space in them."""
    return {key: value for key, value in entries.items() if key.split() == [key]}


def _tells_listeners_apart(frontend: Frontend) -> bool:
    return frontend.protocol is Protocol.HTTPS and len(frontend.listeners) > 1


def _listeners(frontend: Frontend) -> dict[HostPattern, str]:
    """Return the number of the listener of each pattern that has one."""
    hosts = Hosts(frontend)
    found = {pattern: hosts.listener(pattern) for pattern in patterns(frontend)}
    return {
        pattern: f"l{frontend.listeners.index(listener)}" for pattern, listener in found.items() if listener is not None
    }


def _general(settings: EngineSettings) -> list[str]:
    lines = [
        "default-path config",
        f"stats socket {settings.state_dir}/worker.sock mode 600 level admin expose-fd listeners",
        "stats timeout 1h",
        f"hard-stop-after {settings.drain_timeout}ms",
        "fd-hard-limit 1048576",  # HAProxy makes room for as many as it may open, and some machines allow a billion
        "ssl-default-bind-options ssl-min-ver TLSv1.2",
        "tune.ssl.default-dh-param 2048",
        "tune.pattern.cache-size 0",  # it costs more than it saves where trees answer
    ]
    if settings.access_log:
        lines.append("log stdout format raw local0 info")
    if settings.threads is not None:
        lines.append(f"nbthread {settings.threads}")
    return ["global", *(f"    {line}" for line in lines)]


def _defaults(settings: EngineSettings) -> list[str]:
    lines = [
        "mode http",
        "balance roundrobin",
        "option redispatch 1",
        f"retries {ATTEMPTS - 1}",
        "option http-no-delay",
        # After a reload, connections move over one by one, each with the answer to its next request. To close idle ones
        # at once would meet requests that are on their way.
        "option idle-close-on-response",
        f"timeout client {settings.client_timeout}ms",
        f"timeout server {settings.server_timeout}ms",
        f"timeout connect {settings.connect_timeout}ms",
        f"timeout tunnel {settings.tunnel_timeout}ms",
        "timeout http-request 30s",
        "timeout http-keep-alive 75s",
    ]
    return ["defaults", *(f"    {line}" for line in lines)]


def _answers(settings: EngineSettings) -> list[str]:
    lines = [
        f"backend {model.NO_ROUTE}",
        '    http-request return status 404 content-type text/plain string "no route for this host and path\\n"',
        f"backend {model.NO_BACKEND}",
        '    http-request return status 500 content-type text/plain string "no valid backend for this route\\n"',
    ]
    if settings.histogram:
        buckets = len(BUCKETS) + 1
        lines += ["backend latency", f"    stick-table type string len 20 size 100k store gpc({buckets})"]
    if settings.exporter:
        lines += [
            f"frontend {model.EXPORTER}",
            f"    bind unix@{settings.state_dir}/{model.EXPORTER_SOCKET} mode 600",
            "    http-request use-service prometheus-exporter",
        ]
    return lines
