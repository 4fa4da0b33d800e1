"""kproxy's command-line flags: kube-proxy's names, and a few of its own.

A flag is a line in a table: its name and the field of the configuration it sets. `kproxy.config.parser` says how flags
are read.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from kproxy.config.load import Draft, draft_file, field_type, field_value, finish, with_field
from kproxy.config.model import Config
from kproxy.config.parser import ArgumentParser, Flag, add_flag
from kproxy.config.schema import ProxyMode

_SCHEDULER = "ipvs-scheduler"

KUBE_PROXY_FLAGS = (
    Flag("bind-address", "bindAddress", "the node's primary IP, where the Node object's is not to be used"),
    Flag("bind-address-hard-fail", "bindAddressHardFail", "exit where the health or metrics port is taken"),
    Flag("cleanup", "cleanup", "remove all of kproxy's rules and exit"),
    Flag("cluster-cidr", "clusterCIDR", "the range of the cluster's pods, or one of each family"),
    Flag("config", "configFile", "the configuration file; flags win over it"),
    Flag("config-sync-period", "configSyncPeriod", "accepted for kube-proxy's sake; see --resync-period"),
    Flag("conntrack-max-per-core", "conntrack.maxPerCore", "connections to track per CPU core; 0 leaves it as it is"),
    Flag("conntrack-min", "conntrack.min", "connections to track at least"),
    Flag("conntrack-tcp-be-liberal", "conntrack.tcpBeLiberal", "track TCP packets that are out of window, too"),
    Flag("conntrack-tcp-timeout-close-wait", "conntrack.tcpCloseWaitTimeout", "how long to track CLOSE_WAIT; 0: as is"),
    Flag(
        "conntrack-tcp-timeout-established", "conntrack.tcpEstablishedTimeout", "how long to track idle TCP; 0: as is"
    ),
    Flag("conntrack-udp-timeout", "conntrack.udpTimeout", "how long to track unanswered UDP; 0: as is"),
    Flag("conntrack-udp-timeout-stream", "conntrack.udpStreamTimeout", "how long to track answered UDP; 0: as is"),
    Flag(
        "detect-local-mode",
        "detectLocalMode",
        "how pods of this node are told from others: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix",
    ),
    Flag("feature-gates", "featureGates", "name=true or =false, comma-separated; kproxy has none, and says so"),
    Flag("healthz-bind-address", "healthzBindAddress", "address and port of the health server; port 0: none"),
    Flag(
        "healthz-port",
        "healthzPort",
        "deprecated: the health server's port, if its address has none; 0: no server",
    ),
    Flag("hostname-override", "hostnameOverride", "the name of this node's Node object, if not the host name"),
    Flag("init-only", "initOnly", "do what needs full root privileges (sysctls), then exit"),
    Flag("iptables-localhost-nodeports", "iptables.localhostNodePorts", "answer at node ports of 127.0.0.1, too"),
    Flag("iptables-masquerade-bit", "iptables.masqueradeBit", "the bit of the packet mark that asks for masquerading"),
    Flag(
        "iptables-min-sync-period",
        "iptables.minSyncPeriod",
        "wait so long between syncs; 0 adapts the pace, see --cpu-share",
        ("nftables.minSyncPeriod",),
    ),
    Flag(
        "iptables-sync-period",
        "iptables.syncPeriod",
        "how soon a failed sync must have been made good",
        ("nftables.syncPeriod",),
    ),
    Flag("kube-api-burst", "clientConnection.burst", "accepted for kube-proxy's sake"),
    Flag("kube-api-content-type", "clientConnection.contentType", "accepted for kube-proxy's sake; kproxy speaks JSON"),
    Flag("kube-api-qps", "clientConnection.qps", "accepted for kube-proxy's sake"),
    Flag("kubeconfig", "clientConnection.kubeconfig", "kubeconfig file with server and credentials"),
    Flag("logging-format", "logging.format", "text or json"),
    Flag(
        "masquerade-all", "iptables.masqueradeAll", "masquerade all traffic to ClusterIPs", ("nftables.masqueradeAll",)
    ),
    Flag("master", "master", "URL of the API server, instead of the kubeconfig's"),
    Flag("metrics-bind-address", "metricsBindAddress", "address and port of the metrics server; port 0 or empty: none"),
    Flag(
        "metrics-port",
        "metricsPort",
        "deprecated: the metrics server's port, if its address has none; 0: no server",
    ),
    Flag("nodeport-addresses", "nodePortAddresses", "ranges of node addresses that answer at node ports, or 'primary'"),
    Flag("oom-score-adj", "oomScoreAdj", "how ready the kernel is to kill kproxy for memory; -1000 to 1000"),
    Flag("pod-bridge-interface", "detectLocal.bridgeInterface", "BridgeInterface: the bridge that the pods are at"),
    Flag(
        "pod-interface-name-prefix",
        "detectLocal.interfaceNamePrefix",
        "InterfaceNamePrefix: what the names of pods' interfaces begin with",
    ),
    Flag("profiling", "enableProfiling", "accepted for kube-proxy's sake"),
    Flag("proxy-mode", "mode", "iptables, nftables or auto"),
    Flag("show-hidden-metrics-for-version", "showHiddenMetricsForVersion", "accepted for kube-proxy's sake"),
    Flag("v", "logging.verbosity", "log level: 0 events, 2 also routine, 4 and more for debugging"),
    Flag("write-config-to", "writeConfigTo", "write the effective configuration to this file ('-': stdout) and exit"),
)
"""Flags that kube-proxy has, too."""

KPROXY_FLAGS = (
    Flag("api-servers", "apiServers", "URLs of API servers to fall back to, comma-separated"),
    Flag("cpu-share", "cpuShare", "part of one core that syncs may use at most under churn"),
    Flag("endpoint-metrics", "endpointMetrics", "count connections per endpoint, too"),
    Flag("iptables-variant", "iptablesVariant", "auto (the one that the kubelet uses), legacy or nft"),
    Flag("layout", "layout", "shape of the iptables rules: auto, classic (as kube-proxy's) or large"),
    Flag("load-balancing", "loadBalancing", "how connections are spread: random, or round-robin (in turn)"),
    Flag("log-format", "logging.format", "the same as --logging-format"),
    Flag("manifests", "manifests", "take the objects from a folder of files instead of an API server"),
    Flag("max-endpoint-series", "maxEndpointSeries", "per-endpoint series shown at most, of each metric"),
    Flag("max-service-series", "maxServiceSeries", "per-service series shown at most, of each metric"),
    Flag("nftables-masquerade-bit", "nftables.masqueradeBit", "as --iptables-masquerade-bit, for mode nftables"),
    Flag("nftables-min-sync-period", "nftables.minSyncPeriod", "as --iptables-min-sync-period, for mode nftables"),
    Flag("nftables-sync-period", "nftables.syncPeriod", "as --iptables-sync-period, for mode nftables"),
    Flag("resync-period", "resyncPeriod", "how often all rules are compared with the kernel's; 0: only when in doubt"),
    Flag("state-directory", "stateDirectory", "of totals kept over a restart (empty: none), and of the socket"),
    Flag(
        "watch-idle-timeout",
        "watchIdleTimeout",
        "a watch that brings nothing for so long (a list: 15s at most) is started afresh",
    ),
)
"""Flags that only kproxy has."""

FLAGS: Mapping[str, Flag] = {flag.name: flag for flag in (*KUBE_PROXY_FLAGS, *KPROXY_FLAGS)}

IGNORED_FLAGS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "ipvs-exclude-cidrs",
            "ipvs-min-sync-period",
            "ipvs-scheduler",
            "ipvs-strict-arp",
            "ipvs-sync-period",
            "ipvs-tcp-timeout",
            "ipvs-tcpfin-timeout",
            "ipvs-udp-timeout",
        ),
        "kproxy has no mode ipvs",
    ),
    **dict.fromkeys(
        (
            "add-dir-header",
            "alsologtostderr",
            "log-backtrace-at",
            "log-dir",
            "log-file",
            "log-file-max-size",
            "log-flush-frequency",
            "log-json-info-buffer-size",
            "log-json-split-stream",
            "log-text-info-buffer-size",
            "log-text-split-stream",
            "logtostderr",
            "one-output",
            "skip-headers",
            "skip-log-headers",
            "stderrthreshold",
            "vmodule",
        ),
        "kproxy logs to stderr, line by line; --v sets the level and --log-format the format",
    ),
    **dict.fromkeys(("boot-id-file", "machine-id-file"), "kproxy does not need it"),
}
"""kube-proxy's flags that are taken without effect, and what to say about them."""


class _Ignore(argparse.Action):
    """Notes those given of the flags that have no effect in ``namespace.ignored_flags``."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option: str | None = None,
    ) -> None:
        """Keep the name, and what one of them may have to say after all."""
        name = (option or "").lstrip("-")
        if name == _SCHEDULER and values:
            namespace.ipvs_scheduler = str(values)
        namespace.ignored_flags = (*getattr(namespace, "ignored_flags", ()), name)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Give a (sub)command all flags of the configuration; their values end up in ``namespace.flags``."""
    for title, flags in (("settings, as in kube-proxy", KUBE_PROXY_FLAGS), ("settings of kproxy's own", KPROXY_FLAGS)):
        group = parser.add_argument_group(title)
        for flag in flags:
            add_flag(group, flag, field_type(flag.field))
    ignored = [f"--{name}" for name in IGNORED_FLAGS]
    parser.add_argument(*ignored, action=_Ignore, dest=argparse.SUPPRESS, nargs="?", help=argparse.SUPPRESS)


def from_flags(namespace: argparse.Namespace) -> Config:
    """Make the configuration from parsed flags and the file that --config names.

    Raises ConfigError with everything that is wrong, one line each.
    """
    flags: Mapping[str, Any] = getattr(namespace, "flags", {})
    draft = draft_file(flags["config"]) if flags.get("config") else Draft()
    for flag in FLAGS.values():
        if flag.name not in flags:
            continue
        value = flags[flag.name]
        for path in (flag.field, *flag.also):
            draft = with_field(draft, path, _flag_value(flag, value), f"--{flag.name}")
    unused = [*getattr(namespace, "ignored_flags", ())]
    if draft.proxy.mode is ProxyMode.IPVS and _SCHEDULER in unused:
        unused.remove(_SCHEDULER)
        draft = with_field(draft, "ipvs.scheduler", getattr(namespace, "ipvs_scheduler", ""), f"--{_SCHEDULER}")
    ignored = [f"--{name}: has no effect: {IGNORED_FLAGS[name]}" for name in unused]
    old = [
        f"--{name}: deprecated, as in kube-proxy; use --{name.removesuffix('port')}bind-address"
        for name in ("healthz-port", "metrics-port")
        if name in flags
    ]
    return finish(draft.with_warnings([*ignored, *old]))


def _flag_value(flag: Flag, value: Any) -> Any:
    """Turn an empty address, by which kube-proxy's flags mean "no such server", into one that says so in a file too."""
    return ":0" if flag.name.endswith("s-bind-address") and value == "" else value


def flag_values(config: Config) -> dict[str, str]:
    """Return the value of every flag that amounts to the configuration in force, wherever it was set."""
    return {name: _written(field_value(config, flag.field)) for name, flag in sorted(FLAGS.items())}


def _written(value: Any) -> str:
    """Write a value as a flag takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, Mapping):
        return ",".join(f"{name}={str(on).lower()}" for name, on in value.items())
    return str(value)


def load(args: Sequence[str]) -> Config:
    """Read a whole command line that consists of these flags.

    Raises ConfigError; SystemExit where a flag is unknown or its value unreadable.
    """
    parser = ArgumentParser(prog="kproxy")
    add_flags(parser)
    return from_flags(parser.parse_args(args))
