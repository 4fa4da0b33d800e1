"""In turn, in each engine's real tables: exact turns, and no favourites where a change comes between connections.

Turns begin anew when their rules are written, and in the legacy tables whenever any rule is. Each datagram here begins
a connection. Two services change by turns: the one that is asked, and another.
"""

import select
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from hack.lab.namespaces import await_addresses
from kproxy.backends.base import Backend
from kproxy.backends.iptables.backend import IptablesBackend
from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.kernel.variant import Variant, open_applier
from kproxy.backends.nftables.backend import NftablesBackend
from kproxy.plan.model import Frontend, FrontendKind, NodePlan, Plan, Route, ServicePlan, Target
from kproxy.state.model import Endpoint, IPFamily, Protocol, ServicePortName
from tests.kit.netns import network_namespace
from tests.kit.packets import PATIENCE, assert_even

pytestmark = pytest.mark.kernel

PORT = 8080
ENGINES = {
    "legacy": (1_000, Layout.CLASSIC, Variant.LEGACY),
    "legacy, large": (200, Layout.LARGE, Variant.LEGACY),
    "nft variant": (200, Layout.CLASSIC, Variant.NFT),  # each change takes it a tenth of a second
    "nftables": (1_000, None, None),
}
"""With how many updates each is tried."""


class Pods:
    """Servers at addresses of this namespace's own, and a client that asks from a new port each time."""

    def __init__(self, family: IPFamily, count: int) -> None:
        self._version = socket.AF_INET if family is IPFamily.IPV4 else socket.AF_INET6
        self._service = "10.96.0.1" if family is IPFamily.IPV4 else "fd00:10:96::1"
        self.ips = [f"10.244.0.{n}" if family is IPFamily.IPV4 else f"fd00:244::{n}" for n in range(1, count + 1)]
        place = "/32 dev lo" if family is IPFamily.IPV4 else "/128 dev lo nodad"
        commands = ["link set lo up", *(f"address add {ip}{place}" for ip in (*self.ips, self._service))]
        subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)
        if family is IPFamily.IPV6:
            await_addresses([*self.ips, self._service])
        self._ports = iter(range(10_000, 60_000))  # none twice: conntrack would remember where it went
        self._sockets: dict[socket.socket, str] = {}
        for ip in self.ips:
            server = socket.socket(self._version, socket.SOCK_DGRAM)
            self._sockets[server] = ip
            server.bind((ip, PORT))

    def asked(self) -> str:
        """Connect to the service once; return which pod that came to."""
        with socket.socket(self._version, socket.SOCK_DGRAM) as client:
            client.bind(("", next(self._ports)))
            client.sendto(b"?", (self._service, 80))
        (server,), _, _ = select.select(list(self._sockets), [], [], PATIENCE)
        server.recv(16)
        return self._sockets[server]

    def close(self) -> None:
        for server in self._sockets:
            server.close()


def service(family: IPFamily, number: int, ips: list[str]) -> ServicePlan:
    ip = f"10.96.0.{number}" if family is IPFamily.IPV4 else f"fd00:10:96::{number}"
    return ServicePlan(
        name=ServicePortName("shop", f"web-{number}", "", Protocol.UDP),
        frontends=(Frontend(FrontendKind.CLUSTER_IP, ip, 80),),
        internal=Route(Target.CLUSTER, in_turn=True),
        cluster_endpoints=tuple(Endpoint(ip, PORT) for ip in ips),
    )


@contextmanager
def backend_of(engine: str, family: IPFamily) -> Iterator[Backend]:
    _, layout, variant = ENGINES[engine]
    if variant is None:
        with closing(NftablesBackend(family)) as backend:
            yield backend
    else:
        with closing(open_applier(family, variant)) as applier:
            yield IptablesBackend(family, applier, layout)


def put(backend: Backend, family: IPFamily, *services: ServicePlan, full: bool = False) -> None:
    plan = Plan(node=NodePlan(family=family), services={one.name: one for one in services})
    backend.apply(plan, plan.services.keys(), full=full)


@pytest.mark.parametrize("family", IPFamily)
@pytest.mark.parametrize("engine", ENGINES)
def test_each_of_n_gets_k_of_n_times_k(engine: str, family: IPFamily, tmp_path: Path) -> None:
    with network_namespace(tmp_path), closing(Pods(family, 20)) as pods, backend_of(engine, family) as backend:
        for count in (1, 3, 20):
            wanted = pods.ips[:count]
            put(backend, family, service(family, 1, wanted))
            for rounds in (1, 3):
                got = Counter(pods.asked() for _ in range(count * rounds))
                assert got == dict.fromkeys(wanted, rounds)


@pytest.mark.parametrize("engine", ENGINES)
def test_nobody_is_favoured_by_changes(engine: str, tmp_path: Path) -> None:
    family = IPFamily.IPV4
    updates, _, _ = ENGINES[engine]
    with network_namespace(tmp_path), closing(Pods(family, 7)) as pods, backend_of(engine, family) as backend:
        always, sometimes = pods.ips[:5], pods.ips[5:]
        got: Counter[str] = Counter()
        for number in range(updates):
            extra = sometimes[number // 2 % 2]  # the asked one's own change, then the other's
            put(backend, family, service(family, 1, [*always, extra]), service(family, 2, pods.ips[: 1 + number % 3]))
            got[pods.asked()] += 1
        assert_even(Counter({ip: got[ip] for ip in always}), always)


@pytest.mark.parametrize("engine", ["legacy", "nft variant"])
def test_turns_are_no_drift(engine: str, tmp_path: Path) -> None:
    """Where turns begin is not what rules are compared by."""
    family = IPFamily.IPV4
    with network_namespace(tmp_path), closing(Pods(family, 3)) as pods, backend_of(engine, family) as backend:
        plan = Plan(node=NodePlan(family=family), services={one.name: one for one in [service(family, 1, pods.ips)]})
        backend.apply(plan, plan.services.keys(), full=True)
        for _ in range(5):
            assert not backend.apply(plan, set(), full=True).repaired
