"""The test API server as tests, the lab and the benchmarks use it: one object, with a thread of its own behind it.

    with ApiServer() as server:
        server.put(make_service("web"))
        server.kubeconfig(tmp_path / "kubeconfig")

Its address stays the same when it is stopped and started again; so do its objects, credentials and certificate, unless
told otherwise. All methods may be called from any thread but the server's own.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.kit.apiserver.certs import LIFETIME, Authority, KeyPair, Lifetime
from tests.kit.apiserver.credentials import write_kubeconfig, write_service_account
from tests.kit.apiserver.faults import FaultTable
from tests.kit.apiserver.kinds import KINDS, Json, Kind, kind_named
from tests.kit.apiserver.requestlog import RequestLog
from tests.kit.apiserver.responder import Responder
from tests.kit.apiserver.rest.api import Settings
from tests.kit.apiserver.rest.store import Snapshot, Store
from tests.kit.apiserver.runner import Runner, server_context

_ALWAYS_NAMED = ("localhost", "127.0.0.1", "::1", "kubernetes", "kubernetes.default.svc")


class ApiServer:
    """An API server on one address. ``port=0`` takes a free one at the first start and keeps it.

    ``names`` are further host names and addresses for the certificate; with ``tls=False`` it speaks plain HTTP.
    """

    def __init__(
        self,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        names: Sequence[str] = (),
        tls: bool = True,
        objects: Iterable[Json] = (),
        settings: Settings | None = None,
        history: int = 20_000,
    ) -> None:
        self.address = address
        self.port = port
        self.store = Store(history=history)
        self.settings = settings or Settings()
        self.faults = FaultTable()
        self.requests = RequestLog()
        self.token = "kproxy-test-token"
        self.tokens: set[str] = {self.token}  # all that are accepted; change it at will
        self._tls = tls
        self._names = [*_ALWAYS_NAMED, address, *names]
        self._authority = _first_authority()
        self._certificate = _first_certificate(tuple(self._names))
        self._runner: Runner | None = None
        self._backup = self.store.snapshot()
        for obj in objects:
            self.put(obj)

    # Life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, on the same port as ever.

        Raises:
            OSError: the address can't be had.
        """
        if self._runner is None:
            context = server_context(self._certificate, self.ca_certificate) if self._tls else None
            self._runner = Runner(self.address, self.port, context, self._make_responder)
            self.port = self._runner.port

    def stop(self) -> None:
        """End everything: connections are cut, new ones refused, until `start`."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            self._unsubscribe()
            runner.stop()

    @property
    def url(self) -> str:
        """Where clients reach the server."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    # Credentials

    @property
    def ca_certificate(self) -> bytes:
        """What clients shall trust, PEM."""
        return self._authority.certificate

    def client_certificate(self, user: str, *groups: str) -> KeyPair:
        """A client certificate that the server accepts."""
        return self._authority.issue_client(user, *groups)

    def kubeconfig(self, path: Path, *, user: str | None = None, url: str | None = None) -> Path:
        """Write a kubeconfig with the token, or for a named ``user`` with a client certificate."""
        pair = None if user is None else self.client_certificate(user)
        return write_kubeconfig(path, url or self.url, self.ca_certificate, self.token if pair is None else pair)

    def service_account(self, folder: Path) -> Path:
        """Write what a pod finds under /var/run/secrets/kubernetes.io/serviceaccount."""
        return write_service_account(folder, self.token, self.ca_certificate)

    def rotate_token(self, token: str) -> None:
        """Accept this token from now on, and no other; what was written to files before is stale."""
        self.token = token
        self.tokens.clear()
        self.tokens.add(token)

    def renew_certificate(
        self, *, new_authority: bool = False, names: Sequence[str] | None = None, lifetime: Lifetime = LIFETIME
    ) -> None:
        """Have another server certificate from the next `start` on; a new authority's is not trusted by old clients."""
        if new_authority:
            self._authority = Authority("kproxy-test-ca-2")
        self._certificate = self._authority.issue_server(self._names if names is None else names, lifetime)

    # Objects

    def put(self, obj: Json, *, version: int | None = None) -> int:
        """Store an object as it is; returns its resource version (``version``, or the next one)."""
        return self.store.put(obj, version=version).version

    def delete(self, resource: str | Kind, namespace: str, name: str, *, version: int | None = None) -> bool:
        """Remove an object (``namespace`` is "" for a Node); tells whether it was there."""
        return self.store.delete(kind_named(resource), namespace, name, version=version) is not None

    def replace_all(self, objects: Iterable[Json]) -> None:
        """Make these the only objects."""
        self.store.replace_all(objects)

    def get(self, resource: str | Kind, namespace: str, name: str) -> Json | None:
        """One object as the server holds it."""
        stored = self.store.get(kind_named(resource), namespace, name)
        return None if stored is None else stored.decoded()

    def objects(self, resource: str | Kind) -> list[Json]:
        """All objects of a kind."""
        return [stored.decoded() for stored in self.store.state(kind_named(resource))]

    @property
    def events(self) -> list[Json]:
        """The Events that clients have reported, of both API groups."""
        return [event for kind in KINDS if kind.plural == "events" for event in self.objects(kind)]

    @property
    def version(self) -> int:
        """The resource version of the last change."""
        return self.store.version

    # Time and history

    def compact(self) -> None:
        """Forget all history: older watches and continue tokens get 410."""
        self.store.compact()

    def snapshot(self) -> Snapshot:
        """Remember all objects and versions, for `restore`."""
        return self.store.snapshot()

    def restore(self, snapshot: Snapshot, *, passed: int = 0, cut: bool = True) -> None:
        """Go back to older objects and versions; all connections are cut, as when a server is set up from a backup.

        ``passed`` versions are gone by before anybody can connect: the cluster's other components write, too. Without
        ``cut``, watches stand, and are silent until the new history passes the place where they are.
        """

        def change() -> None:
            self.store.restore(snapshot)
            if passed:
                self.store.advance(self.store.version + passed)

        if cut:
            self._across_a_cut(change)
        else:
            change()

    def back_up(self) -> None:
        """Remember everything as it is now, for `go_back` and `go_back_unnoticed`."""
        self._backup = self.snapshot()

    def go_back(self) -> None:
        """Restore what `back_up` remembered; all connections are cut."""
        self.restore(self._backup)

    def go_back_and_on(self) -> None:
        """Restore what `back_up` remembered, and pass all versions that there were before anybody can connect."""
        self.restore(self._backup, passed=self.version - self._backup.version + 100)

    def go_back_unnoticed(self) -> None:
        """Restore what `back_up` remembered, with all connections left as they are."""
        self.restore(self._backup, cut=False)

    def new_epoch(self, first_version: int = 1) -> None:
        """Keep the objects, but number versions anew from a low one; all connections are cut."""
        self._across_a_cut(lambda: self.store.new_epoch(first_version))

    def send_bookmarks(self) -> None:
        """Send a bookmark on every watch that wants them; whatever is put after this call comes after it."""
        self._running().call(lambda responder: responder.send_bookmarks())

    def end_watches(self) -> None:
        """End all watches in good order, as if their time had come."""
        self._running().call(lambda responder: responder.end_watches())

    # Faults of whole connections

    def freeze(self) -> None:
        """Not one byte more to anybody, until `thaw`; connections stay open, new ones are accepted."""
        self._running().call(lambda responder: responder.thawed.clear())

    def thaw(self) -> None:
        """End `freeze`: everything held back goes out."""
        self._running().call(lambda responder: responder.thawed.set())

    def cut_connections(self) -> None:
        """Reset every connection; the server goes on."""
        self._running().cut()

    def refuse(self) -> None:
        """Refuse new connections, until `accept`; open ones go on."""
        self._running().listen("refuse")

    def black_hole(self) -> None:
        """Take new connections without ever a byte on them, not even TLS, until `accept`; open ones go on."""
        self._running().listen("black hole")

    def accept(self) -> None:
        """Take new connections and answer them, as ever."""
        self._running().listen("answer")

    def _running(self) -> Runner:
        if self._runner is None:
            raise RuntimeError("the API server is not running: call start() first")
        return self._runner

    def _across_a_cut(self, change: Callable[[], None]) -> None:
        running = self._runner is not None
        self.stop()
        change()
        if running:
            self.start()

    def _make_responder(self) -> Responder:
        responder = Responder(self.store, self.settings, self.tokens, self.faults, self.requests)
        self._unsubscribe = self.store.subscribe(responder.wake_soon)
        return responder


@functools.cache
def _first_authority() -> Authority:
    """The authority that every server of a process begins with; hundreds are started, and keys take their time."""
    return Authority()


@functools.cache
def _first_certificate(names: tuple[str, ...]) -> KeyPair:
    return _first_authority().issue_server(names)
