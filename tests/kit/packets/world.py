"""A cluster in the lab with kproxy at work: objects go in at an API server, packets come out at the pods.

`World` is what the packet tests stand on. It knows when a change has reached the kernel without asking kproxy: every
change is followed by a *marker*, a Service and a slice that could not be there before, and is in force when packets for
the marker are answered. What came before the marker on the same watches is in force then, too. So tests need no
guesses about time, and can look for silence (a drop) at once.
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from hack.lab import Answer, Host, Kproxy, Lab, LabError, Node, Outcome, Pod, Tally, until
from hack.lab.addresses import CLIENT_HOSTS, OUTSIDE, Pair, pod_net
from hack.lab.topology import spare_address
from kproxy.backends.iptables.kernel.legacy.lock import PATH_VARIABLE
from kproxy.config import Config
from kproxy.daemon.run import remove_all
from tests.kit.apiserver.kinds import Json
from tests.kit.apiserver.objects import endpoint, make_node, make_service, make_slice, service_port, slice_port
from tests.kit.apiserver.process import ApiServerProcess

FAMILIES = ("ipv4", "ipv6")
PROTOCOLS = ("TCP", "UDP", "SCTP")
PORT = 80
TARGET_PORT = 8080
PATIENCE = 30.0
"""Seconds for whatever must happen sooner or later; a machine under load may take its time."""
SILENCE = 0.25
"""Seconds without a word that count as a drop. Answers take about a thousandth of that."""

each_family = pytest.mark.parametrize("family", FAMILIES)
each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)

_MARKER_HOST = 254
_MARKER_SERVER_PORT = 9


def cluster_ips(number: int) -> Pair:
    """The ClusterIPs of Service `number`."""
    return Pair(f"10.96.0.{number}", f"fd00:10:96::{number}")


def external_ips(number: int) -> Pair:
    """Addresses that the outside sends to node-a, for external IPs and load balancers."""
    return Pair(f"203.0.113.{number}", f"2001:db8:e::{number}")


def clients(number: int) -> Pair:
    """The addresses of the client outside, counted from 0: it has several."""
    return OUTSIDE.host(CLIENT_HOSTS[number])


def bridge(node: int = 1) -> Pair:
    """The addresses of a node's bridge: what its pods see the node as."""
    return pod_net(node).host(1)


def of(pair: Pair, family: str) -> str:
    """The address of a family."""
    return pair.v4 if family == "ipv4" else pair.v6


def address(host: Host, family: str) -> str:
    """A host's main address of a family."""
    return host.ip if family == "ipv4" else host.ip6


class Behind(NamedTuple):
    """A pod as an endpoint of a Service: its conditions and hints, see `tests.kit.apiserver.objects.endpoint`."""

    pod: Pod
    more: Mapping[str, Any]

    def entry(self, family: str) -> Json:
        """The endpoint as it stands in a slice."""
        return endpoint(address(self.pod, family), **{"node": self.pod.node.name, **self.more})


def behind(pod: Pod, **more: Any) -> Behind:
    """See `Behind`."""
    return Behind(pod, more)


class Exposed(NamedTuple):
    """A Service in the cluster."""

    name: str
    number: int

    def ip(self, family: str) -> str:
        """Its ClusterIP."""
        return of(cluster_ips(self.number), family)

    @property
    def node_port(self) -> int:
        """Its node port, if it is of a type that has one."""
        return 30000 + self.number


def service(
    name: str,
    number: int,
    *,
    protocols: Sequence[str] = ("TCP",),
    type: str = "ClusterIP",  # noqa: A002 - the field's own name
    spec: Mapping[str, Any] | None = None,
    ingress: Iterable[Json] = (),
) -> Json:
    """A dual-stack Service with one port 80 for each protocol, which pods serve at 8080.

    `ingress` are the entries of status.loadBalancer.ingress.
    """
    node_port = Exposed(name, number).node_port if type in ("NodePort", "LoadBalancer") else None
    ports = [
        service_port(PORT, name=protocol.lower(), protocol=protocol, target_port=TARGET_PORT, node_port=node_port)
        for protocol in protocols
    ]
    status = {"loadBalancer": {"ingress": list(ingress)}}
    return make_service(name, cluster_ip=cluster_ips(number), ports=ports, type=type, spec=spec, status=status)


def slices(
    name: str, backends: Iterable[Pod | Behind], *, protocols: Sequence[str] = ("TCP",), port: int = TARGET_PORT
) -> list[Json]:
    """One EndpointSlice of each family with these pods; a pod without further words is ready."""
    entries = [backend if isinstance(backend, Behind) else behind(backend) for backend in backends]
    return [
        make_slice(
            name,
            name=f"{name}-{family}",
            address_type=family.replace("ip", "IP"),
            endpoints=[entry.entry(family) for entry in entries],
            ports=[slice_port(port, name=protocol.lower(), protocol=protocol) for protocol in protocols],
        )
        for family in FAMILIES
    ]


def nodes(lab: Lab, **zones: str) -> list[Json]:
    """The Node objects of the lab: with both addresses, pod ranges, and zone-a for node-a and so on."""
    return [
        make_node(
            node.name,
            addresses=[node.ip, node.ip6],
            pod_cidrs=pod_net(node.number).cidr,
            zone=zones.get(node.name.replace("-", "_"), node.name.replace("node", "zone")),
        )
        for node in lab.nodes.values()
    ]


class World:
    """The lab, the API server, its `control`, and `kproxy` once it is started."""

    def __init__(self, lab: Lab, server: ApiServerProcess) -> None:
        self.lab = lab
        self.server = server
        self.control = server.control
        self.kproxy: Kproxy
        self._settings: Mapping[str, Any] = {}
        self._generations = itertools.count(1)
        lab.nodes["node-b"].serve(_MARKER_SERVER_PORT, name="marker")

    def start(self, *args: str, **settings: Any) -> None:
        """Start kproxy on node-a, with these fields of KubeProxyConfiguration set, and wait until it is at work."""
        self.launch(*args, **settings)
        self._begin()

    def launch(self, *args: str, **settings: Any) -> None:
        """Start kproxy on node-a without waiting for anything."""
        self._write_config(settings)
        folder = self.lab.folder
        own = ["--config", str(folder / "config.json"), "--state-directory", str(folder / "state")]
        self.kproxy = self.lab.node.start_kproxy(kubeconfig=self.server.kubeconfig, args=[*own, *args])

    def configure(self, **settings: Any) -> None:
        """Have the running kproxy take up other settings, and wait until they are in force."""
        if settings == self._settings:
            return
        starts = self.kproxy.log().count("starting")
        self._write_config(settings)
        until(lambda: self.kproxy.log().count("starting") > starts, PATIENCE, "kproxy to take up its new configuration")
        self._begin()

    def _begin(self) -> None:
        self.settle()
        self.kproxy.wait_ready(PATIENCE)  # what waits for the first rules, as node ports at localhost do, is there, too

    def _write_config(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        head = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}
        draft = self.lab.folder / "config.draft"
        draft.write_text(json.dumps({**head, **settings}))
        draft.rename(self.lab.folder / "config.json")

    def clean_up(self) -> None:
        """Remove kproxy's rules and all Services, so that another kproxy finds an empty field."""
        clean_up(self.lab.node)
        self.control.replace_all(nodes(self.lab))

    def put(self, *objects: Json) -> None:
        """Store objects, and wait until they are in force."""
        self.control.put(*objects)
        self.settle()

    def expose(
        self,
        name: str,
        number: int,
        backends: Iterable[Pod | Behind] = (),
        *,
        protocols: Sequence[str] = ("TCP",),
        **more: Any,
    ) -> Exposed:
        """Make, or change, a Service with these pods behind it. `more` is for `service`."""
        self.put(service(name, number, protocols=protocols, **more), *slices(name, backends, protocols=protocols))
        return Exposed(name, number)

    def rescale(self, name: str, backends: Iterable[Pod | Behind], *, protocols: Sequence[str] = ("TCP",)) -> None:
        """Change which pods are behind a Service."""
        self.put(*slices(name, backends, protocols=protocols))

    def remove(self, name: str, *, endpoints_too: bool = True) -> None:
        """Delete a Service and its slices."""
        self.control.delete("services", "default", name)
        for family in FAMILIES if endpoints_too else ():
            self.control.delete("endpointslices", "default", f"{name}-{family}")
        self.settle()

    def settle(self) -> None:
        """Wait until all that has been changed at the API server so far is in the kernel, in both families."""
        generation = next(self._generations)
        self.control.put(*self._marker(generation))
        timeouts = (min(0.01 * 1.2**look, 0.5) for look in itertools.count())  # of what is left, not much is overslept
        try:
            until(lambda: self._marked(generation, next(timeouts)), PATIENCE, "a change to reach the kernel")
        except LabError as error:
            raise LabError(f"{error}\n--- kproxy's log\n{self.kproxy.log()}") from None

    def _marker(self, generation: int) -> list[Json]:
        ports = [
            service_port(generation, name=f"there-{generation}", target_port=_MARKER_SERVER_PORT),
            service_port(10_000 + generation, name=f"refused-{generation}"),
        ]
        server = self.lab.nodes["node-b"]
        return [
            make_service("marker", "kube-system", cluster_ip=cluster_ips(_MARKER_HOST), ports=ports),
            *(
                make_slice(
                    "marker",
                    "kube-system",
                    name=f"marker-{family}",
                    endpoints=[endpoint(address(server, family), node=server.name)],
                    ports=[slice_port(_MARKER_SERVER_PORT, name=f"there-{generation}")],
                )
                for family in FAMILIES
            ),
        ]

    def _marked(self, generation: int, timeout: float) -> bool:
        """Whether nat (the port that is there) and filter (the port that is refused) are up to the marker."""
        if self.kproxy.process.exit_code is not None:
            raise LabError(f"kproxy ended with exit code {self.kproxy.process.exit_code}")
        node = self.lab.node
        return all(
            node.ask(ip, generation, timeout=timeout).server == "marker"
            and node.ask(ip, 10_000 + generation, timeout=timeout).outcome is Outcome.REFUSED
            for ip in cluster_ips(_MARKER_HOST)
        )


def clean_up(node: Node) -> None:
    """Do to a node what ``kproxy cleanup`` does, in this process: one of its own would load all of kproxy for it."""
    with node.namespace.entered(), pytest.MonkeyPatch.context() as patch:
        patch.setenv(PATH_VARIABLE, str(node.xtables_lock))
        assert not remove_all(Config())


@contextmanager
def carried(host: Host, *ips: str) -> Iterator[None]:
    """The host has more addresses on its network card for as long as the block lasts."""
    places = [f"{ip}/{128 if ':' in ip else 32}" for ip in ips]
    host.namespace.ip([spare_address(place) for place in places])
    try:
        yield
    finally:
        host.namespace.ip([f"address delete {place} dev eth0" for place in places])


# What tests say about what they saw.


def assert_even(servers: Counter[str], names: Iterable[str]) -> None:
    """Check that tries spread over servers as a fair draw spreads them.

    Six standard deviations on either side: a fair draw falls outside once in 500 million times.
    """
    names = list(names)
    tries, share = servers.total(), 1 / len(names)
    leeway = 6 * (tries * share * (1 - share)) ** 0.5
    assert set(servers) == set(names)
    assert all(abs(servers[name] - tries * share) <= leeway for name in names), servers


def assert_all(tally: Tally, *, servers: Iterable[str], source: str | None = None) -> None:
    """Check that every try was answered, by just these servers, and that they saw just this source."""
    assert not tally.failures, tally.failures[:3]
    assert set(tally.servers) == set(servers)
    if source is not None:
        assert set(tally.sources) == {source}


def patience_for(outcome: Outcome) -> float:
    """For how many seconds to wait where this is to come: silence is short, and all else may be late."""
    return SILENCE if outcome is Outcome.DROPPED else PATIENCE


def assert_refused(answer: Answer) -> None:
    """Check that somebody said no, and to the first SYN: the second comes a second later."""
    assert answer.outcome is Outcome.REFUSED
    assert answer.sent_again == 0
