"""A page over a world of our own making: plans that a test changes, and counters that it sets."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from kproxy.api.decode import convert_object
from kproxy.api.kinds import Kind, ObjectKind
from kproxy.api.types import ApiObject, ObjectKey
from kproxy.config import BindAddress
from kproxy.explain.answer import explain
from kproxy.explain.model import Answer
from kproxy.explain.question import Question
from kproxy.explain.view import View
from kproxy.plan.settings import NodeFacts, ProxySettings
from kproxy.report.http import HttpServers
from kproxy.report.page.answers import Answers, Sources
from kproxy.report.page.board import Counted, Totals
from kproxy.report.page.files import page_routes
from kproxy.report.status import FamilyState, Status, WatchState
from kproxy.state.model import IPFamily, Protocol, ServicePortName
from tests.kit.views import view_of

Manifest = Mapping[str, Any]
FAMILY = IPFamily.IPV4


def service(name: str, number: int, namespace: str = "shop", **spec: Any) -> Manifest:
    """A Service with one port."""
    port = {"name": "http", "port": 80, **spec.pop("port", {})}
    ip = f"10.96.{number // 250}.{number % 250}"
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"clusterIP": ip, "ports": [port], **spec}}


def slice_of(name: str, *ends: tuple[str, str, bool], namespace: str = "shop", port: str = "http") -> Manifest:
    """Its endpoints: address, node, and whether it is ready."""
    places = [{"addresses": [ip], "nodeName": node, "conditions": {"ready": ready}} for ip, node, ready in ends]
    labels = {"kubernetes.io/service-name": name}
    return {
        "metadata": {"name": f"{name}-1", "namespace": namespace, "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": port, "port": 8080}],
        "endpoints": places,
    }


class World:
    """What the page is shown."""

    def __init__(self) -> None:
        self.answers = Answers()
        self.counted: dict[ServicePortName, Totals] = {}
        self.counted_endpoints: dict[tuple[ServicePortName, str], int] = {}
        self.problems: tuple[str, ...] = ()
        self.growing: tuple[ServicePortName, str] | None = None
        """Whose connections are a hundred more at each count."""
        self.explained: Callable[..., Answer] = explain
        self.how_it_does: Status | None = None
        self._view: View

    def show(self, services: Sequence[Manifest], slices: Sequence[Manifest] = ()) -> None:
        """Have these objects, and no others."""
        objects: dict[ObjectKind, dict[ObjectKey, ApiObject]] = {}
        for kind, manifests in ((Kind.SERVICE, services), (Kind.ENDPOINT_SLICE, slices)):
            for manifest in manifests:
                decoded = convert_object(kind, dict(manifest))
                assert decoded.object is not None, decoded.problems
                objects.setdefault(kind, {})[decoded.object.metadata.key] = decoded.object
        facts = NodeFacts(name="node-a", ips={FAMILY: "10.0.0.1"}, pod_cidrs={FAMILY: "10.244.0.0/24"})
        settings = ProxySettings(cluster_cidrs={FAMILY: "10.244.0.0/16"})
        self._view = view_of(objects, FAMILY, settings, facts, frozenset({"10.0.0.1"}))

    def open(self) -> None:
        """Begin to answer."""
        self.answers.open(
            Sources(
                views=lambda: [self._view],
                status=self.status,
                refused=dict,
                changed=dict,
                totals=self.totals,
                endpoints=lambda names: {key: n for key, n in self.counted_endpoints.items() if key[0] in names},
                explain=self.explain,
            )
        )

    def totals(self) -> Counted:
        """Count."""
        if self.growing is not None:
            name, _ = self.growing
            number = self.counted_endpoints[self.growing] = self.counted_endpoints.get(self.growing, 0) + 100
            self.counted[name] = Totals(number, 0, 0)
        return Counted(time.monotonic(), dict(self.counted))

    def explain(self, question: Question) -> Answer:
        """Explain from the plan alone."""
        return msgspec.structs.replace(self.explained([self._view], question), differences=())

    def status(self) -> Status:
        """A node that is well, or what the test has set."""
        if self.how_it_does is not None:
            return self.how_it_does
        family = FamilyState(
            family="IPv4", services=1, endpoints=1, rules=40, last_sync="2026-01-01T00:00:00Z", sync_seconds=0.004
        )
        watches = tuple(WatchState(kind=kind, synced=True, age_seconds=3.0) for kind in ("services", "endpointslices"))
        return Status(
            node="node-a",
            version="0.1.0",
            mode="iptables",
            since="2026-01-01T00:00:00Z",
            uptime_seconds=time.monotonic(),
            healthy=True,
            ready=True,
            watches=watches,
            families=(family,),
            problems=self.problems,
        )


def port(name: str) -> ServicePortName:
    """The only port of one of the shop's Services."""
    return ServicePortName("shop", name, "http", Protocol.TCP)


@contextmanager
def served(world: World) -> Iterator[str]:
    """Serve the page; yield its address."""
    servers = HttpServers()
    servers.start()
    try:
        protocol = servers.protocol(
            lambda request: page_routes(lambda: world.answers)[request.path](request), inline=False
        )
        listener = servers.call(servers.listen(protocol, BindAddress("127.0.0.1", 0)))
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    finally:
        servers.stop()
