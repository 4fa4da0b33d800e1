"""From a file and flags to one `Config`: read, merge, check.

Flags win over the file. (In kube-proxy most flags are ignored as soon as there is a file, which its users learn the
hard way.) All mistakes are reported together.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
import yaml

from kproxy.api.yamlreader import UnreadableError
from kproxy.config import validate
from kproxy.config.decode import Decoder, compose, concerns, fields_of
from kproxy.config.errors import ConfigError
from kproxy.config.model import Config, Options, default_bind_address
from kproxy.config.schema import (
    DOCUMENTS,
    HEALTHZ_PORT,
    METRICS_PORT,
    KproxyConfiguration,
    KubeProxyConfiguration,
    ProxyMode,
    Section,
)
from kproxy.config.values import parse_cidr, split_list, with_port
from kproxy.plan.settings import PRIMARY
from kproxy.state.model import LoadBalancing
from kproxy.wording import quote

S = TypeVar("S", bound=Section)
MAX_BYTES = 1 << 20


class Draft(msgspec.Struct, frozen=True):
    """A configuration on its way: nothing checked yet. ``origins`` says where fields were set, by path."""

    proxy: KubeProxyConfiguration = KubeProxyConfiguration()
    kproxy: KproxyConfiguration = KproxyConfiguration()
    options: Options = Options()
    origins: Mapping[str, str] = msgspec.field(default_factory=dict)
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def with_warnings(self, lines: Iterable[str]) -> Self:
        """Return the draft with more to warn about."""
        return msgspec.structs.replace(self, warnings=(*self.warnings, *lines))


def read_config_file(path: str) -> Config:
    """Read a configuration file, without any flags.

    Raises ConfigError.
    """
    return finish(draft_file(path))


def parse_config(text: str, file: str = "<config>") -> Config:
    """Read a configuration from text; ``file`` is what messages call it.

    Raises ConfigError.
    """
    return finish(draft_text(text, file))


def draft_file(path: str) -> Draft:
    """Read a file without checking what it says.

    Raises ConfigError where it can't be read at all.
    """
    try:
        data = Path(path).read_bytes()
        if len(data) > MAX_BYTES:
            raise ConfigError([f"{path}: larger than 1 MiB; that is no configuration file"])
        return draft_text(data.decode(), path)
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}; check --config"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 text, at byte {error.start}"]) from None


_OWN_GROUP = "kproxy.dev/"
_LEFT = "left aside: kube-proxy reads a file's first document only, and kproxy that and a KproxyConfiguration"


def draft_text(text: str, file: str) -> Draft:
    """Decode the documents of a file: what kube-proxy reads, the first, and what only kproxy knows.

    Raises ConfigError where it is no YAML.
    """
    draft = Draft()
    seen: set[type[Section]] = set()
    try:
        for node in compose(text):
            decoder = Decoder(file)
            if seen and not concerns(node, DOCUMENTS):
                draft = draft.with_warnings([f"{decoder.where(node)}: {_LEFT}"])
                continue
            draft = _with_document(draft, decoder, node, seen)
    except UnreadableError as error:
        place = file if error.line is None else f"{file}:{error.line}"
        if not seen or _OWN_GROUP in text:
            raise ConfigError([f"{place}: {error.reason}"]) from None
        draft = draft.with_warnings([f"{place}: {error.reason}; {_LEFT}"])
    if not seen and not draft.errors:
        raise ConfigError([f"{file}: is empty; it should hold a {' or a '.join(kind for _, kind in DOCUMENTS)}"])
    return draft


def _with_document(draft: Draft, decoder: Decoder, node: yaml.Node, seen: set[type[Section]]) -> Draft:
    """Add what one document says."""
    try:
        kind = decoder.document_kind(node, DOCUMENTS)
        if kind in seen:
            raise ValueError(f"a second {kind.__name__}; put everything into one")
        seen.add(kind)
        section: Section = decoder.section(node, kind, skip=("apiVersion", "kind"))
    except ValueError as error:
        return msgspec.structs.replace(draft, errors=(*draft.errors, f"{decoder.where(node)}: {error}"))
    errors, warnings = decoder.errors, []
    if isinstance(section, KproxyConfiguration):
        draft = msgspec.structs.replace(draft, kproxy=section)
        errors = errors + decoder.unknown
    elif isinstance(section, KubeProxyConfiguration):
        # kube-proxy only logs fields it doesn't know: a ConfigMap for a newer version must not take all services down.
        draft = msgspec.structs.replace(draft, proxy=section)
        warnings = [f"{line} (ignored)" for line in decoder.unknown]
    return msgspec.structs.replace(
        draft,
        origins={**draft.origins, **decoder.origins},
        errors=(*draft.errors, *errors),
        warnings=(*draft.warnings, *warnings),
    )


ROOTS: tuple[type[Section], ...] = (KubeProxyConfiguration, KproxyConfiguration, Options)
"""The sections a field path can start in; no two have a field of the same name."""


def field_type(path: str) -> Any:
    """Return the type of the field at a dotted path such as ``iptables.masqueradeBit``."""
    head, *rest = path.split(".")
    kind: Any = next(fields_of(root)[head].type for root in ROOTS if head in fields_of(root))
    for name in rest:
        kind = fields_of(kind)[name].type
    return kind


def field_value(config: Config, path: str) -> Any:
    """Return the value of the field at a dotted path."""
    names = path.split(".")
    roots: tuple[Section, ...] = (config.proxy, config.kproxy, config.options)
    value: Any = next(root for root in roots if names[0] in fields_of(type(root)))
    for name in names:
        kind: type[Section] = type(value)
        value = getattr(value, fields_of(kind)[name].attribute)
    return value


def with_field(draft: Draft, path: str, value: object, origin: str) -> Draft:
    """Set one field, as a flag does; None leaves it as it is."""
    if value is None:
        return draft
    names = path.split(".")
    for attribute in ("proxy", "kproxy", "options"):
        root = getattr(draft, attribute)
        kind: type[Section] = type(root)
        if names[0] in fields_of(kind):
            changed = {attribute: _replace(root, names, value)}
            origins = {at: place for at, place in draft.origins.items() if not at.startswith((f"{path}[", f"{path}."))}
            return msgspec.structs.replace(draft, origins={**origins, path: origin}, **changed)
    raise KeyError(path)


def _replace(section: S, names: list[str], value: object) -> S:
    attribute = fields_of(type(section))[names[0]].attribute
    if len(names) > 1:
        value = _replace(getattr(section, attribute), names[1:], value)
    return msgspec.structs.replace(section, **{attribute: value})


def finish(draft: Draft) -> Config:
    """Check a draft and make it the configuration.

    Raises ConfigError with everything that is wrong.
    """
    errors = [*draft.errors]
    if not draft.errors:  # what could not be read has its default now: no use in judging that
        errors += _lines(draft, validate.errors(draft.proxy, draft.kproxy, draft.options))
    if errors:
        raise ConfigError(errors)
    draft = _without_ipvs(draft)
    return Config(
        proxy=_canonical(draft.proxy, draft.options),
        kproxy=draft.kproxy,
        options=draft.options,
        warnings=(*draft.warnings, *_lines(draft, validate.warnings(draft.proxy))),
    )


def _without_ipvs(draft: Draft) -> Draft:
    """Take mode ipvs, which kproxy does not have, for mode auto, and its scheduler for what comes nearest to it."""
    if draft.proxy.mode is not ProxyMode.IPVS:
        return draft
    lines = _lines(draft, [("mode", "kproxy has no mode ipvs; taken as auto")])
    scheduler = draft.proxy.ipvs.scheduler
    proxy = msgspec.structs.replace(
        draft.proxy, mode=ProxyMode.AUTO, ipvs=msgspec.structs.replace(draft.proxy.ipvs, scheduler="")
    )
    if scheduler not in ("", "rr"):
        lines += _lines(draft, [("ipvs.scheduler", f"kproxy has none called {quote(scheduler)}; {_SPREAD}")])
    elif _LOAD_BALANCING not in draft.origins:  # ipvs takes endpoints in turn, unless it is told otherwise
        draft = with_field(draft, _LOAD_BALANCING, LoadBalancing.ROUND_ROBIN, "mode ipvs")
    return msgspec.structs.replace(draft, proxy=proxy).with_warnings(lines)


_LOAD_BALANCING = "loadBalancing"
_SPREAD = "each new connection goes to an endpoint at random"


def _lines(draft: Draft, findings: Iterable[validate.Finding]) -> list[str]:
    return [f"{_origin(draft.origins, path)}{path}: {text}" for path, text in findings]


def _origin(origins: Mapping[str, str], path: str) -> str:
    """Return where a field, or else the nearest one above it, was set, ready to be put before its path."""
    while path:
        if path in origins:
            return f"{origins[path]}: "
        path = path.rpartition("[" if path.endswith("]") else ".")[0]
    return ""


def _canonical(proxy: KubeProxyConfiguration, options: Options) -> KubeProxyConfiguration:
    """Fill in what depends on other fields, and give all values the one spelling the rest of kproxy relies on."""

    def bind(address: str, standard: int, port: int) -> str:
        host, _, _ = default_bind_address(proxy.bind_address, standard).rpartition(":")
        return with_port(address or host, port)

    return msgspec.structs.replace(
        proxy,
        cluster_cidr=",".join(parse_cidr(cidr) for cidr in split_list(proxy.cluster_cidr)),
        healthz_bind_address=bind(proxy.healthz_bind_address, HEALTHZ_PORT, options.healthz_port),
        hostname_override=proxy.hostname_override.strip().lower(),
        metrics_bind_address=bind(proxy.metrics_bind_address, METRICS_PORT, options.metrics_port),
        node_port_addresses=tuple(text if text == PRIMARY else parse_cidr(text) for text in proxy.node_port_addresses),
    )
