"""The lab put together: what is made in which order, and how all of it goes again."""

import functools
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from hack.lab import leases, namespaces, topology
from hack.lab.addresses import CLIENT_HOSTS, FIRST_POD_HOST, LAST_POD_HOST, OUTSIDE, UNDERLAY, Pair, pod_net
from hack.lab.clients import Outcome
from hack.lab.errors import LabError, run
from hack.lab.hosts import IPTABLES, Host, Node, Pod, Seat
from hack.lab.namespaces import Namespace
from hack.lab.servers import ServerThread
from hack.lab.waiting import until

BRIDGE_SWITCHES = Path("/proc/sys/net/bridge")
NOBODYS_PORT = 9  # "discard": no host listens there
WAY_TIMEOUT = 30.0


class Lab:
    """A small cluster's network. It stands from the making of the object to `close`, or to the end of ``with``.

    `nodes` are the names of the nodes, `iptables` is the variant by which the lab itself writes rules: legacy or nft.
    `lease` is where the lab may be, by default a new lease among the other labs of this machine. Raises LabError, in
    one line, where the machine lacks something.
    """

    def __init__(
        self,
        nodes: Sequence[str] = ("node-a", "node-b"),
        iptables: str = "legacy",
        lease: leases.Tenure | None = None,
    ) -> None:
        self._lease = lease or leases.acquire()
        self._thread = ServerThread()
        self._variant = iptables
        self._hosts: list[Host] = []
        self.nodes: dict[str, Node] = {}
        self.pods: dict[str, Pod] = {}
        try:
            _need_bridge_netfilter()
            self._build(nodes)
        except BaseException:
            self.close()
            raise

    def _build(self, names: Sequence[str]) -> None:
        router, client = self._namespace("router"), self._namespace("client")
        spaces = [self._namespace(name) for name in names]
        _create(router, client, *spaces)
        ports = [(name, space.name) for name, space in zip(names, spaces, strict=True)]
        router.ip(topology.router(ports, client.name))
        for option, lines in topology.to_node_a().items():
            router.ip(lines, option)
        _set_all(router, topology.FORWARDING)
        client.ip(topology.client())
        self.client = Host(self._seat("client", client, OUTSIDE.host(CLIENT_HOSTS[0])))
        self.client.addresses = [address for number in CLIENT_HOSTS for address in OUTSIDE.host(number)]
        self._hosts.append(self.client)
        for number, (name, space) in enumerate(zip(names, spaces, strict=True), start=1):
            self._build_node(name, number, space, range(1, len(names) + 1))
        self.node = self.nodes[names[0]]
        for node in self.nodes.values():
            _await_way(self.client, node)
        self.client.await_addresses()

    def _build_node(self, name: str, number: int, space: Namespace, all_numbers: Iterable[int]) -> None:
        space.ip(topology.node(number, others=[other for other in all_numbers if other != number]))
        _set_all(space, topology.FORWARDING + topology.BRIDGE_NETFILTER)
        node = Node(self._seat(name, space, UNDERLAY.host(number)), number, self._variant)
        self.nodes[name] = node
        self._hosts.append(node)
        for family, rules in zip(IPTABLES, topology.cni_masquerade(number), strict=True):
            node.iptables_restore(rules, family)

    def pod(self, name: str) -> Pod:
        """The pod of that name."""
        return self.pods[name]

    def add_pod(self, name: str, node: str = "node-a", ip: str = "") -> Pod:
        """Make a pod and wire it to its node. `ip` is its IPv4 address, by default the next free one of the node.

        Its IPv6 address goes with it, see `hack.lab.addresses`. Nothing listens in it yet: see `Host.serve`.
        """
        on = self.nodes[node]
        net = pod_net(on.number)
        host = self._free_host(on) if not ip else int(ip.rpartition(".")[2])
        address = net.host(host)
        if name in self.pods or (ip and ip != address.v4):
            raise LabError(f"pod {name}: the name is taken, or {ip} is not of {node}'s network {net.cidr.v4}")
        space = self._namespace(f"pod-{name}")
        _create(space)
        space.ip(topology.pod_inside(net, host, on.namespace.name))
        on.namespace.ip(topology.pod_outside(host))
        pod = Pod(self._seat(f"pod-{name}", space, address), on, topology.pod_port(host))
        pod.name = name
        _await_way(on, pod)
        self.pods[name] = pod
        return pod

    def _free_host(self, node: Node) -> int:
        taken = {pod.ip for pod in self.pods.values()}
        net = pod_net(node.number)
        return next(n for n in range(FIRST_POD_HOST, LAST_POD_HOST) if net.host(n).v4 not in taken)

    def remove_pod(self, name: str) -> None:
        """The pod is gone from one moment to the next: its connections are cut, its addresses answer no more."""
        pod = self.pods.pop(name)
        pod.node.namespace.ip([f"link delete {pod.port}"])
        pod.close()
        namespaces.delete_all([pod.namespace.name])

    @property
    def folder(self) -> Path:
        """A folder for files that shall go when the lab goes."""
        return self._lease.folder

    def _namespace(self, name: str) -> Namespace:
        return Namespace(self._lease.prefix + name)

    def _seat(self, name: str, space: Namespace, address: Pair) -> Seat:
        return Seat(name, space, address, self._lease.folder / name, self._thread)

    def close(self) -> None:
        """End all that runs in the lab and remove it."""
        with ExitStack() as last_to_first:  # each is called whatever becomes of the others
            last_to_first.callback(self._lease.release)
            last_to_first.callback(self._thread.close)
            for host in (*self._hosts, *self.pods.values()):
                last_to_first.callback(host.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _await_way(host: Host, other: Host) -> None:
    """Wait until packets pass between two hosts, both ways and in both families.

    The kernel takes a new interface into use when it comes to it: half a second later where the machine is busy. Till
    then a bridge switches nothing to it, and the first datagram to a new pod, or the answer to it, would be lost.
    """
    for address in (other.ip, other.ip6):
        ask = functools.partial(host.ask, address, NOBODYS_PORT, timeout=0.05)
        until(lambda ask=ask: ask().outcome is Outcome.REFUSED, WAY_TIMEOUT, f"a way to {address}")  # type: ignore[misc]


def _create(*spaces: Namespace) -> None:
    namespaces.create_all(space.name for space in spaces)
    for space in spaces:
        _set_all(space, topology.EVERYWHERE)


def _set_all(space: Namespace, settings: topology.Settings) -> None:
    for name, value in settings:
        space.sysctl(name, value)


def _need_bridge_netfilter() -> None:
    """See `topology.BRIDGE_NETFILTER` for what it is needed for. As a module it must be loaded by hand."""
    if BRIDGE_SWITCHES.is_dir():
        return
    try:
        run(["modprobe", "br_netfilter"])
    except LabError as error:
        raise LabError(
            f"the kernel's br_netfilter is needed, as on any Kubernetes node, and does not load: {error}"
        ) from None
