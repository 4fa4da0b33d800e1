"""A client that hides nothing: status, headers and body bytes just as the test API server sent them.

The server's own tests look at the bytes; a friendlier client would decode, retry or reconnect.
"""

import functools
import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Self

from tests.kit.apiserver.kinds import Json
from tests.kit.apiserver.server import ApiServer

# How a reset shows: Python's ssl module may take ECONNRESET for an unexpected end of file, and then hide that.
CUT = (http.client.IncompleteRead, ConnectionResetError)


class Reply(NamedTuple):
    """A whole answer; header names in lower case."""

    code: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Json:
        """The body, decoded."""
        result: Json = json.loads(self.body)
        return result


class RawClient:
    """One keep-alive connection to the server, with its token unless another one (or None) is given.

    ``timeout`` in seconds is for every single read.
    """

    def __init__(
        self,
        server: ApiServer,
        *,
        token: str | None = "",
        context: ssl.SSLContext | None = None,
        timeout: float = 20,
    ) -> None:
        self._token = server.token if token == "" else token
        self.connection: http.client.HTTPConnection
        if server.url.startswith("http:"):
            self.connection = http.client.HTTPConnection(server.address, server.port, timeout=timeout)
        else:
            context = context or _trusting(server.ca_certificate)
            self.connection = http.client.HTTPSConnection(server.address, server.port, context=context, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def be_impatient(self, seconds: float) -> None:
        """Wait no longer than this for the next bytes of what is open: for tests that expect none."""
        self.connection.sock.settimeout(seconds)

    def open(
        self, path: str, *, method: str = "GET", body: Json | list[Json] | None = None, **headers: str
    ) -> http.client.HTTPResponse:
        """Send a request and return when the headers are there; in header names ``_`` stands for ``-``."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self._token is not None:
            sent["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body)
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        self.connection.request(method, path, body=data, headers=sent)
        return self.connection.getresponse()

    def request(
        self, path: str, *, method: str = "GET", body: Json | list[Json] | None = None, **headers: str
    ) -> Reply:
        """Send a request and read the whole answer."""
        response = self.open(path, method=method, body=body, **headers)
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())

    def watch(self, path: str) -> Iterator[Json]:
        """Open a watch and return its events one by one; the iteration ends with the stream."""
        response = self.open(path)
        if response.status != http.HTTPStatus.OK:
            raise AssertionError(f"{response.status}: {response.read()!r}")
        return (json.loads(line) for line in read_lines(response))


def read_lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The lines of a stream as they come, the last one even if it is broken off.

    Raises:
        http.client.IncompleteRead or ConnectionResetError: the stream was cut, not ended.
    """
    # Not response.readline(): it takes a missing end for a good one.
    rest = b""
    try:
        while data := response.read1(65536):
            *lines, rest = (rest + data).split(b"\n")
            yield from (line + b"\n" for line in lines)
    except CUT:
        if rest:
            yield rest
        raise
    if rest:
        yield rest


@functools.cache
def _trusting(authority: bytes) -> ssl.SSLContext:
    """Servers have one authority, hundreds of clients trust it."""
    return ssl.create_default_context(cadata=authority.decode())
