"""An API server, a source that watches it, and a sink that remembers: what the tests of the reflector stand on."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from kproxy.api.decode import convert_object
from kproxy.api.kinds import Kind, ObjectKind
from kproxy.api.selection import wanted
from kproxy.api.status import WatchStatus
from kproxy.api.transport.access import AccessOptions
from kproxy.api.transport.client import ApiClient
from kproxy.api.transport.credentials import Credentials
from kproxy.api.types import ApiObject, ObjectKey
from kproxy.api.watch.listwatch import Timing
from kproxy.api.watch.source import ApiSource
from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.objects import make_service
from tests.kit.sources.recording import DEADLINE, RecordingSink

NODE = "node-a"
FAST = Timing(idle=1.0, list_idle=0.4, too_short=0.05, first_retry=0.01, last_retry=0.05)
QUIET = FAST._replace(idle=60.0)
"""So patient that nothing is noticed by silence."""


class Observed:
    """Remembers the codes that the client saw."""

    def __init__(self) -> None:
        self.codes: list[str] = []

    def finished(self, verb: str, host: str, code: str, seconds: float) -> None:
        assert verb
        assert host
        assert seconds >= 0
        self.codes.append(code)


class World:
    """One source at one server, watching Services only unless told otherwise."""

    def __init__(
        self,
        server: ApiServer,
        kubeconfig: Path,
        *,
        kinds: Sequence[ObjectKind] = (Kind.SERVICE,),
        optional: Sequence[ObjectKind] = (),
        timing: Timing = FAST,
        fallbacks: tuple[str, ...] = (),
    ) -> None:
        self.server = server
        self.kubeconfig = kubeconfig
        self.sink = RecordingSink()
        self.observed = Observed()
        credentials = Credentials(AccessOptions(kubeconfig=str(kubeconfig), fallbacks=fallbacks))
        self.client = ApiClient(credentials, self.observed)
        self.source = ApiSource(self.client, self.sink, NODE, kinds, optional, timing)

    @property
    def status(self) -> WatchStatus:
        return self.source.statuses[0]

    def put(self, *names: str, address: str = "10.96.0.1") -> None:
        for name in names:
            self.server.put(make_service(name, cluster_ip=address))

    def delete(self, *names: str) -> None:
        for name in names:
            assert self.server.delete("services", "default", name)

    def truth(self, kind: ObjectKind = Kind.SERVICE) -> dict[ObjectKey, ApiObject]:
        """What the server holds, as a sink should have got it."""
        objects = [convert_object(kind, raw).object for raw in self.server.objects(kind.resource)]
        return {obj.metadata.key: obj for obj in objects if obj is not None and wanted(kind, obj, NODE)}

    def in_step(self, kind: ObjectKind = Kind.SERVICE) -> None:
        """Wait until the sink holds what the server holds."""
        self.sink.wait(lambda: self.sink.state.get(kind) == self.truth(kind), f"{kind} in step")

    def watching(self) -> None:
        """Wait until the sink is in step and a watch stands open."""
        self.in_step()
        self.server.requests.wait_open("services")

    @property
    def removed(self) -> list[str]:
        """Names of what the sink lost at any time, in order."""
        return [key.name for key in self.sink.removed]


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll for what no sink tells."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"not seen in {DEADLINE} s: {what}"
        time.sleep(0.005)


@contextmanager
def running(world: World) -> Iterator[World]:
    world.source.start()
    try:
        yield world
    finally:
        world.source.stop()


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one node, and nothing to spread."""
    monkeypatch.setattr("kproxy.api.watch.relists._SPREAD", 1 / 600)


@pytest.fixture
def quiet_world(api_server: ApiServer, kubeconfig: Path, narrow: None) -> World:
    """A world with two Services, where time alone brings nothing about."""
    del narrow
    world = World(api_server, kubeconfig, timing=QUIET)
    world.put("a", "b")
    return world


def reasons(world: World) -> dict[str, int]:
    """Why lists were asked for again, and how many times."""
    return dict(world.status.relists)
