"""HTTP to the API server, down to raw bytes: urllib3's connection pools with Kubernetes' credentials and manners.

A request goes to the server that answered last, and if that one is out of reach, to the others in turn. A refusal (401)
or a certificate that isn't trusted has the credentials read again, once. Everything else that goes wrong is an
exception whose text is one line for people: `UnreachableError` where nobody answered, `RefusedError` where somebody
said no. Retrying is for the caller, who knows what waiting costs.

Dead peers are noticed: the kernel probes idle connections and gives up within half a minute, and whoever reads sets a
patience of its own, because a hung server answers the kernel's probes all the same.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import NamedTuple, Protocol
from urllib.parse import urlencode, urlsplit

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from kproxy import __version__, logs
from kproxy.api.transport.access import Access, AccessError
from kproxy.api.transport.credentials import Credentials
from kproxy.api.transport.failures import RefusedError, UnreachableError, Way, refusal, unreachable
from kproxy.api.transport.pools import Connections, Pools, shut

CONNECT_SECONDS = 10.0
"""For reaching a server or the proxy before it, each address anew; a proxy's own CONNECT included."""
PATIENCE_SECONDS = 60.0
MERGE_PATCH = "application/merge-patch+json"
_CHUNK = 1 << 16
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

    def __init__(self, response: BaseHTTPResponse, way: Way) -> None:
        self._response = response
        self._way = way
        self.server = way.server

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
            raise unreachable(self._way, error) from error

    def read(self) -> bytes:
        """Return the whole body."""
        return b"".join(self.chunks())

    def abort(self) -> None:
        """Break it off while another thread reads it, who gets `UnreachableError`."""
        shut(self._response.connection)

    def close(self) -> None:
        """Be done with it; a body that was not read to its end costs the connection."""
        self._response.close()


class _Request(NamedTuple):
    verb: str
    target: str
    body: bytes | None
    patience: float
    content_type: str = "application/json"


class ApiClient:
    """Requests to the API server. Any thread may use it; connections are pooled.

    Making one raises `kproxy.api.transport.access.AccessError` if the credentials are no use; nothing is sent yet.
    """

    def __init__(self, credentials: Credentials, observer: Observer | None = None) -> None:
        self._credentials = credentials
        self._observer = observer
        self._lock = threading.Lock()
        self._connections = Connections()
        self._preferred = ""
        self._pooled = credentials.latest
        self._pools = Pools(self._pooled, self._connections)

    def get(self, path: str, query: Mapping[str, str] | None = None, patience: float = PATIENCE_SECONDS) -> Answer:
        """Ask for ``path``. Raises `UnreachableError`, `RefusedError`."""
        target = f"{path}?{urlencode(query)}" if query else path
        return self._request(_Request("GET", target, None, patience))

    def post(self, path: str, body: bytes, patience: float = PATIENCE_SECONDS) -> bytes:
        """Create what ``body`` (JSON) describes; return what the server made of it.

        Raises `UnreachableError`, `RefusedError`.
        """
        return self._request(_Request("POST", path, body, patience)).read()

    def put(self, path: str, body: bytes, patience: float = PATIENCE_SECONDS) -> bytes:
        """Replace an object by what ``body`` (JSON) describes; return what the server made of it.

        Raises `UnreachableError`, `RefusedError` (409 where it has changed since the version that ``body`` names).
        """
        return self._request(_Request("PUT", path, body, patience)).read()

    def patch(self, path: str, body: bytes, patience: float = PATIENCE_SECONDS) -> bytes:
        """Change an object by a JSON merge patch (RFC 7396); return what the server made of it.

        Raises `UnreachableError`, `RefusedError` (409 where it has changed since the version that ``body`` names).
        """
        return self._request(_Request("PATCH", path, body, patience, MERGE_PATCH)).read()

    def delete(self, path: str, patience: float = PATIENCE_SECONDS) -> None:
        """Delete an object. Raises `UnreachableError`, `RefusedError` (404 where it is gone already)."""
        self._request(_Request("DELETE", path, None, patience)).read()

    def distrust(self, server: str) -> None:
        """Begin with another server next time: this one takes requests but does not keep its word."""
        servers = self._credentials.current().servers
        if server in servers and self._preferred == server:
            self._preferred = servers[(servers.index(server) + 1) % len(servers)]

    def close(self) -> None:
        """Break off everything that is under way in other threads; they get `UnreachableError`, now and ever after."""
        self._connections.shut()
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
        way = Way(server, access)
        try:
            response = self._send(server, request, access)
        except AccessError as error:
            raise UnreachableError(str(error)) from error
        except _BROKEN as error:
            self._observe(request, server, "<error>", began)
            raise unreachable(way, error) from error
        self._observe(request, server, str(response.status), began)
        if response.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise refusal(way, response)
        self._preferred = server
        return Answer(response, way)

    def _send(self, server: str, request: _Request, access: Access) -> BaseHTTPResponse:
        return (
            self._pools_for(access)
            .to(server)
            .urlopen(
                request.verb,
                server + request.target,
                body=request.body,
                headers=_headers(server, request, access),
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=request.patience),
                preload_content=False,
            )
        )

    def _observe(self, request: _Request, server: str, code: str, began: float) -> None:
        if self._observer is not None:
            self._observer.finished(request.verb, urlsplit(server).netloc, code, time.monotonic() - began)

    def _pools_for(self, access: Access) -> Pools:
        """Return the connections to use; new ones where trust, client certificate or proxies have changed."""
        with self._lock:
            if (access.tls, access.proxies) != (self._pooled.tls, self._pooled.proxies):
                _log.info("certificates or proxies have changed, connecting anew", source=access.whose)
                self._pools = Pools(access, self._connections)
                self._pooled = access
            return self._pools


def _headers(server: str, request: _Request, access: Access) -> urllib3.HTTPHeaderDict:
    headers = urllib3.HTTPHeaderDict({"Accept": "application/json", "User-Agent": f"kproxy/{__version__}"})
    if request.body is not None:
        headers["Content-Type"] = request.content_type
    if access.authorization is not None and server.startswith("https:"):  # no token ever travels in the clear
        headers["Authorization"] = access.authorization
    for name, value in access.headers:
        headers.add(name, value)
    return headers
