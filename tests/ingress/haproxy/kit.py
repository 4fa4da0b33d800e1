"""A running HAProxy for tests: in a network namespace, behind the engine, with servers for pods and real requests."""

import http.client
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any, NamedTuple

from kproxy.ingress.haproxy.engine import Engine
from kproxy.ingress.haproxy.settings import EngineSettings
from tests.kit.netns import need, network_namespace
from tests.kit.waiting import PATIENCE, eventually


class Answer(NamedTuple):
    """What a client got."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def seen(self) -> dict[str, Any]:
        """What the pod says that it has seen."""
        assert self.status == 200, self
        return json.loads(self.body)  # type: ignore[no-any-return]

    @property
    def pod(self) -> str:
        """The pod's name; where no pod has answered, what came instead, which somebody may be waiting to see end."""
        return str(self.seen["pod"]) if self.status == 200 else f"none, but {self.status}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self) -> None:
        """Ask no DNS server what the address is called, as an HTTPServer does: in a pod it waits 10 s for an answer."""
        TCPServer.server_bind(self)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients may go away when they like."""


class Pod:
    """An HTTP server that says who it is and what it was asked."""

    def __init__(self, name: str, address: str, port: int = 8080) -> None:
        self.name, self.address, self.port = name, address, port
        self.delay_s = 0.0
        self.requests = 0
        """How many have come."""
        self.waiting = threading.Event()
        """Set once a request is being delayed."""
        self._server = _Server((address, port), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        pod = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                pod.requests += 1
                if pod.delay_s:
                    pod.waiting.set()
                    time.sleep(pod.delay_s)
                told = {
                    "pod": pod.name,
                    "method": self.command,
                    "path": self.path,
                    "headers": [[name.lower(), value] for name, value in self.headers.items()],
                    "length": len(body),
                }
                text = json.dumps(told).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.send_header("X-Pod", pod.name)
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = answer  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler


@contextmanager
def pods(**addresses: str) -> Iterator[dict[str, Pod]]:
    """Run pods by name."""
    running: dict[str, Pod] = {}
    try:
        for name, address in addresses.items():
            running[name] = Pod(name, address)
        yield running
    finally:
        for pod in running.values():
            pod.close()


@contextmanager
def namespace(folder: Path) -> Iterator[str]:
    """Put this thread into a namespace whose loopback works."""
    need("haproxy")
    with network_namespace(folder) as name:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        subprocess.run(["ip", "address", "add", "10.1.0.254/24", "dev", "lo"], check=True)
        yield name


@contextmanager
def engine(folder: Path, said: list[str] | None = None, **settings: object) -> Iterator[Engine]:
    """Run an engine that is watched, and end HAProxy with it."""
    lines: list[str] = [] if said is None else said
    of = EngineSettings(state_dir=str(folder / "state"), **settings)  # type: ignore[arg-type]
    made = Engine(of, say=lines.append)
    thread = threading.Thread(target=made.watch, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.close(stop=True, grace_s=0.2)
        thread.join(PATIENCE)


def slices(service: str, addresses: Sequence[str], draining: Sequence[str] = (), port: int = 8080) -> str:
    """Return a Service of port 80 and its slice, as YAML."""
    ready = [f'{{addresses: ["{address}"]}}' for address in addresses]
    gone = [
        f'{{addresses: ["{address}"], conditions: {{ready: false, serving: true, terminating: true}}}}'
        for address in draining
    ]
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {service}, namespace: default}}
spec: {{clusterIP: 10.96.0.1, ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {service}-1, namespace: default, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints: [{", ".join(ready + gone)}]
"""


def ingress(host: str, service: str, path: str = "/", kind: str = "Prefix", name: str | None = None) -> str:
    """Return an Ingress of one path, as YAML."""
    return f"""
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name or host.replace("*", "any")}, namespace: default}}
spec:
  rules:
  - host: "{host}"
    http:
      paths: [{{path: "{path}", pathType: {kind}, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}]
"""


def get(
    host: str,
    path: str = "/",
    *,
    port: int = 80,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Make one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        if tls is not None:
            connection.connect()
            connection.sock = tls.wrap_socket(connection.sock, server_hostname=host)
        connection.request(method, path, body, {"Host": host, **(headers or {})})
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


class Load:
    """Clients that ask without a pause, on connections that they keep, and count what goes wrong."""

    def __init__(self, host: str, clients: int = 4) -> None:
        self._host = host
        self._stop = threading.Event()
        self.failed: list[str] = []
        self.answered: dict[str, int] = {}
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        self.await_more(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let all clients end."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    @property
    def total(self) -> int:
        with self._lock:
            return sum(self.answered.values())

    def await_more(self, number: int) -> None:
        """Wait for more answers."""
        wanted = self.total + number
        eventually(lambda: self.total >= wanted or self.failed)

    def _run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._stop.is_set():
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=PATIENCE)
                connection.request("GET", "/", headers={"Host": self._host})
                answer = connection.getresponse()
                answer.read()
                with self._lock:
                    pod = answer.headers.get("X-Pod", "")
                    self.answered[pod] = self.answered.get(pod, 0) + 1
                    if answer.status != 200:
                        self.failed.append(f"status {answer.status}")
                if answer.will_close:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                connection = None
        if connection is not None:
            connection.close()
