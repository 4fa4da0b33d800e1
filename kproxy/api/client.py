"""HTTP to the API server, down to raw bytes: urllib3's connection pools with Kubernetes' credentials and manners.

A request goes to the server that answered last, and if that one is out of reach, to the others in turn. A refusal (401)
or a certificate that isn't trusted has the credentials read again, once. Everything else that goes wrong is an
exception whose text is one line for people: `UnreachableError` where nobody answered, `RefusedError` where somebody
said no. Retrying is for the caller, who knows what waiting costs.

Dead peers are noticed: the kernel probes idle connections and gives up within half a minute, and whoever reads sets a
patience of its own, because a hung server answers the kernel's probes all the same.
"""

import functools
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlencode, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, InsecureRequestWarning
from urllib3.response import BaseHTTPResponse

from kproxy import __version__, logs
from kproxy.api.access import Access, AccessError, tls_context
from kproxy.api.credentials import Credentials
from kproxy.api.failures import RefusedError, UnreachableError, refusal, unreachable

CONNECT_SECONDS = 10.0
PATIENCE_SECONDS = 60.0
_CHUNK = 1 << 16
_KEEPALIVE = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),  # milliseconds for what was sent to be acknowledged
]
_ELSEWHERE = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE)
"""Answers that another server might not give."""

_BROKEN = (HTTPError, OSError, ValueError, AttributeError)
"""What reading from a connection may raise; the last two when it is shut down by another thread meanwhile."""

_log = logs.get("client")


class Observer(Protocol):
    """Learns of every request that has been answered, or failed to be; for metrics."""

    def finished(self, verb: str, host: str, code: str, seconds: float) -> None:
        """Take note: ``verb`` is the HTTP method, ``code`` the status, or ``<error>`` where there was no answer.

        ``seconds`` go up to the headers of the answer, also for watches. May be called from any thread.
        """


class Answer:
    """A successful answer, its body still to be read. Ends with `close`, or by being read to its end."""

    def __init__(self, response: BaseHTTPResponse, server: str) -> None:
        self._response = response
        self.server = server

    def set_patience(self, seconds: float) -> None:
        """Give up reading when nothing comes for so long."""
        connection = self._response.connection
        sock = getattr(connection, "sock", None)
        if sock is not None:
            sock.settimeout(seconds)

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it comes. Raises `UnreachableError` when it breaks off."""
        try:
            yield from self._response.stream(_CHUNK)
        except _BROKEN as error:
            raise unreachable(self.server, error) from error

    def read(self) -> bytes:
        """Return the whole body."""
        return b"".join(self.chunks())

    def close(self) -> None:
        """Be done with it; a body that was not read to its end costs the connection."""
        self._response.close()


class _Request(NamedTuple):
    verb: str
    target: str
    body: bytes | None
    patience: float


class ApiClient:
    """Requests to the API server. Any thread may use it; connections are pooled.

    Making one raises `kproxy.api.access.AccessError` if the credentials are no use; nothing is sent yet.
    """

    def __init__(self, credentials: Credentials, observer: Observer | None = None) -> None:
        self._credentials = credentials
        self._observer = observer
        self._lock = threading.Lock()
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        self._closed = False
        self._preferred = ""
        self._pooled = credentials.current()
        self._pools = self._make_pools(self._pooled)

    def get(self, path: str, query: Mapping[str, str] | None = None, patience: float = PATIENCE_SECONDS) -> Answer:
        """Ask for ``path``. Raises `UnreachableError`, `RefusedError`."""
        target = f"{path}?{urlencode(query)}" if query else path
        return self._request(_Request("GET", target, None, patience))

    def post(self, path: str, body: bytes, patience: float = PATIENCE_SECONDS) -> bytes:
        """Create what ``body`` (JSON) describes; return what the server made of it.

        Raises `UnreachableError`, `RefusedError`.
        """
        return self._request(_Request("POST", path, body, patience)).read()

    def distrust(self, server: str) -> None:
        """Begin with another server next time: this one takes requests but does not keep its word."""
        servers = self._credentials.current().servers
        if server in servers and self._preferred == server:
            self._preferred = servers[(servers.index(server) + 1) % len(servers)]

    def close(self) -> None:
        """Break off everything that is under way in other threads; they get `UnreachableError`, now and ever after."""
        with self._lock:
            self._closed = True
            connections = list(self._connections)
        for connection in connections:
            sock = connection.sock
            if sock is not None:
                try:
                    # Not SSLSocket's own method: that pulls the TLS state from under the thread that is reading.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
                except OSError:
                    continue
        self._pools.clear()

    def _request(self, request: _Request) -> Answer:
        access = self._credentials.current()
        try:
            return self._request_anywhere(request, access)
        except RefusedError as error:
            if error.code != HTTPStatus.UNAUTHORIZED:
                raise
        except UnreachableError as error:
            if not error.untrusted:
                raise
        return self._request_anywhere(request, self._credentials.renew(access))

    def _request_anywhere(self, request: _Request, access: Access) -> Answer:
        servers = list(access.servers)
        if self._preferred in servers:  # begin there, and go round
            start = servers.index(self._preferred)
            servers = servers[start:] + servers[:start]
        for server in servers[:-1]:
            try:
                return self._request_from(server, request, access)
            except UnreachableError as error:
                _log.warning("turning to another API server", error=error)
            except RefusedError as error:
                if error.code not in _ELSEWHERE:
                    raise
                _log.warning("turning to another API server", error=error)
        return self._request_from(servers[-1], request, access)

    def _request_from(self, server: str, request: _Request, access: Access) -> Answer:
        began = time.monotonic()
        try:
            response = self._send(server, request, access)
        except AccessError as error:
            raise UnreachableError(str(error)) from error
        except _BROKEN as error:
            self._observe(request, server, "<error>", began)
            raise unreachable(server, error) from error
        self._observe(request, server, str(response.status), began)
        if response.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise refusal(server, access.whose, response)
        self._preferred = server
        return Answer(response, server)

    def _send(self, server: str, request: _Request, access: Access) -> BaseHTTPResponse:
        headers = {"Accept": "application/json", "User-Agent": f"kproxy/{__version__}"}
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        authorization = access.authorize()
        if authorization is not None and server.startswith("https:"):  # no token ever travels in the clear
            headers["Authorization"] = authorization
        return self._pools_for(access).urlopen(
            request.verb,
            server + request.target,
            body=request.body,
            headers=headers,
            retries=False,
            redirect=False,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=request.patience),
            preload_content=False,
        )

    def _observe(self, request: _Request, server: str, code: str, began: float) -> None:
        if self._observer is not None:
            self._observer.finished(request.verb, urlsplit(server).netloc, code, time.monotonic() - began)

    def _pools_for(self, access: Access) -> urllib3.PoolManager:
        """Return the connections to use; new ones where trust or client certificate have changed."""
        with self._lock:
            if (access.tls, access.proxy) != (self._pooled.tls, self._pooled.proxy):
                _log.info("certificates have changed, connecting anew", source=access.whose)
                self._pools = self._make_pools(access)
                self._pooled = access
            return self._pools

    def _make_pools(self, access: Access) -> urllib3.PoolManager:
        settings: dict[str, Any] = {
            "ssl_context": tls_context(access),
            "server_hostname": access.tls.server_name,
            "socket_options": _KEEPALIVE,
            "maxsize": 4,
        }
        if not access.tls.verify:
            urllib3.disable_warnings(InsecureRequestWarning)  # `Credentials` has warned, better
        pools = urllib3.ProxyManager(access.proxy, **settings) if access.proxy else urllib3.PoolManager(**settings)
        pools.pool_classes_by_scheme = {
            scheme: functools.partial(self._make_pool, pool_class)  # type: ignore[misc]
            for scheme, pool_class in pools.pool_classes_by_scheme.items()
        }
        return pools

    def _make_pool(self, pool_class: Callable[..., Any], *args: Any, **settings: Any) -> Any:
        pool = pool_class(*args, **settings)
        pool.ConnectionCls = functools.partial(self._make_connection, pool.ConnectionCls)
        return pool

    def _make_connection(self, connection_class: Callable[..., Any], *args: Any, **settings: Any) -> Any:
        """Make a connection, remembering it so that `close` finds its socket while some thread waits on it."""
        with self._lock:
            if self._closed:
                raise OSError("kproxy is stopping")
            connection = connection_class(*args, **settings)
            self._connections.add(connection)
            return connection
