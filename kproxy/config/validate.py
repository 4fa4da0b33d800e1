"""What a configuration must satisfy, and what in it has no effect in kproxy.

The rules are kube-proxy's (pkg/proxy/apis/config/validation) and so is the leniency: whatever kube-proxy runs with must
run here, so that a ConfigMap can be taken over as it is. An error is only what would make kproxy do other than asked
where it matters; every other setting that kproxy does nothing with is named in a warning, provided that somebody meant
something by it: zeros and kube-proxy's defaults pass without a word.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TypeAlias

from kproxy.config.model import Options, default_bind_address
from kproxy.config.schema import (
    HEALTHZ_PORT,
    METRICS_PORT,
    KproxyConfiguration,
    KubeProxyConfiguration,
    ProxyMode,
)
from kproxy.config.values import BindAddress, Duration, cidr_family, nearest, parse_cidr, split_list
from kproxy.plan.settings import PRIMARY, DetectLocalMode
from kproxy.wording import quote

Finding: TypeAlias = tuple[str, str]
"""A field's path and what is to be said about it."""

GATES: Mapping[str, bool] = {
    "AllAlpha": False,
    "AllBeta": False,
    "ComponentFlagz": True,
    "ComponentStatusz": True,
    "ContextualLogging": True,
    "KubeProxyDrainingTerminatingNodes": True,
    "LoadBalancerIPMode": True,
    "LoggingAlphaOptions": False,
    "LoggingBetaOptions": True,
    "MultiCIDRServiceAllocator": True,
    "NFTablesProxyMode": True,
    "PreferSameTrafficDistribution": True,
    "ProxyTerminatingEndpoints": True,
    "ServiceInternalTrafficPolicy": True,
    "ServiceTrafficDistribution": True,
    "TopologyAwareHints": True,
    "WinDSR": False,
    "WinOverlay": False,
}
"""Kubernetes' feature gates that concern a service proxy, and whether kproxy, which has no gates, does it."""


def errors(proxy: KubeProxyConfiguration, kproxy: KproxyConfiguration, options: Options) -> Iterator[Finding]:
    """Yield everything that makes the configuration unusable."""
    yield from _mode_errors(proxy.mode)
    yield from _address_errors(proxy)
    yield from _local_errors(proxy)
    yield from _range_errors(proxy)
    yield from _period_errors(proxy)
    yield from _kproxy_errors(kproxy)
    yield from _option_errors(options)


def _attempt(path: str, parse: Callable[[str], object], text: str) -> Iterator[Finding]:
    try:
        parse(text)
    except ValueError as error:
        yield path, str(error)


def _mode_errors(mode: ProxyMode) -> Iterator[Finding]:
    if mode not in (ProxyMode.IPTABLES, ProxyMode.NFTABLES, ProxyMode.AUTO, ProxyMode.IPVS):
        yield "mode", f"kproxy has no mode {mode}; set it to iptables or nftables"


def _address_errors(proxy: KubeProxyConfiguration) -> Iterator[Finding]:
    yield from _attempt("bindAddress", _parse_ip, proxy.bind_address)
    if proxy.hostname_override:
        yield from _attempt("hostnameOverride", _parse_node_name, proxy.hostname_override)
    for path, text, port in (
        ("healthzBindAddress", proxy.healthz_bind_address, HEALTHZ_PORT),
        ("metricsBindAddress", proxy.metrics_bind_address, METRICS_PORT),
    ):
        yield from _attempt(path, partial(BindAddress.parse, default_port=port), text or default_bind_address("", port))
    for index, text in enumerate(proxy.node_port_addresses):
        if text != PRIMARY:
            yield from _attempt(f"nodePortAddresses[{index}]", parse_cidr, text)
        elif len(proxy.node_port_addresses) > 1:
            yield f"nodePortAddresses[{index}]", "'primary' must stand alone; remove it or the CIDRs"


def _parse_ip(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{quote(text)} is not an IP address; leave it out to use the Node object's") from None


def _parse_node_name(text: str) -> None:
    label = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
    name = text.strip().lower()
    if not re.fullmatch(rf"{label}(\.{label})*", name) or len(name) > 253:
        raise ValueError(f"{quote(text)} can't be the name of a Node; leave it out to use the host name")


def _local_errors(proxy: KubeProxyConfiguration) -> Iterator[Finding]:
    cidrs = split_list(proxy.cluster_cidr)
    found = [finding for cidr in cidrs for finding in _attempt("clusterCIDR", parse_cidr, cidr)]
    yield from found
    if not found and len({cidr_family(cidr) for cidr in cidrs}) < len(cidrs):
        yield (
            "clusterCIDR",
            f"{quote(proxy.cluster_cidr)} has two ranges of one family; give one, or one of each family",
        )
    mode = proxy.detect_local_mode
    if mode is DetectLocalMode.BRIDGE_INTERFACE and not proxy.detect_local.bridge_interface:
        yield "detectLocalMode", f"{mode} needs the bridge's name in detectLocal.bridgeInterface"
    if mode is DetectLocalMode.INTERFACE_NAME_PREFIX and not proxy.detect_local.interface_name_prefix:
        yield "detectLocalMode", f"{mode} needs detectLocal.interfaceNamePrefix"
    for path, name in (
        ("detectLocal.bridgeInterface", proxy.detect_local.bridge_interface),
        ("detectLocal.interfaceNamePrefix", proxy.detect_local.interface_name_prefix),
    ):
        if name and not re.fullmatch(r"[^\s/\"\\+\x00-\x1f\x7f]{1,15}", name):
            yield path, f"{quote(name)} is not the name of an interface: at most 15 characters, no blanks or slashes"


def _range_errors(proxy: KubeProxyConfiguration) -> Iterator[Finding]:
    for path, value, low, high in (
        ("iptables.masqueradeBit", proxy.iptables.masquerade_bit, 0, 31),
        ("nftables.masqueradeBit", proxy.nftables.masquerade_bit, 0, 31),
        ("oomScoreAdj", proxy.oom_score_adj, -1000, 1000),
        ("conntrack.maxPerCore", proxy.conntrack.max_per_core, 0, 2**31 - 1),
        ("conntrack.min", proxy.conntrack.min, 0, 2**31 - 1),
        ("clientConnection.burst", proxy.client_connection.burst, 0, 2**31 - 1),
        ("logging.verbosity", proxy.logging.verbosity, 0, 2**31 - 1),
    ):
        if not low <= value <= high:
            yield path, f"must be from {low} to {high}, not {value}"
    version = proxy.show_hidden_metrics_for_version
    if version and not re.fullmatch(r"\d+\.\d+", version):
        yield "showHiddenMetricsForVersion", f"{quote(version)} is not a version such as 1.35"


def _period_errors(proxy: KubeProxyConfiguration) -> Iterator[Finding]:
    for name, section in (("iptables", proxy.iptables), ("nftables", proxy.nftables)):
        if section.sync_period <= 0:
            yield f"{name}.syncPeriod", f"must be more than 0s, not {section.sync_period}"
        if section.min_sync_period < 0:
            yield f"{name}.minSyncPeriod", f"must not be negative, as {section.min_sync_period} is"
        elif section.min_sync_period > section.sync_period > 0:
            yield (
                f"{name}.minSyncPeriod",
                f"must be no more than {name}.syncPeriod, {section.sync_period}, but is {section.min_sync_period}",
            )
    if proxy.config_sync_period <= 0:
        yield "configSyncPeriod", f"must be more than 0s, not {proxy.config_sync_period}"
    conntrack = proxy.conntrack
    for path, duration in (
        ("conntrack.tcpEstablishedTimeout", conntrack.tcp_established_timeout),
        ("conntrack.tcpCloseWaitTimeout", conntrack.tcp_close_wait_timeout),
        ("conntrack.udpTimeout", conntrack.udp_timeout),
        ("conntrack.udpStreamTimeout", conntrack.udp_stream_timeout),
    ):
        if duration < 0:
            yield path, f"must not be negative, as {duration} is; 0s leaves the kernel's setting as it is"


def _kproxy_errors(kproxy: KproxyConfiguration) -> Iterator[Finding]:
    if not 0 < kproxy.cpu_share <= 1:
        yield "cpuShare", f"must be more than 0 and no more than 1 (a whole core), not {kproxy.cpu_share:g}"
    for path, number in (
        ("maxEndpointSeries", kproxy.max_endpoint_series),
        ("maxServiceSeries", kproxy.max_service_series),
    ):
        if number < 0:
            yield path, f"must not be negative, as {number} is; 0 shows none"
    if kproxy.resync_period < 0:
        yield "resyncPeriod", f"must not be negative, as {kproxy.resync_period} is; 0s never resyncs unasked"
    if kproxy.watch_idle_timeout < 1:
        yield "watchIdleTimeout", f"must be 1s or more, not {kproxy.watch_idle_timeout}"
    for index, url in enumerate(kproxy.api_servers):
        if not _is_url(url):
            yield f"apiServers[{index}]", f"{quote(url)} is not a URL such as https://10.0.0.1:6443"


def _option_errors(options: Options) -> Iterator[Finding]:
    for path, port in (("healthzPort", options.healthz_port), ("metricsPort", options.metrics_port)):
        if not 0 <= port <= 65_535:
            yield path, f"must be from 0 to 65535, not {port}"
    if options.master and not _is_url(options.master):
        yield "master", f"{quote(options.master)} is not a URL such as https://10.0.0.1:6443"


def _is_url(text: str) -> bool:
    return re.fullmatch(r"https?://[^\s/?#]+(/\S*)?", text) is not None


def warnings(proxy: KubeProxyConfiguration) -> Iterator[Finding]:
    """Yield every setting that kproxy does nothing with although it says something."""
    yield from _ignored_sections(proxy)
    yield from _ignored_fields(proxy)
    yield from _gate_warnings(proxy.feature_gates)


def _ignored_sections(proxy: KubeProxyConfiguration) -> Iterator[Finding]:
    for name, section, why in (
        ("ipvs", proxy.ipvs, "kproxy has no mode ipvs"),
        ("winkernel", proxy.winkernel, "kproxy does not run on Windows"),
        ("logging.options.json", proxy.logging.options.json, "kproxy writes one unbuffered stream"),
        ("logging.options.text", proxy.logging.options.text, "kproxy writes one unbuffered stream"),
    ):
        default = type(section)()
        for attribute, field in zip(section.__struct_fields__, section.__struct_encode_fields__, strict=True):
            value = getattr(section, attribute)
            if value and value != getattr(default, attribute):
                yield f"{name}.{field}", f"has no effect: {why}"


def _ignored_fields(proxy: KubeProxyConfiguration) -> Iterator[Finding]:
    client = proxy.client_connection
    accepts = client.accept_content_types
    for path, meant, why in (
        ("clientConnection.acceptContentTypes", accepts and "json" not in accepts, "kproxy speaks JSON"),
        ("clientConnection.qps", client.qps, "kproxy makes a handful of requests and never in a hurry"),
        ("clientConnection.burst", client.burst, "kproxy makes a handful of requests and never in a hurry"),
        ("configSyncPeriod", proxy.config_sync_period != Duration(15 * 60), "see resyncPeriod"),
        ("enableProfiling", proxy.enable_profiling, "kproxy has no /debug/pprof"),
        ("iptables.snatNodeInternalIP", proxy.iptables.snat_node_internal_ip, "kproxy masquerades by interface"),
        (
            "logging.flushFrequency",
            float(proxy.logging.flush_frequency) not in (0.0, 5.0),
            "kproxy writes log lines at once",
        ),
        ("logging.vmodule", proxy.logging.vmodule, "kproxy has one log level for all its parts"),
        ("portRange", proxy.port_range, "it has none in kube-proxy, either"),
        ("showHiddenMetricsForVersion", proxy.show_hidden_metrics_for_version, "kproxy hides no metrics"),
        ("windowsRunAsService", proxy.windows_run_as_service, "kproxy does not run on Windows"),
    ):
        if meant:
            yield path, f"has no effect: {why}"


def _gate_warnings(gates: Mapping[str, bool]) -> Iterator[Finding]:
    for name, wanted in sorted(gates.items()):
        path = f"featureGates.{name}"
        if name not in GATES:
            yield path, f"has no effect: kproxy knows no such feature{nearest(name, GATES)}"
        elif wanted is not GATES[name] and name not in ("AllAlpha", "AllBeta"):
            yield path, f"has no effect: in kproxy this is always {'on' if GATES[name] else 'off'}"
