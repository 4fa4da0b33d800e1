"""The flags of ``kproxy ingress``, and what they and the configuration file amount to together. Flags win."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from kproxy.api.yamlreader import UnreadableError
from kproxy.config import ArgumentParser, ConfigError
from kproxy.config.decode import Decoder, compose, fields_of
from kproxy.config.parser import Flag, add_flag
from kproxy.config.schema import Section
from kproxy.ingress.config.schema import DOCUMENTS, IngressConfiguration
from kproxy.ingress.config.settings import Settings, settings_of

SOURCE_FLAGS = (
    Flag("manifests", "manifests", "take the objects from a folder of files instead of an API server"),
    Flag("kubeconfig", "kubeconfig", "kubeconfig file with server and credentials; without one, the pod's own account"),
    Flag("master", "master", "URL of the API server, instead of the kubeconfig's"),
    Flag("api-servers", "apiServers", "URLs of API servers to fall back to, comma-separated"),
)
SERVING_FLAGS = (
    Flag("http-bind-address", "httpBindAddress", "where Ingresses are served in clear text; empty: nowhere"),
    Flag("https-bind-address", "httpsBindAddress", "where Ingresses are served by TLS; empty: nowhere"),
    Flag("ingress-class", "ingressClass", "the class of Ingresses served"),
    Flag("ingress-controller", "ingressController", "the controller that IngressClasses of ours name"),
    Flag("gateway-controller", "gatewayController", "the controllerName that GatewayClasses of ours have"),
    Flag("ingress-without-class", "ingressWithoutClass", "serve Ingresses that name no class, too"),
    Flag("default-certificate", "defaultCertificate", "NAMESPACE/NAME of the Secret for names that no other is for"),
    Flag("proxy-protocol", "proxyProtocol", "expect the PROXY protocol: of --trusted-proxies, or else of everybody"),
    Flag("trusted-proxies", "trustedProxies", "CIDRs of proxies in front, whose X-Forwarded headers are believed"),
    Flag("client-timeout", "timeouts.client", "how long a client may be silent"),
    Flag("server-timeout", "timeouts.server", "how long an endpoint may be silent, where its route says nothing"),
    Flag("connect-timeout", "timeouts.connect", "how long to wait for a connection to an endpoint"),
    Flag("tunnel-timeout", "timeouts.tunnel", "how long a WebSocket may be silent"),
)
CLUSTER_FLAGS = (
    Flag("service", "service", "NAMESPACE/NAME of the Service in front of these pods: Ingresses get its addresses"),
    Flag("publish-address", "publishAddress", "addresses that Ingresses get instead, comma-separated"),
    Flag("gateway-service-type", "gatewayServiceType", "type of the Services made for Gateways"),
    Flag("node-address", "nodeAddress", "with type NodePort: the addresses that Gateways get"),
    Flag("write-status", "writeStatus", "write statuses, Services of Gateways and Events"),
    Flag("lease", "lease", "NAMESPACE/NAME of the Lease by which one of several replicas writes"),
)
RUNNING_FLAGS = (
    Flag("config", "", "the configuration file, followed for changes; flags win over it"),
    Flag("state-dir", "stateDir", "a private folder for HAProxy's files"),
    Flag("haproxy", "haproxy", "the program"),
    Flag("threads", "threads", "threads of HAProxy; 0: one for each core"),
    Flag("leave-haproxy", "leaveHaproxy", "at SIGTERM, leave HAProxy serving for the next kproxy to take over"),
    Flag("shutdown-timeout", "timeouts.shutdown", "how long HAProxy may finish its requests at SIGTERM"),
    Flag("shutdown-delay", "timeouts.shutdownDelay", "how long it goes on taking requests before that"),
    Flag("drain-timeout", "timeouts.drain", "how long a process that a reload has replaced may finish connections"),
    Flag("cpu-share", "cpuShare", "part of one core that syncs may use at most under churn"),
    Flag("healthz-bind-address", "healthzBindAddress", "address and port of the health server; port 0: none"),
    Flag("metrics-bind-address", "metricsBindAddress", "address and port of the metrics server; port 0: none"),
    Flag("latency-histogram", "latencyHistogram", "count the time to an answer by route and bucket"),
    Flag("access-log", "logging.access", "log each request on standard output"),
    Flag("log-format", "logging.format", "text or json"),
    Flag("logging-format", "logging.format", "the same as --log-format"),
    Flag("v", "logging.verbosity", "log level: 0 events, 2 also routine, 4 and more for debugging"),
)
GROUPS: Mapping[str, Sequence[Flag]] = {
    "where objects come from": SOURCE_FLAGS,
    "what is served, and where": SERVING_FLAGS,
    "in a cluster": CLUSTER_FLAGS,
    "how it runs": RUNNING_FLAGS,
}
FLAGS: Mapping[str, Flag] = {flag.name: flag for flags in GROUPS.values() for flag in flags}
_MOST_BYTES = 1 << 20


def field_type(path: str) -> Any:
    """Return the type of the field at a dotted path; text for the one flag that is no field."""
    kind: Any = IngressConfiguration
    for name in path.split(".") if path else ():
        kind = fields_of(kind)[name].type
    return kind if path else str


def add_flags(parser: ArgumentParser, groups: Mapping[str, Sequence[Flag]] = GROUPS) -> None:
    """Give a parser the flags; their values end up in ``namespace.flags``."""
    for title, flags in groups.items():
        group = parser.add_argument_group(title)
        for flag in flags:
            add_flag(group, flag, field_type(flag.field))


def from_flags(namespace: argparse.Namespace) -> Settings:
    """Make the settings from parsed flags and the file that --config names.

    Raises ConfigError with everything that is wrong, one line each.
    """
    flags: Mapping[str, Any] = getattr(namespace, "flags", {})
    file, origins = read_file(flags["config"]) if flags.get("config") else (IngressConfiguration(), {})
    for name, value in flags.items():
        path = FLAGS[name].field
        if path and value is not None:
            file = _replace(file, path.split("."), value)
            origins[path] = f"--{name}"
    return settings_of(file, origins)


def read_file(path: str) -> tuple[IngressConfiguration, dict[str, str]]:
    """Read a configuration file; return what it says, and where it says so. Raises ConfigError."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}; check --config"]) from None
    if len(data) > _MOST_BYTES:
        raise ConfigError([f"{path}: larger than 1 MiB; that is no configuration file"])
    decoder = Decoder(path)
    found: list[IngressConfiguration] = []
    try:
        for node in compose(data.decode()):
            kind = decoder.document_kind(node, DOCUMENTS)
            found.append(decoder.section(node, kind, skip=("apiVersion", "kind")))
    except UnreadableError as error:
        raise ConfigError([f"{path if error.line is None else f'{path}:{error.line}'}: {error.reason}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 text, at byte {error.start}"]) from None
    except ValueError as error:
        raise ConfigError([f"{path}: {error}"]) from None
    if decoder.errors or decoder.unknown:
        raise ConfigError([*decoder.errors, *decoder.unknown])
    if len(found) != 1:
        raise ConfigError([f"{path}: should hold one IngressConfiguration, not {len(found)}"])
    return found[0], dict(decoder.origins)


def _replace(section: Any, names: list[str], value: object) -> Any:
    kind: type[Section] = type(section)
    attribute = fields_of(kind)[names[0]].attribute
    if len(names) > 1:
        value = _replace(getattr(section, attribute), names[1:], value)
    return msgspec.structs.replace(section, **{attribute: value})
