"""The effective configuration: file and flags merged, checked, and with the questions the rest of kproxy asks."""

import platform
from typing import Self

import msgspec

from kproxy.config.schema import (
    HEALTHZ_PORT,
    METRICS_PORT,
    IPTables,
    KproxyConfiguration,
    KubeProxyConfiguration,
    NFTables,
    ProxyMode,
    Section,
)
from kproxy.config.values import BindAddress, cidr_family, split_list
from kproxy.plan.settings import PRIMARY
from kproxy.state.model import IPFamily


class Options(Section, frozen=True, kw_only=True):
    """What only flags say: it is about this start of kproxy, not about the node."""

    cleanup: bool = False
    config_file: str = ""
    healthz_port: int = HEALTHZ_PORT
    init_only: bool = False
    manifests: str = ""
    master: str = ""
    metrics_port: int = METRICS_PORT
    write_config_to: str = ""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All settings. Made without arguments it is what kproxy does by default.

    ``proxy`` and ``kproxy`` are the two documents of the file with flags applied, ``warnings`` what to log: one line
    for each setting that has no effect here.
    """

    proxy: KubeProxyConfiguration = KubeProxyConfiguration()
    kproxy: KproxyConfiguration = KproxyConfiguration()
    options: Options = Options()
    warnings: tuple[str, ...] = ()

    @property
    def node_name(self) -> str:
        """The name of this node's Node object: the override, or else the host name; lower case as kubelet has it."""
        return self.proxy.hostname_override or platform.node().strip().lower()

    @property
    def mode(self) -> ProxyMode:
        """Which backend is wanted."""
        return self.proxy.mode

    def with_mode(self, mode: ProxyMode) -> Self:
        """Return this configuration for another mode: what became of ``auto`` once the kernel was looked at."""
        return msgspec.structs.replace(self, proxy=msgspec.structs.replace(self.proxy, mode=mode))

    @property
    def rules(self) -> IPTables | NFTables:
        """The section of the mode in use: masquerading and sync periods."""
        return self.proxy.nftables if self.mode is ProxyMode.NFTABLES else self.proxy.iptables

    @property
    def masquerade_mark(self) -> int:
        """The bit of the packet mark that asks for masquerading."""
        return 1 << self.rules.masquerade_bit

    @property
    def localhost_node_ports(self) -> bool:
        """Whether node ports answer at 127.0.0.1; mode nftables never does."""
        return self.mode is not ProxyMode.NFTABLES and self.proxy.iptables.localhost_node_ports

    @property
    def cluster_cidrs(self) -> dict[IPFamily, str]:
        """The range of the cluster's pods, for each family that has one."""
        return {cidr_family(cidr): cidr for cidr in split_list(self.proxy.cluster_cidr)}

    @property
    def node_ports_on_primary(self) -> bool:
        """Whether node ports answer at the node's own addresses only; the default of mode nftables."""
        if not self.proxy.node_port_addresses:
            return self.mode is ProxyMode.NFTABLES
        return self.proxy.node_port_addresses == (PRIMARY,)

    def node_port_cidrs(self, family: IPFamily) -> tuple[str, ...]:
        """Return the ranges of node addresses that answer at node ports; none means all (as kube-proxy has it)."""
        return tuple(cidr for cidr in self.proxy.node_port_addresses if cidr != PRIMARY and cidr_family(cidr) is family)

    @property
    def healthz_bind(self) -> BindAddress | None:
        """Where /healthz and /livez are served; None for nowhere."""
        return BindAddress.parse(self.proxy.healthz_bind_address or self._default_bind(HEALTHZ_PORT), HEALTHZ_PORT)

    @property
    def metrics_bind(self) -> BindAddress | None:
        """Where /metrics is served; None for nowhere."""
        return BindAddress.parse(self.proxy.metrics_bind_address or self._default_bind(METRICS_PORT), METRICS_PORT)

    def _default_bind(self, port: int) -> str:
        return default_bind_address(self.proxy.bind_address, port)


def default_bind_address(bind_address: str, port: int) -> str:
    """Return kube-proxy's default for the health server (all addresses) and the metrics server (loopback only).

    Both follow the family of ``bindAddress``.
    """
    if ":" in bind_address:
        return f"[::]:{port}" if port == HEALTHZ_PORT else f"[::1]:{port}"
    return f"0.0.0.0:{port}" if port == HEALTHZ_PORT else f"127.0.0.1:{port}"
