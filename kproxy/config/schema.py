"""KubeProxyConfiguration and KproxyConfiguration: every field by its name and type, with its default.

The first is kube-proxy's own (k8s.io/kube-proxy/config/v1alpha1), complete, so that a cluster's ConfigMap works as it
is and nothing in it is overlooked; what kproxy makes of each field is `validate`'s business. The second holds what only
kproxy has. It is a *document of its own*, after a ``---`` in the same file: kube-proxy reads a file's first document
only, so the way back stays open.

``zero_is_unset`` names the fields for which kube-proxy takes 0, "" or 0s to mean "use the default" (those that are no
pointers in Go). kubeadm writes such zeros for every field it has no opinion on. ``null`` means that everywhere.
"""

import enum
from collections.abc import Mapping
from typing import ClassVar

import msgspec

from kproxy.config.values import Duration, FlushFrequency, Quantity
from kproxy.plan.settings import DetectLocalMode
from kproxy.state.model import LoadBalancing

HEALTHZ_PORT = 10256
METRICS_PORT = 10249


class ProxyMode(enum.StrEnum):
    """How the kernel is programmed. ``auto`` is kproxy's own: nftables where the kernel can, else iptables."""

    IPTABLES = "iptables"
    NFTABLES = "nftables"
    AUTO = "auto"
    IPVS = "ipvs"
    KERNELSPACE = "kernelspace"
    USERSPACE = "userspace"


class LogFormat(enum.StrEnum):
    """What a log line looks like."""

    TEXT = "text"
    JSON = "json"


class IPTablesVariant(enum.StrEnum):
    """Which of the two kernel interfaces the node's iptables rules live in."""

    AUTO = "auto"
    LEGACY = "legacy"
    NFT = "nft"


class Layout(enum.StrEnum):
    """The shape of the rules: kube-proxy's own, or the one for large clusters."""

    AUTO = "auto"
    CLASSIC = "classic"
    LARGE = "large"


class Section(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of all parts of a configuration document."""

    zero_is_unset: ClassVar[tuple[str, ...]] = ()
    newer_than_v1_36: ClassVar[tuple[str, ...]] = ()
    """Fields that are written only where they are set, as kube-proxy v1.36 does not know them."""


class ClientConnection(Section, frozen=True, kw_only=True):
    """How to reach the API server."""

    kubeconfig: str = ""
    accept_content_types: str = ""
    content_type: str = ""
    qps: float = 0.0
    burst: int = 0


class Conntrack(Section, frozen=True, kw_only=True):
    """Settings of the kernel's connection tracking; 0 leaves a setting as it is."""

    max_per_core: int = 32 * 1024
    min: int = 128 * 1024
    tcp_established_timeout: Duration = Duration(24 * 3600)
    tcp_close_wait_timeout: Duration = Duration(3600)
    tcp_be_liberal: bool = False
    udp_timeout: Duration = Duration(0)
    udp_stream_timeout: Duration = Duration(0)


class DetectLocal(Section, frozen=True, kw_only=True):
    """What two of the local modes need to know."""

    bridge_interface: str = ""
    interface_name_prefix: str = ""


class IPTables(Section, frozen=True, kw_only=True):
    """Settings of mode iptables."""

    zero_is_unset = ("sync_period",)
    newer_than_v1_36 = ("snat_node_internal_ip",)

    localhost_node_ports: bool = True
    masquerade_all: bool = False
    masquerade_bit: int = 14
    min_sync_period: Duration = Duration(0)
    """0 leaves the pace to kproxy (see cpuShare); kube-proxy would take 0s for 1s."""
    snat_node_internal_ip: bool = msgspec.field(default=False, name="snatNodeInternalIP")
    sync_period: Duration = Duration(30)


class NFTables(Section, frozen=True, kw_only=True):
    """Settings of mode nftables."""

    zero_is_unset = ("sync_period",)

    masquerade_all: bool = False
    masquerade_bit: int = 14
    min_sync_period: Duration = Duration(0)
    sync_period: Duration = Duration(30)


class IPVS(Section, frozen=True, kw_only=True):
    """Settings of kube-proxy's mode ipvs, which kproxy does not have."""

    exclude_cidrs: tuple[str, ...] = msgspec.field(default=(), name="excludeCIDRs")
    min_sync_period: Duration = Duration(0)
    scheduler: str = ""
    strict_arp: bool = msgspec.field(default=False, name="strictARP")
    sync_period: Duration = Duration(0)
    tcp_fin_timeout: Duration = Duration(0)
    tcp_timeout: Duration = Duration(0)
    udp_timeout: Duration = Duration(0)


class Winkernel(Section, frozen=True, kw_only=True):
    """Settings of kube-proxy on Windows, where kproxy does not run."""

    enable_dsr: bool = msgspec.field(default=False, name="enableDSR")
    forward_health_check_vip: bool = False
    network_name: str = ""
    root_hns_endpoint_name: str = ""
    source_vip: str = ""


class VModule(Section, frozen=True, kw_only=True):
    """A log verbosity for one source file of kube-proxy."""

    file_pattern: str = ""
    verbosity: int = 0


class OutputRouting(Section, frozen=True, kw_only=True):
    """Where log lines go, by level."""

    info_buffer_size: Quantity = Quantity("0")
    split_stream: bool = False


class LogOptions(Section, frozen=True, kw_only=True):
    """Details of the log formats."""

    json: OutputRouting = OutputRouting()
    text: OutputRouting = OutputRouting()


class Logging(Section, frozen=True, kw_only=True):
    """What is logged, and how."""

    zero_is_unset = ("format",)

    flush_frequency: FlushFrequency = FlushFrequency(0)
    format: LogFormat = LogFormat.TEXT
    options: LogOptions = LogOptions()
    verbosity: int = 0
    vmodule: tuple[VModule, ...] = ()


class KubeProxyConfiguration(Section, frozen=True, kw_only=True):
    """kubeproxy.config.k8s.io/v1alpha1, with the defaults of kube-proxy v1.36."""

    zero_is_unset = ("bind_address", "config_sync_period", "detect_local_mode", "mode")

    bind_address: str = "0.0.0.0"  # noqa: S104 - by this, kube-proxy means "ask the Node object"
    bind_address_hard_fail: bool = False
    client_connection: ClientConnection = ClientConnection()
    cluster_cidr: str = msgspec.field(default="", name="clusterCIDR")
    config_sync_period: Duration = Duration(15 * 60)
    conntrack: Conntrack = Conntrack()
    detect_local: DetectLocal = DetectLocal()
    detect_local_mode: DetectLocalMode = DetectLocalMode.CLUSTER_CIDR
    enable_profiling: bool = False
    feature_gates: Mapping[str, bool] = msgspec.field(default_factory=dict)
    healthz_bind_address: str = ""
    hostname_override: str = ""
    iptables: IPTables = IPTables()
    ipvs: IPVS = IPVS()
    logging: Logging = Logging()
    metrics_bind_address: str = ""
    mode: ProxyMode = ProxyMode.IPTABLES
    nftables: NFTables = NFTables()
    node_port_addresses: tuple[str, ...] = ()
    oom_score_adj: int = -999
    port_range: str = ""
    show_hidden_metrics_for_version: str = ""
    windows_run_as_service: bool = False
    winkernel: Winkernel = Winkernel()


class KproxyConfiguration(Section, frozen=True, kw_only=True):
    """kproxy.dev/v1alpha1: what kube-proxy has no word for."""

    zero_is_unset = ("iptables_variant", "layout", "load_balancing")

    api_servers: tuple[str, ...] = ()
    """URLs to try in turn when the one of the kubeconfig or --master does not answer."""
    cpu_share: float = 1 / 3
    """At most this part of one core is spent on syncs under churn."""
    endpoint_metrics: bool = True
    """Whether connections are counted per endpoint, too."""
    iptables_variant: IPTablesVariant = IPTablesVariant.AUTO
    layout: Layout = Layout.AUTO
    load_balancing: LoadBalancing = LoadBalancing.RANDOM
    """How connections are spread over endpoints; a Service's annotation kproxy.dev/load-balancing wins."""
    max_endpoint_series: int = 5_000
    """Per-endpoint series that /metrics shows at most, of each metric; the busiest stay."""
    max_service_series: int = 20_000
    """Per-service series that /metrics shows at most, of each metric; the busiest stay."""
    resync_period: Duration = Duration(600)
    """How often all rules are compared with the kernel's, besides whenever something looks changed; 0 for never."""
    state_directory: str = "/run/kproxy"
    """Where what must outlive a restart is kept: totals of connection counters. Empty: nowhere."""
    watch_idle_timeout: Duration = Duration(90)
    """A watch that brings nothing for so long, not even a bookmark (the server sends one a minute), is dead."""


DOCUMENTS: Mapping[tuple[str, str], type[KubeProxyConfiguration | KproxyConfiguration]] = {
    ("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration"): KubeProxyConfiguration,
    ("kproxy.dev/v1alpha1", "KproxyConfiguration"): KproxyConfiguration,
}
"""The documents a configuration file may hold, by apiVersion and kind."""
