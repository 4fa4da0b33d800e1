"""What can be wrong with a node such that Services work badly on it: a table of checks over what was seen.

Pure; `survey` does the seeing. Each check has a reason, which is the word for it in metrics and Events, and says in one
line what is wrong, what follows from it, and what to do.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from kproxy.plan.settings import PRIMARY, DetectLocalMode, NodeFacts, ProxySettings
from kproxy.state.model import IPFamily
from kproxy.wording import quote

LEAST_OPEN_FILES = 256
"""With a lower limit, a few clients more than usual are enough to reach it."""
IPVS_INTERFACE = "kube-ipvs0"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of the node itself, in kproxy's network namespace. None where it could not be seen."""

    interfaces: frozenset[str] | None = None
    forwarding: Mapping[IPFamily, bool | None] = {}
    bridge_netfilter: Mapping[IPFamily, bool | None] = {}
    """Whether bridged packets pass the rules; None where there is no br_netfilter."""
    conntrack: bool = True
    """Whether nf_conntrack is loaded."""
    kube_proxy_table: bool = False
    """Whether kube-proxy's mode nftables has left its table."""
    open_files: int | None = None
    """The limit."""
    ports_without_descriptor: int = 0
    """Health-check node ports that can't be opened for want of descriptors."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """All that checks go by."""

    settings: ProxySettings
    facts: NodeFacts
    seen: Seen
    settled: bool = True
    """Whether what the Node object has to tell is known by now, or will not be."""
    node_missing: bool = False
    """Whether the API server has been asked for the Node object and has none."""

    def uses(self, family: IPFamily) -> bool:
        """Whether the node is known to have an address or pods of a family; IPv4 where nothing is known."""
        known = {*self.facts.ips, *self.facts.pod_cidrs, *self.settings.cluster_cidrs}
        return family in (known or {IPFamily.IPV4})


class Check(NamedTuple):
    """One thing that can be wrong."""

    reason: str
    told: Callable[[View], str]
    """Returns what is wrong; nothing if all is well."""
    by_node: bool = False
    """Whether it goes by what the Node object tells, and has to wait for that."""


def problems(view: View) -> Mapping[str, str]:
    """Return what is wrong with the node, by reason."""
    found = ((check.reason, check.told(view)) for check in CHECKS if view.settled or not check.by_node)
    return {reason: text for reason, text in found if text}


def _no_node_object(view: View) -> str:
    if not view.node_missing:
        return ""
    return (
        f"there is no Node object called {quote(view.facts.name)}, so that this node's zone, addresses and pod ranges "
        "are not known; set hostnameOverride to the name that 'kubectl get nodes' shows"
    )


def _no_node_ip(view: View) -> str:
    if view.settings.node_port_addresses != (PRIMARY,) or view.facts.ips:
        return ""
    return (
        "node ports are to answer at the node's primary address, which is not known, so none answers; "
        "set bindAddress to it, or nodePortAddresses to ranges"
    )


def _no_cluster_cidr(view: View) -> str:
    cidrs = view.settings.cluster_cidrs
    if view.settings.detect_local_mode is not DetectLocalMode.CLUSTER_CIDR:
        return ""
    if not cidrs:
        return (
            "detectLocalMode is ClusterCIDR and clusterCIDR is empty, so that connections from outside the cluster to "
            "ClusterIPs are not masqueraded; set clusterCIDR to the range of the pods, or another detectLocalMode"
        )
    missing = [family for family in IPFamily if family in view.facts.ips and family not in cidrs]
    if not missing:
        return ""
    return (
        f"the node has an {missing[0].metric_label} address and clusterCIDR has no {missing[0].metric_label} range, so "
        f"that connections from outside the cluster are not masqueraded there; add the range to clusterCIDR"
    )


def _no_pod_cidr(view: View) -> str:
    if view.settings.detect_local_mode is not DetectLocalMode.NODE_CIDR or view.facts.pod_cidrs or view.node_missing:
        return ""
    return (
        "detectLocalMode is NodeCIDR and the Node object has no podCIDRs, so that connections from outside are not "
        "masqueraded; have the controller manager allocate them (--allocate-node-cidrs), or set another detectLocalMode"
    )


def _no_bridge(view: View) -> str:
    name, interfaces = view.settings.bridge_interface, view.seen.interfaces
    if view.settings.detect_local_mode is not DetectLocalMode.BRIDGE_INTERFACE or interfaces is None:
        return ""
    if name in interfaces:
        return ""
    return f"there is no interface {quote(name)}, which detectLocal.bridgeInterface says that the pods are at"


def _no_pod_interface(view: View) -> str:
    prefix, interfaces = view.settings.interface_name_prefix, view.seen.interfaces
    if view.settings.detect_local_mode is not DetectLocalMode.INTERFACE_NAME_PREFIX or interfaces is None:
        return ""
    if any(name.startswith(prefix) for name in interfaces):
        return ""
    return (
        f"no interface has a name that begins with {quote(prefix)}, as detectLocal.interfaceNamePrefix says that those "
        "of pods do; right for a node without pods, else set it to what 'ip link' shows"
    )


_FORWARDING = {IPFamily.IPV4: "net.ipv4.ip_forward", IPFamily.IPV6: "net.ipv6.conf.all.forwarding"}


def _forwarding_off(view: View) -> str:
    off = [
        _FORWARDING[family] for family in IPFamily if view.seen.forwarding.get(family) is False and view.uses(family)
    ]
    if not off:
        return ""
    remedy = " ".join(f"{name}=1" for name in off)
    return f"the node forwards no packets, so that Services only reach pods from the node itself: sysctl -w {remedy}"


_BRIDGE = {
    IPFamily.IPV4: "net.bridge.bridge-nf-call-iptables",
    IPFamily.IPV6: "net.bridge.bridge-nf-call-ip6tables",
}


def _bridge_netfilter_off(view: View) -> str:
    seen = view.seen.bridge_netfilter
    off = [_BRIDGE[family] for family in IPFamily if seen.get(family) is False and view.uses(family)]
    if not off:
        return ""
    remedy = " ".join(f"{name}=1" for name in off)
    return (
        "br_netfilter is there but off, so that a pod's connection to a Service hangs where it leads to a pod at the "
        f"same bridge: sysctl -w {remedy}"
    )


def _no_conntrack(view: View) -> str:
    if view.seen.conntrack:
        return ""
    return "nf_conntrack is not loaded, so that its limits and time-outs can't be set: modprobe nf_conntrack"


def _kube_proxy_table(view: View) -> str:
    if not view.seen.kube_proxy_table:
        return ""
    return "kube-proxy has left its table in nftables, which works beside kproxy's rules: kube-proxy --cleanup"


def _kube_proxy_ipvs(view: View) -> str:
    if view.seen.interfaces is None or IPVS_INTERFACE not in view.seen.interfaces:
        return ""
    return (
        f"kube-proxy's mode ipvs has left the interface {IPVS_INTERFACE}, by which the node takes ClusterIPs for its "
        f"own: kube-proxy --cleanup, or ip link delete {IPVS_INTERFACE} and ipvsadm --clear"
    )


def _few_descriptors(view: View) -> str:
    limit, lacking = view.seen.open_files, view.seen.ports_without_descriptor
    if lacking:
        return (
            f"{lacking} health-check node ports can't be opened, for the limit on open files is too low ({limit}); "
            "raise it (systemd: LimitNOFILE=, containerd's service, ulimit -n) and restart kproxy"
        )
    if limit is not None and limit < LEAST_OPEN_FILES:
        return (
            f"the limit on open files is {limit}, which a few clients can reach; raise it to {LEAST_OPEN_FILES} or "
            "more (systemd: LimitNOFILE=, ulimit -n)"
        )
    return ""


CHECKS = (
    Check("NoNodeObject", _no_node_object, by_node=True),
    Check("NoNodeIP", _no_node_ip, by_node=True),
    Check("NoClusterCIDR", _no_cluster_cidr, by_node=True),
    Check("NoPodCIDR", _no_pod_cidr, by_node=True),
    Check("NoBridge", _no_bridge),
    Check("NoPodInterface", _no_pod_interface),
    Check("ForwardingOff", _forwarding_off, by_node=True),
    Check("BridgeNetfilterOff", _bridge_netfilter_off, by_node=True),
    Check("NoConntrack", _no_conntrack),
    Check("KubeProxyTableLeft", _kube_proxy_table),
    Check("KubeProxyIPVSLeft", _kube_proxy_ipvs),
    Check("FewDescriptors", _few_descriptors),
)


def reasons() -> Iterator[str]:
    """Yield the reasons there are."""
    return (check.reason for check in CHECKS)
