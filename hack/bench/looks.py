"""How often conntrack is looked through after a change, and what that costs, by what has changed.

    python -m hack.bench.looks                            with nothing in the table, and with 50,000 connections
    python -m hack.bench.looks --connections 0 200000

A Service of each kind lives through what Services live through, in one address family and in two; each step is told
apart. A size is how many of them take each step at once x the endpoints that they have at most. A look is a dump of the
kernel's table, which walks all buckets of it; CPU seconds are this process's, the kernel's part included: the least of
some lives. What is in the table belongs to others. Engines make no difference to any of this.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from itertools import product
from typing import Any, NamedTuple, TypeAlias

import msgspec

from hack.bench import options as common
from hack.bench.conntrack import Connections
from hack.bench.options import Size
from hack.bench.report import ms, report_of
from hack.lab import Lab
from kproxy.api.types import EndpointSlice, ObjectKey, Service
from kproxy.conntrack.flows import Flow
from kproxy.conntrack.kernel import KernelConntrack
from kproxy.conntrack.looks import Look
from kproxy.conntrack.reconciler import Reconciler
from kproxy.node.facts import node_facts
from kproxy.plan.planner import Planner
from kproxy.plan.settings import ProxySettings
from kproxy.state.model import IPFamily
from kproxy.state.tracker import Tracker
from tests.kit.apiserver.objects import endpoint, make_service, make_slice, service_port, slice_port

DEFAULTS = common.Defaults(("1x2",), ("single", "dual"), 10, ("1x2",), 2)
CONNECTIONS, QUICK_CONNECTIONS = (0, 50_000), (0, 1_000)
STACKS = {"single": (IPFamily.IPV4,), "dual": tuple(IPFamily)}
CLUSTER_IPS = {IPFamily.IPV4: ip_address("10.96.100.0"), IPFamily.IPV6: ip_address("fd00:10:96::6400")}
VIPS = {IPFamily.IPV4: ip_address("203.0.113.0"), IPFamily.IPV6: ip_address("2001:db8::")}
PODS = {IPFamily.IPV4: ip_address("10.245.0.0"), IPFamily.IPV6: ip_address("fd00:245::")}


class Kind(NamedTuple):
    """Services of one kind."""

    said: str
    ports: tuple[tuple[int, str], ...]
    exposed: bool = False
    """Whether by a node port and a load balancer as well."""


KINDS = (
    Kind("TCP", ((80, "TCP"),)),
    Kind("UDP", ((514, "UDP"),)),
    Kind("UDP, load balanced", ((514, "UDP"),), exposed=True),
    Kind("DNS: UDP and TCP", ((53, "UDP"), (53, "TCP"), (9153, "TCP"))),
)


Pods: TypeAlias = Mapping[int, bool]
"""Endpoints by number, and whether each is leaving."""


class Cost(NamedTuple):
    """Of a step of a life: how many looks, and CPU seconds."""

    looks: int
    cpu: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = common.parser("looks", __doc__, DEFAULTS)
    parser.add_argument("--connections", type=int, nargs="+", help=f"in the table (default: {CONNECTIONS})")
    options = common.parse(parser, arguments)
    numbers = sorted(options.connections or (QUICK_CONNECTIONS if options.quick else CONNECTIONS))
    costs: dict[tuple[Size, str, str], list[Cost]] = defaultdict(list)
    with Lab(nodes=("node-a",)) as lab, lab.node.namespace.entered():
        table = Connections("10.244.0.9", "10.244.0.10")
        for number in numbers:
            table.fill(number)
            for size, mode, kind in product(options.sizes, options.modes, KINDS):
                for step, cost in least(kind, STACKS[mode], size, options.repeats).items():
                    costs[size, kind.said, step].append(cost)
    looks = [f"looks, {mode}" for mode in options.modes]
    cpu = [f"CPU, {mode}, {number:,} in the table" for number in numbers for mode in options.modes]
    report = report_of(options)
    report.table("Looks through conntrack", "services x endpoints", "of", "what happened", *looks, *cpu)
    for (size, said, step), found in costs.items():
        counts = [cost.looks for cost in found[: len(looks)]]
        report.row(str(size), said, step, *counts, *(ms(cost.cpu, 1) for cost in found))


def least(kind: Kind, families: Sequence[IPFamily], size: Size, lives: int) -> dict[str, Cost]:
    """Return what each step of a life costs, the least of some lives."""
    found: dict[str, Cost] = {}
    world = World(families)
    for _ in range(lives):
        for step, cost in world.live(kind, size):
            found[step] = min(found.get(step, cost), cost)
    return found


class World:
    """State, plan and conntrack of a node in some families."""

    def __init__(self, families: Sequence[IPFamily]) -> None:
        facts = node_facts("node-a", None)
        self._families = families
        self._trackers = {family: Tracker(family, "node-a") for family in families}
        self._planners = {family: Planner(ProxySettings(), facts, self._trackers[family]) for family in families}
        self._reconciler = Reconciler(self._open)
        self._looks = 0
        for planner in self._planners.values():
            self._reconciler.reconcile(planner.plan, None)

    def live(self, kind: Kind, size: Size) -> Iterator[tuple[str, Cost]]:
        """Yield the steps of a life, with what each cost."""
        numbers, pods = range(size.services), dict.fromkeys(range(1, size.endpoints + 1), False)
        others = {pod: False for pod in pods if pod != 1}
        for number in numbers:
            self._put(service(kind, self._families, number))
        yield "created", self._see()
        steps: Sequence[tuple[str, Pods]] = (
            ("first endpoints", others),
            ("one more", pods),
            ("one leaves, but serves", pods | {1: True}),
            ("one gone", others),
            ("all gone", {}),
        )
        for step, these in steps:
            for number, family in product(numbers, self._families):
                self._put(slice_of(kind, family, number, these))
            yield step, self._see()
        for number, family in product(numbers, self._families):
            self._trackers[family].delete_service(ObjectKey("default", name_of(number)))
            self._trackers[family].delete_slice(ObjectKey("default", f"{name_of(number)}-{family}"))
        yield "deleted", self._see()

    def _put(self, raw: dict[str, Any]) -> None:
        for tracker in self._trackers.values():
            if raw["kind"] == "Service":
                tracker.update_service(msgspec.convert(raw, Service))
            else:
                tracker.update_slice(msgspec.convert(raw, EndpointSlice))

    def _see(self) -> Cost:
        """Have conntrack looked at for what has changed."""
        self._looks, cpu = 0, 0.0
        for family in self._families:
            pending = frozenset(self._trackers[family].pending)
            changed = self._planners[family].update(pending)
            self._trackers[family].applied(pending)
            begun = time.process_time()
            self._reconciler.reconcile(self._planners[family].plan, changed)
            cpu += time.process_time() - begun
        return Cost(self._looks, cpu)

    def _open(self, family: IPFamily) -> KernelConntrack:
        return _Counted(family, self)

    def looked(self) -> None:
        """Count a look."""
        self._looks += 1


class _Counted(KernelConntrack):
    def __init__(self, family: IPFamily, world: World) -> None:
        super().__init__(family)
        self._world = world

    def flows(self, look: Look) -> Iterator[Flow]:
        self._world.looked()
        return super().flows(look)


def name_of(number: int) -> str:
    """Return the name of a Service."""
    return f"bench-{number}"


def service(kind: Kind, families: Sequence[IPFamily], number: int) -> dict[str, Any]:
    """Return a Service."""
    node_port = 30000 + number if kind.exposed else None  # those that are exposed have one port
    ports = [
        service_port(port, name=f"p{index}", protocol=protocol, node_port=node_port)
        for index, (port, protocol) in enumerate(kind.ports)
    ]
    addresses = [{"ip": str(VIPS[family] + number), "ipMode": "VIP"} for family in families]
    return make_service(
        name_of(number),
        cluster_ip=[str(CLUSTER_IPS[family] + number) for family in families],
        type="LoadBalancer" if kind.exposed else "ClusterIP",
        ports=ports,
        status={"loadBalancer": {"ingress": addresses if kind.exposed else []}},
    )


def slice_of(kind: Kind, family: IPFamily, number: int, pods: Pods) -> dict[str, Any]:
    """Return one family's slice of a Service."""
    return make_slice(
        name_of(number),
        name=f"{name_of(number)}-{family}",
        endpoints=[
            endpoint(str(PODS[family] + number * 100 + pod), node="node-b", ready=not leaves, terminating=leaves)
            for pod, leaves in pods.items()
        ],
        address_type="IPv4" if family is IPFamily.IPV4 else "IPv6",
        ports=[slice_port(8000 + i, name=f"p{i}", protocol=protocol) for i, (_, protocol) in enumerate(kind.ports)],
    )


if __name__ == "__main__":
    main()
