"""The HTTP servers in the pods of chapter 6: each says who it is, what it was asked, and who seems to ask.

They run in threads of the tour's own process: a socket stays in the namespace in which it was made (`hack.lab`).
"""

import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from hack.lab import Host

PORT = 8080


class WebServer(ThreadingHTTPServer):
    """One pod's server. `name` is the pod's."""

    daemon_threads = True

    def __init__(self, host: Host, port: int = PORT) -> None:
        self.name = host.name
        with host.namespace.entered():
            super().__init__((host.ip, port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no new connection."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that has gone."""


class _Handler(BaseHTTPRequestHandler):
    server: WebServer
    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds that a connection may be idle

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        lines = [f"I am {self.server.name}", f"{self.command} {self.path} from {self.client_address[0]}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items() if name.lower() in SHOWN]
        body = "".join(f"{line}\n" for line in lines).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")  # a request, a connection: nothing is hidden from who watches packets
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


SHOWN = ("host", "x-forwarded-for", "x-forwarded-proto", "forwarded")
