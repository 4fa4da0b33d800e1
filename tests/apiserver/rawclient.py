"""A client that hides nothing: status, headers and body bytes just as the test API server sent them.

The server's own tests look at the bytes; a friendlier client would decode, retry or reconnect.
"""

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Self

from tests.apiserver.kinds import Json
from tests.apiserver.server import ApiServer


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

    def __init__(self, server: ApiServer, *, token: str | None = "", timeout: float = 20) -> None:
        self._token = server.token if token == "" else token
        context = ssl.create_default_context(cadata=server.ca_certificate.decode())
        self.connection = http.client.HTTPSConnection(server.address, server.port, context=context, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

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
        return (json.loads(line) for line in response)
