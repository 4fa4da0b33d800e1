"""How long a new connection takes, depending on the number of services and on the place of its own among them.

    python -m hack.bench.connect                 both layouts
    python -m hack.bench.connect --services 10 10000 --tries 1000

Client and server are pods on one node. The rules are compiled by kproxy and loaded by its own applier. Each figure is
the least of many tries: whatever else the machine does can only add to it.
"""

import argparse
import os
import socket
import tempfile
import time
from collections.abc import Sequence

import msgspec

from hack.lab import Lab, Pod
from kproxy.api.types import EndpointSlice, Service
from kproxy.backends.iptables.backend import IptablesBackend
from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.kernel.legacy.applier import LegacyApplier
from kproxy.node.facts import node_facts
from kproxy.plan.planner import Planner
from kproxy.plan.settings import ProxySettings
from kproxy.state.model import IPFamily
from kproxy.state.tracker import Tracker
from tests.kit.apiserver.objects import endpoint, make_service, make_slice, service_port, slice_port

PORT = 8080


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", nargs="+", type=int, default=[10, 1_000, 10_000, 30_000])
    parser.add_argument("--layouts", nargs="+", type=Layout, default=list(Layout))
    parser.add_argument("--tries", type=int, default=3_000)
    options = parser.parse_args(arguments)
    print("| services | layout | first | middle | last |\n|---|---|---|---|---|")
    with Lab(nodes=("node-a",)) as lab, tempfile.TemporaryDirectory() as folder:
        os.environ["XTABLES_LOCKFILE"] = f"{folder}/lock"
        server, client = lab.add_pod("server"), lab.add_pod("client")
        server.serve(PORT)
        for layout in options.layouts:
            for services in options.services:
                program(lab, services, server.ip, layout)
                places = (0, services // 2, services - 1)
                found = [least_connect_seconds(client, address(place), options.tries) for place in places]
                cells = " | ".join(f"{seconds * 1e6:.1f} µs" for seconds in found)
                print(f"| {services:,} | {layout} | {cells} |", flush=True)


def address(number: int) -> str:
    """Return the ClusterIP of a service by its number."""
    return f"10.{96 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def program(lab: Lab, services: int, endpoint_ip: str, layout: Layout) -> None:
    """Bring that many services, all with the one endpoint, into the node's kernel."""
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
        backend = IptablesBackend(IPFamily.IPV4, LegacyApplier(IPFamily.IPV4), layout)
        backend.apply(planner.plan, tracker.pending, full=True)


def least_connect_seconds(client: Pod, ip: str, tries: int) -> float:
    """Return the shortest time that connect() took from a pod."""
    least = float("inf")
    with client.namespace.entered():
        for _ in range(tries):
            with socket.socket() as sock:
                sock.settimeout(5)
                began = time.perf_counter()
                sock.connect((ip, 80))
                least = min(least, time.perf_counter() - began)
    return least


if __name__ == "__main__":
    main()
