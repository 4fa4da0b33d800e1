"""What an administrator has decided: the part of the configuration that steers planning."""

import enum
from collections.abc import Mapping

import msgspec

from kproxy.state.model import IPFamily, LoadBalancing


class DetectLocalMode(enum.StrEnum):
    """How to tell pods of this node from the rest of the world (kube-proxy's ``detectLocalMode``)."""

    CLUSTER_CIDR = "ClusterCIDR"
    NODE_CIDR = "NodeCIDR"
    BRIDGE_INTERFACE = "BridgeInterface"
    INTERFACE_NAME_PREFIX = "InterfaceNamePrefix"


PRIMARY = "primary"
"""In place of a list of CIDRs: node ports answer at the node's own address only."""


class ProxySettings(msgspec.Struct, frozen=True, kw_only=True):
    """The administrator's settings, validated; the names are KubeProxyConfiguration's."""

    masquerade_all: bool = False
    masquerade_bit: int = 14
    localhost_node_ports: bool = True
    count_localhost: bool = False
    """Whether connections to node ports at localhost are to be counted apart, for a metric; no packet can tell."""
    detect_local_mode: DetectLocalMode = DetectLocalMode.CLUSTER_CIDR
    cluster_cidrs: Mapping[IPFamily, str] = {}
    bridge_interface: str = ""
    interface_name_prefix: str = ""
    load_balancing: LoadBalancing = LoadBalancing.RANDOM
    """For Services that do not say themselves."""
    node_port_addresses: tuple[str, ...] = ()
    """CIDRs of either family; empty for every address; or `PRIMARY` alone."""


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is so about the node this proxy runs on."""

    name: str
    zone: str = ""
    ips: Mapping[IPFamily, str] = {}
    """The node's primary address in each family it has."""
    pod_cidrs: Mapping[IPFamily, str] = {}
    service_cidrs: tuple[str, ...] = ()
    """The ranges, of either family, that ClusterIPs are taken from, where they are known (ServiceCIDR objects)."""
    interface_addresses: tuple[str, ...] = ()
    """Every address on the node's interfaces."""
    tcp_be_liberal: bool = False
    """Whether conntrack takes TCP packets it can't place as valid (net.netfilter.nf_conntrack_tcp_be_liberal)."""
