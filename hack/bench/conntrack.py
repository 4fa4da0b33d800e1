"""What conntrack costs kproxy: looking for what leads to the wrong place, releasing it, and a sync beside that.

    python -m hack.bench.conntrack                       250 flows to each of 200 services; up to 200,000 connections
    python -m hack.bench.conntrack --sizes 20x500 --connections 0 100000

A size is services x flows to each. The flows are real: a pod sends a datagram from that many ports through rules that
kproxy has compiled. pyroute2's own reading of the same entries is the yardstick. The connections are written into the
table, answered and closing, as 10,000 new ones a second leave behind; a hundred are unanswered. Older kernels are
played by asking the question that they understand. CPU seconds are this process's, the kernel's part included. Looks
are the least of some tries; syncs are the median of many, taken in turn without and with a look beside them.
"""

import itertools
import os
import socket
import statistics
import struct
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple
from unittest.mock import patch

import msgspec
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket

from hack.bench import options as common
from hack.bench.report import Report, ms, ratio, report_of
from hack.lab import Lab, Pod
from kproxy.api.types import EndpointSlice, Service
from kproxy.backends.iptables.backend import IptablesBackend
from kproxy.backends.iptables.kernel.legacy.applier import LegacyApplier
from kproxy.conntrack import requests
from kproxy.conntrack.expected import destinations
from kproxy.conntrack.keeper import Keeper
from kproxy.conntrack.looks import Look
from kproxy.conntrack.reconciler import Reconciler
from kproxy.node.facts import node_facts
from kproxy.plan.model import Plan
from kproxy.plan.planner import Planner
from kproxy.plan.settings import ProxySettings
from kproxy.state.model import IPFamily, Protocol, ServicePortName
from kproxy.state.tracker import Tracker
from tests.kit.apiserver.objects import endpoint, make_service, make_slice, service_port, slice_port

PORT, TARGET, FIRST_SOURCE_PORT = 53, 8053, 1024
DEFAULTS = common.Defaults(("200x250",), ("flows", "connections"), 5, ("20x50",), 2)
CONNECTIONS, QUICK_CONNECTIONS = (0, 50_000, 200_000), (0, 1_000)
SYNCS, QUICK_SYNCS = 50, 3
UNANSWERED = 100


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the tables."""
    parser = common.parser("conntrack", __doc__, DEFAULTS)
    parser.add_argument("--connections", type=int, nargs="+", help=f"in the table (default: {CONNECTIONS})")
    options = common.parse(parser, arguments)
    numbers = options.connections or (QUICK_CONNECTIONS if options.quick else CONNECTIONS)
    tries = Tries(options.repeats, QUICK_SYNCS if options.quick else SYNCS)
    report = report_of(options)
    with Lab(nodes=("node-a",)) as lab, tempfile.TemporaryDirectory() as folder:
        os.environ["XTABLES_LOCKFILE"] = f"{folder}/lock"
        one, other, third, client = (lab.add_pod(name) for name in ("one", "other", "third", "client"))
        lab.node.namespace.sysctl("net.netfilter.nf_conntrack_udp_timeout", 600)
        if "flows" in options.modes:
            report.table("Flows of UDP", "flows", "what", "CPU", "wall clock", "ratio, CPU")
            for services, each in options.sizes:
                program(lab, plan_of(services, one.ip))
                send(client, services * each, services)
                with lab.node.namespace.entered():
                    plans = plan_of(services, one.ip), plan_of(services, other.ip)
                    measure_flows(plans, services * each, tries.looks, report)
        if "connections" in options.modes:
            services = options.sizes[0].services
            with lab.node.namespace.entered():
                in_turn = [plan_of(services, one.ip, pod.ip, protocol=Protocol.TCP) for pod in (other, third)]
                measure_connections(in_turn, client.ip, numbers, tries, report)


# --- flows of UDP -----------------------------------------------------------------------------------------------------


def measure_flows(plans: tuple[Plan, Plan], flows: int, tries: int, report: Report) -> None:
    """Print what each kind of look costs, with all flows right, and then with all of them stale."""
    right, changed = plans
    some = next(iter(right.services))
    places = {some.protocol: destinations(right.services[some])}  # to be looked at, though nothing has changed
    reconciler = Reconciler()
    reconciler.reconcile(right, None)
    yardstick = least(read_with_pyroute2, tries)
    rows = {
        "a look at all flows": least(lambda: reconciler.reconcile(right, None), tries),
        "a look at the flows of one service": least(lambda: reconciler.reconcile(right, {some}, places), tries),
        "reading all flows with pyroute2": yardstick,
        "releasing all of them": timed(lambda: check(reconciler.reconcile(changed, None), flows)),
    }
    for what, (cpu, wall) in rows.items():
        report.row(flows, what, ms(cpu, 3), ms(wall, 3), ratio(cpu, yardstick[0]))


def check(released: int | None, flows: int) -> None:
    """Make sure that the figure is about what it says."""
    assert released == flows, f"{released} of {flows} released"


def read_with_pyroute2() -> int:
    """Read what kproxy needs of every flow, the way pyroute2 offers."""
    with NFCTSocket() as sock:
        found = 0
        for message in sock.dump(tuple_orig=NFCTAttrTuple(proto=socket.IPPROTO_UDP)):
            for name in ("CTA_TUPLE_ORIG", "CTA_TUPLE_REPLY"):
                NFCTAttrTuple.from_netlink(socket.AF_INET, message.get_attr(name))
            found += 1
    return found


def send(client: Pod, flows: int, services: int) -> None:
    """Begin that many flows, spread over the services."""
    with client.namespace.entered():
        for number in range(flows):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, suppress(ConnectionRefusedError):
                sock.bind(("", FIRST_SOURCE_PORT + number // services))
                sock.sendto(b"?", (address(number % services), PORT))


# --- connections ------------------------------------------------------------------------------------------------------


class Nobody:
    """A `kproxy.conntrack.keeper.Observer` that doesn't listen."""

    def reconciled(self, family: IPFamily, *, seconds: float, released: int) -> None:
        """See `kproxy.conntrack.keeper.Observer`."""

    def failed(self, family: IPFamily, error: Exception) -> None:
        """See `kproxy.conntrack.keeper.Observer`."""
        raise RuntimeError(family) from error


class Tries(NamedTuple):
    """How often things are done of which the least, or the median, is told."""

    looks: int
    syncs: int


def measure_connections(
    plans: Sequence[Plan], client: str, numbers: Sequence[int], tries: Tries, report: Report
) -> None:
    """Print what a change costs, by how many connections there are in the table."""
    backend = IptablesBackend(IPFamily.IPV4, LegacyApplier(IPFamily.IPV4))
    backend.apply(plans[0], frozenset(plans[0].services), full=True)
    columns = ("a look, CPU", "before 5.15", "before 5.8", "a sync by itself", "a sync beside a look", "ratio, syncs")
    report.table("Connections of TCP", "in the table", *columns)
    table = Connections(client, next(iter(plans[0].services.values())).cluster_endpoints[0].ip)
    for number in sorted(numbers):
        table.fill(number)
        looks = [look(plans, asked, tries.looks) for asked in (requests.dump_request, before_5_15, before_5_8)]
        alone, beside = syncs(backend, plans, tries.syncs)
        report.row(number, *(ms(cpu, 1) for cpu in (*looks, alone, beside)), ratio(beside, alone))


def look(plans: Sequence[Plan], asked: Callable[[IPFamily, Look | None], bytes], tries: int) -> float:
    """Return the least CPU seconds of a look after an endpoint of one service was replaced, which strands nobody."""
    with patch("kproxy.conntrack.kernel.dump_request", asked):
        reconciler = Reconciler()
        reconciler.reconcile(plans[0], None)
        in_turn = itertools.cycle(reversed(plans))
        return least(lambda: check(reconciler.reconcile(next(in_turn), {some_service(plans)}), 0), tries)[0]


def before_5_15(family: IPFamily, look: Look | None) -> bytes:
    """Ask as far as kernels before 5.15 understand: for a protocol, an address and a port."""
    if look is None or len(look.protocols) != 1:
        return before_5_8(family, look)
    request = bytearray(requests.dump_request(family, look))
    without = request[: -8 - 8]  # CTA_STATUS and its mask come last
    struct.pack_into("=I", without, 0, len(without))
    return bytes(without)


def before_5_8(family: IPFamily, look: Look | None) -> bytes:  # noqa: ARG001
    """Ask for everything."""
    return requests.dump_request(family, None)


def syncs(backend: IptablesBackend, plans: Sequence[Plan], number: int) -> tuple[float, float]:
    """Return the median wall clock seconds of a sync of one change: by itself, and while conntrack is looked at."""
    keeper = Keeper(Reconciler(), Nobody(), cpu_share=1)
    in_turn, changed = itertools.cycle(reversed(plans)), {some_service(plans)}
    alone, beside = [], []
    with keeper.running():
        for _ in range(number):
            alone.append(timed(partial(backend.apply, next(in_turn), changed, full=False))[1])
            plan = next(in_turn)
            tried = keeper.synced(plan, changed)
            beside.append(timed(partial(backend.apply, plan, changed, full=False))[1])
            tried.wait()
    return statistics.median(alone), statistics.median(beside)


def some_service(plans: Sequence[Plan]) -> ServicePortName:
    """Return the service that changes: the one that most connections are to."""
    return min(plans[0].services)


class Connections:
    """Connections in the node's table, written over netlink; see linux/netfilter/nfnetlink_conntrack.h."""

    def __init__(self, client: str, server: str) -> None:
        self._client, self._server = socket.inet_aton(client), socket.inet_aton(server)
        self._count = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)  # NETLINK_NETFILTER

    def fill(self, number: int) -> None:
        """Have so many in the table, all from one client to one server; the unanswered ones lead to the right place."""
        batch = 100
        for first in range(self._count, number, batch):
            last = first + batch - 1
            self._socket.send(b"".join(self._entry(each, last=each == last) for each in range(first, last + 1)))
            (code,) = struct.unpack_from("=i", self._socket.recv(65536), 16)
            assert code == 0, os.strerror(-code)
        self._count = max(self._count, number)

    def _entry(self, number: int, *, last: bool) -> bytes:
        """The request to make an entry; the kernel answers to the ``last`` of a batch."""
        answered = 0 if number < UNANSWERED else 0x2 | 0x4  # IPS_SEEN_REPLY, IPS_ASSURED
        service, port = divmod(number, 60_000)  # as many connections as there are source ports to each
        ports = struct.pack("!H", 1024 + port), struct.pack("!H", PORT), struct.pack("!H", TARGET + service)
        frontend = socket.inet_aton(address(service))
        content = (
            struct.pack("=BBH", socket.AF_INET, 0, 0)
            + self._tuple(1, self._client, frontend, ports[0], ports[1])
            + self._tuple(2, self._server, self._client, ports[2], ports[0])
            + attribute(3, struct.pack("!I", 0x8 | answered))  # CTA_STATUS, IPS_CONFIRMED
            + attribute(4, attribute(1, attribute(1, bytes([7 if answered else 1]))))  # TIME_WAIT or SYN_SENT
            + attribute(7, struct.pack("!I", 600))  # CTA_TIMEOUT
        )
        flags = 0x001 | 0x400 | (0x004 if last else 0)  # NLM_F_REQUEST, NLM_F_CREATE, NLM_F_ACK
        return struct.pack("=IHHII", 16 + len(content), 1 << 8, flags, number, 0) + content

    def _tuple(self, kind: int, source: bytes, destination: bytes, source_port: bytes, port: bytes) -> bytes:
        ip = attribute(1, source) + attribute(2, destination)
        protocol = attribute(1, bytes([socket.IPPROTO_TCP])) + attribute(2, source_port) + attribute(3, port)
        return attribute(kind, attribute(1, ip) + attribute(2, protocol))


def attribute(kind: int, content: bytes) -> bytes:
    """Return a netlink attribute."""
    return struct.pack("=HH", 4 + len(content), kind) + content + bytes(-len(content) % 4)


# --- common -----------------------------------------------------------------------------------------------------------


def least(action: Callable[[], object], tries: int) -> tuple[float, float]:
    """Return the least CPU and the least wall clock seconds of some tries."""
    found = [timed(action) for _ in range(tries)]
    return min(cpu for cpu, _ in found), min(wall for _, wall in found)


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Return CPU and wall clock seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    action()
    return time.process_time() - cpu, time.perf_counter() - wall


def address(number: int) -> str:
    """Return the ClusterIP of a service by its number."""
    return f"10.96.{number >> 8}.{number & 255}"


def plan_of(services: int, *endpoint_ips: str, protocol: Protocol = Protocol.UDP) -> Plan:
    """Plan that many services, all with the same endpoints."""
    tracker = Tracker(IPFamily.IPV4, "node-a")
    for number in range(services):
        name = f"svc-{number:05}"
        ports = [service_port(PORT, protocol=protocol.upper())]
        tracker.update_service(msgspec.convert(make_service(name, cluster_ip=address(number), ports=ports), Service))
        ends, ports = (
            [endpoint(ip, node="node-a") for ip in endpoint_ips],
            [slice_port(TARGET, protocol=protocol.upper())],
        )
        tracker.update_slice(msgspec.convert(make_slice(name, endpoints=ends, ports=ports), EndpointSlice))
    planner = Planner(ProxySettings(), node_facts("node-a", None), tracker)
    planner.update(tracker.pending)
    return planner.plan


def program(lab: Lab, plan: Plan) -> None:
    """Bring a plan into the node's kernel."""
    with lab.node.namespace.entered():
        backend = IptablesBackend(IPFamily.IPV4, LegacyApplier(IPFamily.IPV4))
        backend.apply(plan, frozenset(plan.services), full=True)


if __name__ == "__main__":
    main()
