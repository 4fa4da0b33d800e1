"""Looks at the node for `problems`: some files of /proc, and the names of the interfaces. Costs less than a ms."""

import socket
from pathlib import Path

from kproxy.node.limits import open_files
from kproxy.node.problems import Seen
from kproxy.state.model import IPFamily

_FORWARDING = {IPFamily.IPV4: "ipv4/ip_forward", IPFamily.IPV6: "ipv6/conf/all/forwarding"}
_BRIDGE = {IPFamily.IPV4: "bridge/bridge-nf-call-iptables", IPFamily.IPV6: "bridge/bridge-nf-call-ip6tables"}


def look(*, kube_proxy_table: bool = False, ports_without_descriptor: int = 0, root: Path = Path("/")) -> Seen:
    """Return what there is to see. What the caller knows better is handed in."""
    settings = root / "proc/sys/net"
    return Seen(
        interfaces=_interfaces(),
        forwarding={family: _flag(settings / path) for family, path in _FORWARDING.items()},
        bridge_netfilter={family: _flag(settings / path) for family, path in _BRIDGE.items()},
        conntrack=(settings / "netfilter/nf_conntrack_max").exists(),
        kube_proxy_table=kube_proxy_table,
        open_files=open_files(root / "proc").limit,
        ports_without_descriptor=ports_without_descriptor,
    )


def _interfaces() -> frozenset[str] | None:
    try:
        return frozenset(name for _, name in socket.if_nameindex())
    except OSError:
        return None


def _flag(path: Path) -> bool | None:
    try:
        return path.read_text().strip() != "0"
    except OSError:
        return None
