"""A loop with all its surroundings made up: backends that keep what they are told, and observers that remember."""

from collections.abc import Callable, Mapping, Set
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from kproxy.api.kinds import Kind
from kproxy.api.types import ApiObject, ObjectKey
from kproxy.backends.base import BackendError, Counts, SyncReport
from kproxy.node.facts import node_facts
from kproxy.plan.model import Destination, Plan
from kproxy.plan.settings import ProxySettings
from kproxy.proxier.inbox import Inbox
from kproxy.proxier.loop import Proxier
from kproxy.proxier.pacing import Pacer
from kproxy.state.model import IPFamily, ServicePortName
from tests.kit.apiserver.objects import make_node, make_service, make_slice
from tests.kit.waiting import running


class FakeBackend:
    """Keeps what it was told last, as the kernel would; fails while told to."""

    def __init__(self, family: IPFamily) -> None:
        self.family = family
        self.endpoints: dict[str, list[str]] = {}
        self.service_cidrs: tuple[str, ...] = ()
        self.calls: list[tuple[frozenset[str], bool]] = []
        self.error: BackendError | None = None
        self.has_drifted = False
        self.closed = False

    def apply(self, plan: Plan, changed: Set[ServicePortName], *, full: bool) -> SyncReport:
        self.calls.append((frozenset(str(name) for name in changed), full))
        if self.error is not None:
            raise self.error
        self.has_drifted = False
        self.service_cidrs = plan.node.service_cidrs
        self.endpoints = {
            str(name): [str(endpoint) for endpoint in service.cluster_endpoints]
            for name, service in plan.services.items()
        }
        return SyncReport(full=full, rules={"nat": 1, "filter": 1})

    def drifted(self) -> bool:
        return self.has_drifted

    def counts(self) -> Counts:
        return Counts()

    def udp_frontends(self) -> Set[Destination]:
        return set()

    def cleanup(self) -> None:
        self.endpoints = {}

    def close(self) -> None:
        self.closed = True


class Recorder:
    """An observer that remembers by what name it was called."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: self.events.append((name, args or kwargs))

    def names(self) -> list[str]:
        return [name for name, _ in self.events]


def objects(kind: Kind, *raws: dict[str, Any]) -> Mapping[ObjectKey, ApiObject]:
    found: list[ApiObject] = [msgspec.convert(raw, kind.struct) for raw in raws]
    return {obj.metadata.key: obj for obj in found}


SERVICES = objects(Kind.SERVICE, make_service("web", cluster_ip="10.96.0.10"))
SLICES = objects(Kind.ENDPOINT_SLICE, make_slice("web", endpoints=["10.244.0.11", "10.244.1.12"]))
NODES = objects(Kind.NODE, make_node("node-a"))


class Setup:
    """A proxier with all its surroundings made up."""

    def __init__(self, **settings: Any) -> None:
        self.inbox = Inbox()
        self.v4, self.v6 = FakeBackend(IPFamily.IPV4), FakeBackend(IPFamily.IPV6)
        self.recorder = Recorder()
        self.proxier = Proxier(
            [self.v4, self.v6],
            ProxySettings(),
            lambda node, service_cidrs: node_facts("node-a", node, service_cidrs=service_cidrs),
            self.inbox,
            Pacer(cpu_share=1.0),
            self.recorder,
            **settings,
        )

    def running(self) -> AbstractContextManager[None]:
        return running(self.proxier.run, self.proxier.stop)

    def fill(self) -> None:
        self.inbox.replace(Kind.NODE, NODES)
        self.inbox.replace(Kind.SERVICE, SERVICES)
        self.inbox.replace(Kind.ENDPOINT_SLICE, SLICES)


WEB = {"default/web": ["10.244.0.11:80", "10.244.1.12:80"]}


class Both:
    """An observer that tells two others."""

    def __init__(self, *observers: Any) -> None:
        self._observers = observers

    def __getattr__(self, name: str) -> Callable[..., None]:
        def tell(*args: Any, **kwargs: Any) -> None:
            for observer in self._observers:
                getattr(observer, name)(*args, **kwargs)

        return tell
