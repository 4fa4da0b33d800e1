"""How long a new connection takes, depending on the number of services and on the place of its own among them.

    python -m hack.bench.connect
    python -m hack.bench.connect --sizes 10 30000 --modes large nftables --repeats 1000

Client and server are pods on one node. The rules are compiled by kproxy and loaded by its own applier. The yardstick is
the same client connecting to the same server's own address before there are any rules of services. *To the pod itself*
is the same with the rules, which every new connection has to pass, whomever it is for.

All are asked in turn, one connection each, and a figure is the least of the repeats: whatever else the machine does can
only add to it, and where its clock or its neighbours make it slower for a while, that is so for all. *A first time* is
what a connection to a service that nobody has asked lately takes more than the next one to the same: the median over
many services. Its rules are not in the processor's caches then.
"""

import contextlib
import os
import random
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence

import msgspec

from hack.bench import options as common
from hack.bench.report import ratio, report_of, us
from hack.lab import Lab
from kproxy.api.types import EndpointSlice, Service
from kproxy.backends.base import Backend
from kproxy.backends.iptables.backend import IptablesBackend
from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.kernel.legacy.applier import LegacyApplier
from kproxy.backends.nftables.backend import NftablesBackend
from kproxy.node.facts import node_facts
from kproxy.plan.planner import Planner
from kproxy.plan.settings import ProxySettings
from kproxy.state.model import IPFamily
from kproxy.state.tracker import Tracker
from tests.kit.apiserver.objects import endpoint, make_service, make_slice, service_port, slice_port

PORT = 8080
NFTABLES = "nftables"
MANY = 500
"""Services that it takes for a median of first times."""
DEFAULTS = common.Defaults(("10", "1000", "10000", "30000"), (*Layout, NFTABLES), 3_000, ("10", "1000"), 200)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    options = common.parse(common.parser("connect", __doc__, DEFAULTS), arguments)
    report = report_of(options)
    columns = ("rules", "services", "to the pod itself", "first", "middle", "last", "ratio, last", "a first time")
    report.table("connect() from pod to pod on one node, through a ClusterIP", *columns)
    with Lab(nodes=("node-a",)) as lab, tempfile.TemporaryDirectory() as folder:
        os.environ["XTABLES_LOCKFILE"] = f"{folder}/lock"
        server, client = lab.add_pod("server"), lab.add_pod("client")
        server.serve(PORT)
        with client.namespace.entered():
            (bare,) = least_connect_seconds([(server.ip, PORT)], options.repeats)
        report.row("none", 0, us(bare), "", "", "", ratio(bare, bare), "")
        for mode in options.modes:
            for services, _ in options.sizes:
                places = [(address(place), 80) for place in (0, services // 2, services - 1)]
                with programmed(lab, services, server.ip, mode), client.namespace.entered():
                    found = least_connect_seconds([(server.ip, PORT), *places], options.repeats)
                    first = us(first_time_seconds(services, options.repeats // 5)) if services >= MANY else ""
                report.row(mode, services, *(us(one) for one in found), ratio(found[-1], bare), first)


def address(number: int) -> str:
    """Return the ClusterIP of a service by its number."""
    return f"10.{96 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


@contextlib.contextmanager
def programmed(lab: Lab, services: int, endpoint_ip: str, mode: str) -> Iterator[None]:
    """Have that many services, all with the one endpoint, in the node's kernel for as long as the block lasts."""
    tracker = Tracker(IPFamily.IPV4, "node-a")
    for number in range(services):
        name = f"svc-{number:05}"
        ports = [service_port(80, name="http")]
        tracker.update_service(msgspec.convert(make_service(name, cluster_ip=address(number), ports=ports), Service))
        ends, ports = [endpoint(endpoint_ip, node="node-a")], [slice_port(PORT, name="http")]
        tracker.update_slice(msgspec.convert(make_slice(name, endpoints=ends, ports=ports), EndpointSlice))
    planner = Planner(ProxySettings(), node_facts("node-a", None), tracker)
    planner.update(tracker.pending)
    with lab.node.namespace.entered():
        backend: Backend
        if mode == NFTABLES:
            backend = NftablesBackend(IPFamily.IPV4)
        else:
            backend = IptablesBackend(IPFamily.IPV4, LegacyApplier(IPFamily.IPV4), Layout(mode))
        backend.apply(planner.plan, tracker.pending, full=True)
    try:
        yield
    finally:
        with lab.node.namespace.entered():
            backend.cleanup()
            backend.close()


def least_connect_seconds(targets: Sequence[tuple[str, int]], tries: int) -> list[float]:
    """Return the shortest time that connect() took to each of the targets, which are tried in turn."""
    rounds = [[connect_seconds(target) for target in targets] for _ in range(tries)]
    return [min(times) for times in zip(*rounds, strict=True)]


def first_time_seconds(services: int, most: int) -> float:
    """Return how much longer the first connection to a service takes than the second: the median over many services."""
    places = random.Random(1).sample(range(services), min(services, most))  # noqa: S311 - no secret
    pairs = [(connect_seconds((address(place), 80)), connect_seconds((address(place), 80))) for place in places]
    return statistics.median(first - second for first, second in pairs)


def connect_seconds(target: tuple[str, int]) -> float:
    """Return how long one connect() takes from the calling thread's network namespace."""
    with socket.socket() as sock:
        sock.settimeout(5)
        began = time.perf_counter()
        sock.connect(target)
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
