"""HAProxy's own exporter, passed on: all that it counts, by the names that it gives to things.

It answers at a socket in the state folder, which nobody else may open. Of a request only its scopes are passed on.
"""

import http.client
import socket
from pathlib import Path
from urllib.parse import parse_qs, urlencode

from kproxy.report.protocol import Request, Response

SCOPES = ("global", "frontend", "backend")
"""What is told where nothing is said: figures of every single server are many."""
_KNOWN = {*SCOPES, "server", "listener", "sticktable", "*"}
_TIMEOUT_S = 20.0


class Exporter:
    """A page of the metrics server."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def answer(self, request: Request) -> Response:
        """Return HAProxy's answer; 400 for a scope that it does not know, 503 where it does not answer."""
        scopes = parse_qs(request.query).get("scope", SCOPES)
        if not _KNOWN.issuperset(scopes):
            return Response(400, f"scope is one or more of {', '.join(sorted(_KNOWN))}\n")
        connection = _Connection(self._path)
        try:
            connection.request("GET", f"/metrics?{urlencode([('scope', scope) for scope in scopes])}")
            answer = connection.getresponse()
            kind = answer.headers.get("Content-Type", "text/plain")
            return Response(answer.status, answer.read(), kind)
        except (OSError, http.client.HTTPException):
            return Response(503, "HAProxy does not answer, or is built without its exporter\n")
        finally:
            connection.close()


class _Connection(http.client.HTTPConnection):
    """By a socket of the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """See the base class."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(str(self._path))
