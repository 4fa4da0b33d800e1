"""How long it takes to look through conntrack for stale UDP flows, and to release them.

    python -m hack.bench.conntrack                       50,000 flows to 200 services
    python -m hack.bench.conntrack --flows 10000 --services 20

The flows are real: a pod sends a datagram from that many ports through rules that kproxy has compiled. pyroute2's own
reading of the same entries is the yardstick. CPU seconds are this process's, the kernel's part included. Looks are
the least of some tries.
"""

import argparse
import os
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import msgspec
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket

from hack.lab import Lab, Pod
from kproxy.api.types import EndpointSlice, Service
from kproxy.backends.iptables.backend import IptablesBackend
from kproxy.backends.iptables.kernel.legacy.applier import LegacyApplier
from kproxy.conntrack.reconciler import Reconciler
from kproxy.node.facts import node_facts
from kproxy.plan.model import Plan
from kproxy.plan.planner import Planner
from kproxy.plan.settings import ProxySettings
from kproxy.state.model import IPFamily, Protocol, ServicePortName
from kproxy.state.tracker import Tracker
from tests.kit.apiserver.objects import endpoint, make_service, make_slice, service_port, slice_port

PORT, TARGET, FIRST_SOURCE_PORT = 53, 8053, 1024
TRIES = 3
T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flows", type=int, default=50_000)
    parser.add_argument("--services", type=int, default=200)
    options = parser.parse_args(arguments)
    with Lab(nodes=("node-a",)) as lab, tempfile.TemporaryDirectory() as folder:
        os.environ["XTABLES_LOCKFILE"] = f"{folder}/lock"
        one, other, client = (lab.add_pod(name) for name in ("one", "other", "client"))
        lab.node.namespace.sysctl("net.netfilter.nf_conntrack_udp_timeout", 600)
        program(lab, plan_of(options.services, one.ip))
        send(client, options.flows, options.services)
        with lab.node.namespace.entered():
            measure(plan_of(options.services, one.ip), plan_of(options.services, other.ip), options.flows)


def measure(right: Plan, changed: Plan, flows: int) -> None:
    """Print what each kind of look costs, with all flows right, and then with all of them stale."""
    some = next(iter(right.services))
    reconciler = Reconciler()
    reconciler.reconcile(right, None)
    rows: list[tuple[str, Callable[[], object]]] = [
        ("a look at all flows", lambda: reconciler.reconcile(right, None)),
        ("a look at the flows of one service", lambda: reconciler.reconcile(right, {some})),
        ("a change of a TCP service", lambda: reconciler.reconcile(right, {tcp(some)})),
    ]
    print(f"{flows:,} flows\n\n| what | CPU | wall clock |\n|---|---|---|")
    for what, action in rows:
        print(row(what, min(timed(action) for _ in range(TRIES))), flush=True)
    print(row("pyroute2: reading all flows", timed(read_with_pyroute2)), flush=True)
    print(row("releasing all of them", timed(lambda: check(reconciler.reconcile(changed, None), flows))))


def tcp(name: ServicePortName) -> ServicePortName:
    """Return the name of the same port over TCP."""
    return name._replace(protocol=Protocol.TCP)


def check(released: int | None, flows: int) -> None:
    """Make sure that the figure is about what it says."""
    assert released == flows, f"{released} of {flows} released"


def row(what: str, seconds: tuple[float, float]) -> str:
    """Return one line of the table."""
    return f"| {what} | {seconds[0] * 1e3:.3f} ms | {seconds[1] * 1e3:.3f} ms |"


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Return CPU and wall clock seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    action()
    return time.process_time() - cpu, time.perf_counter() - wall


def read_with_pyroute2() -> int:
    """Read what kproxy needs of every flow, the way pyroute2 offers."""
    with NFCTSocket() as sock:
        found = 0
        for message in sock.dump(tuple_orig=NFCTAttrTuple(proto=socket.IPPROTO_UDP)):
            for name in ("CTA_TUPLE_ORIG", "CTA_TUPLE_REPLY"):
                NFCTAttrTuple.from_netlink(socket.AF_INET, message.get_attr(name))
            found += 1
    return found


def address(number: int) -> str:
    """Return the ClusterIP of a service by its number."""
    return f"10.96.{number >> 8}.{number & 255}"


def plan_of(services: int, endpoint_ip: str) -> Plan:
    """Plan that many UDP services, all with the one endpoint."""
    tracker = Tracker(IPFamily.IPV4, "node-a")
    for number in range(services):
        name = f"svc-{number:05}"
        ports = [service_port(PORT, protocol="UDP")]
        tracker.update_service(msgspec.convert(make_service(name, cluster_ip=address(number), ports=ports), Service))
        ends, ports = [endpoint(endpoint_ip, node="node-a")], [slice_port(TARGET, protocol="UDP")]
        tracker.update_slice(msgspec.convert(make_slice(name, endpoints=ends, ports=ports), EndpointSlice))
    planner = Planner(ProxySettings(), node_facts("node-a", None), tracker)
    planner.update(tracker.pending)
    return planner.plan


def program(lab: Lab, plan: Plan) -> None:
    """Bring a plan into the node's kernel."""
    with lab.node.namespace.entered():
        backend = IptablesBackend(IPFamily.IPV4, LegacyApplier(IPFamily.IPV4))
        backend.apply(plan, frozenset(plan.services), full=True)


def send(client: Pod, flows: int, services: int) -> None:
    """Begin that many flows, spread over the services."""
    with client.namespace.entered():
        for number in range(flows):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, suppress(ConnectionRefusedError):
                sock.bind(("", FIRST_SOURCE_PORT + number // services))
                sock.sendto(b"?", (address(number % services), PORT))


if __name__ == "__main__":
    main()
