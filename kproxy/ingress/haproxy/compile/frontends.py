"""Spells frontends: how a request's host and path lead to a word, and the word to a slot.

Every rule costs each request a fraction of a microsecond, so that rules for wildcards, exact paths, groups and draws
stand here only once something in the plan has asked for them (`kproxy.ingress.haproxy.text.model.Memory.features`).
"""

from collections.abc import Iterator, Mapping, Sequence, Set

from kproxy.ingress.haproxy.compile.conditions import KEY, Expression, digest
from kproxy.ingress.haproxy.settings import EngineSettings
from kproxy.ingress.haproxy.text.counts import BUCKETS, BUSY, SAMPLE, SAMPLED
from kproxy.ingress.haproxy.text.model import NO_ROUTE
from kproxy.ingress.plan.matching import HostKind, HostPattern
from kproxy.ingress.plan.model import Bind, Frontend, Protocol

ANY_KEY = "*"
_IPV6 = "2000::/3 4000::/2 8000::/1 ::1"
"""All addresses that no IPv4 address is a part of."""
SET_HOST = "http-request set-var(txn.host) req.hdr(host),host_only,lower,rtrim(.)"
"""The host of a request, as maps have it."""
ONE, WILD, EXACT_PATHS, GROUPS, DRAWN, REDIRECTS = "one", "wild", "exact", "groups", "draws", "redirects"


def name_of(frontend: Frontend) -> str:
    """Return a name that stays the same while the binds do."""
    return f"f{frontend.port}-{digest(*map(str, frontend.binds))[:6]}"


def host_maps(name: str) -> tuple[str, str, str]:
    """Return the maps for hosts as they are, for wildcards of one label, and for wildcards."""
    return f"{name}-hosts", f"{name}-one", f"{name}-wild"


def listener_maps(name: str) -> tuple[str, str, str]:
    """Return the maps that say which listener a host belongs to."""
    return f"{name}-listeners", f"{name}-listeners-one", f"{name}-listeners-wild"


def pattern_maps(maps: tuple[str, str, str], values: Mapping[HostPattern, str]) -> dict[str, dict[str, str]]:
    """Return the three maps of some host patterns, given the most specific first."""
    exact, one, wild = maps
    found: dict[str, dict[str, str]] = {exact: {}, one: {}, wild: {}}
    for pattern, value in values.items():
        match pattern.kind:
            case HostKind.EXACT:
                found[exact][pattern.name] = value
            case HostKind.WILDCARD_ONE:
                found[one][f".{pattern.name}"] = value
            case HostKind.WILDCARD:
                found[wild][f".{pattern.name}"] = value
            case HostKind.ANY:
                found[exact][ANY_KEY] = value
    return found


def features_of(patterns: Sequence[HostPattern]) -> Iterator[str]:
    """Yield what a frontend must be able to do for its host patterns."""
    for pattern in patterns:
        if pattern.kind is HostKind.WILDCARD_ONE:
            yield ONE
        elif pattern.kind is HostKind.WILDCARD:
            yield WILD


class Speaker:
    """Spells frontends with what holds for all of them."""

    def __init__(
        self, settings: EngineSettings, features: Set[str], expressions: Mapping[Expression, Sequence[str]]
    ) -> None:
        """``expressions`` come with the groups they are asked for in."""
        self._settings = settings
        self._features = features
        self._expressions = expressions

    def section(self, frontend: Frontend, binds: Sequence[Bind], *, strict_sni: bool) -> list[str]:
        """Return the lines of a frontend."""
        name = name_of(frontend)
        lines = [*self._binds(frontend, binds, name, strict_sni=strict_sni), *self._client(frontend)]
        lines += self._host(frontend, name)
        lines += self._path()
        if self._settings.histogram:
            lines += [*_before_timing(), *_timing()]
        lines += ["use_backend %[var(txn.to)]", f"default_backend {NO_ROUTE}"]
        return [f"frontend {name}", *(f"    {line}" for line in lines)]

    def _binds(self, frontend: Frontend, binds: Sequence[Bind], name: str, *, strict_sni: bool) -> Iterator[str]:
        extra = " accept-proxy" if self._settings.proxy_protocol and not self._settings.trusted else ""
        if frontend.protocol is Protocol.HTTPS:
            extra += f" ssl crt-list certs/{name}.list alpn h2,http/1.1{' strict-sni' if strict_sni else ''}"
        for bind in binds:
            if bind.address:
                yield f"bind {bind.address}:{bind.port}{' v6only' if ':' in bind.address else ''}{extra}"
                continue
            yield f"bind 0.0.0.0:{bind.port}{extra}"
            if self._settings.ipv6:  # a socket of its own: one for both would show IPv4 clients as ::ffff:1.2.3.4
                yield f"bind :::{bind.port} v6only{extra}"

    def _client(self, frontend: Frontend) -> Iterator[str]:
        """Say who the client is; what strangers say of it is worth nothing."""
        settings, stranger = self._settings, ""
        if settings.trusted:
            if settings.proxy_protocol:
                yield "tcp-request connection expect-proxy layer4 if { src -f maps/trusted }"
            stranger = " unless { src -f maps/trusted }"
        if settings.access_log:
            yield "log global"
            yield "option httplog"
        scheme = frontend.protocol.value
        # To write an address takes as long as ten rules do: here it is done once for all requests of a connection.
        yield "tcp-request session set-var-fmt(sess.ip) %[src]"
        yield f'tcp-request session set-var-fmt(sess.for) "for=%[src];proto={scheme}" unless {{ src {_IPV6} }}'
        yield f'tcp-request session set-var-fmt(sess.for) "for=\\"[%[src]]\\";proto={scheme}" if {{ src {_IPV6} }}'
        yield f"http-request del-header x-forwarded- -m beg{stranger}"
        yield f"http-request del-header forwarded{stranger}"
        yield "http-request add-header X-Forwarded-For %[var(sess.ip)]"
        for header, value in (("X-Forwarded-Proto", scheme), ("X-Forwarded-Host", "%[req.hdr(host)]")):
            missing = f"{stranger} or !{{ req.hdr({header}) -m found }}".replace("unless ", "if !") if stranger else ""
            yield f"http-request add-header {header} {value}{missing}"
        yield "http-request add-header Forwarded %[var(sess.for)]"

    def _host(self, frontend: Frontend, name: str) -> Iterator[str]:
        """Set txn.table."""
        several = frontend.protocol is Protocol.HTTPS and len(frontend.listeners) > 1
        maps, unknown = host_maps(name), " unless { var(txn.table) -m found }"
        # Nearly all clients write a host as the map has it.
        yield f"http-request set-var(txn.table) req.hdr(host),map_str(maps/{maps[0]})"
        yield f"{SET_HOST}{'' if several else unknown}"
        yield from self._pattern("host", "table", maps, unknown)
        if several:
            yield "http-request set-var(txn.sni) ssl_fc_sni,lower"
            yield from self._pattern("host", "listener", listener_maps(name))
            yield from self._pattern("sni", "shaken", listener_maps(name))
            yield (
                "http-request return status 421 if { var(txn.shaken) -m found } { var(txn.listener) -m found }"
                " !{ var(txn.listener),strcmp(txn.shaken) eq 0 }"
            )

    def _pattern(self, of: str, to: str, maps: tuple[str, str, str], first: str = "") -> Iterator[str]:
        """Set one variable by which host pattern another one matches; ``first`` is the first rule's condition."""
        exact, one, wild = maps
        unless = f" unless {{ var(txn.{to}) -m found }}"
        yield f"http-request set-var(txn.{to}) var(txn.{of}),map_str(maps/{exact}){first}"
        if ONE in self._features:
            yield f"http-request set-var(txn.{to}) var(txn.{of}),regsub(^[^.]+,),map_str(maps/{one}){unless}"
        if WILD in self._features:
            # Suffixes are compared in order, the longest first.
            yield f"http-request set-var(txn.{to}) var(txn.{of}),map_end(maps/{wild}){unless}"
        yield f"http-request set-var(txn.{to}) str({ANY_KEY}),map_str(maps/{exact}){unless}"

    def _path(self) -> Iterator[str]:
        """Set txn.to."""
        yield "http-request set-var(txn.path) path"
        unless = ""
        if EXACT_PATHS in self._features:
            yield "http-request set-var(txn.to) var(txn.table),concat(,txn.path),map_str(maps/exact)"
            unless = " unless { var(txn.to) -m found }"
        # A table's own name is its empty prefix; all others end with a slash, and so does what is looked for.
        yield f"http-request set-var(txn.to) var(txn.table),concat(,txn.path,/),map_beg(maps/prefix){unless}"
        if GROUPS in self._features:
            for expression, groups in sorted(self._expressions.items()):
                yield from expression.lines(groups)
            yield f"http-request set-var-fmt(txn.key) {KEY} if {{ var(txn.to) -m beg g }}"
            yield "http-request set-var(txn.to) var(txn.key),map_reg(maps/conditions) if { var(txn.to) -m beg g }"
        if DRAWN in self._features:
            yield "http-request set-var(txn.weight) var(txn.to),map_str_int(maps/weights) if { var(txn.to) -m beg w }"
            yield "http-request set-var(txn.drawn) rand,mod(txn.weight) if { var(txn.to) -m beg w }"
            yield (
                "http-request set-var(txn.to) var(txn.to),concat(/,txn.drawn),map_str(maps/draws)"
                " if { var(txn.to) -m beg w }"
            )


def _before_timing() -> Iterator[str]:
    """Say whether a request is timed: each one while there are few, else one of `SAMPLE`, and as such it is noted.

    A stick table is the only place where HAProxy keeps a histogram, and takes longer than all the rest of these rules.
    """
    yield f"http-request set-var(txn.timed) var(txn.to),concat({SAMPLED}) if {{ rand({SAMPLE}) eq 0 }}"
    yield f"http-request set-var(txn.timed) var(txn.to) if {{ fe_req_rate lt {BUSY} }}"
    yield "http-request allow unless { var(txn.timed) -m found }"
    yield "http-request track-sc0 var(txn.timed) table latency"
    yield "http-request set-var(txn.came) date(0,us)"


def _timing() -> Iterator[str]:
    yield "http-response allow unless { var(txn.timed) -m found }"
    yield "http-response set-var(txn.took) date(0,us),sub(txn.came)"
    for number, bound in enumerate(BUCKETS):
        within = f"if {{ var(txn.took) -m int le {bound * 1000} }}"
        yield f"http-response sc-inc-gpc({number},0) {within}"
        yield f"http-response allow {within}"
    yield f"http-response sc-inc-gpc({len(BUCKETS)},0)"
