"""What passes through: WebSocket, HTTP/2 from clients and to pods, events as they happen, uploads of any size."""

import hashlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kproxy.ingress.haproxy.engine import Engine
from tests.ingress.haproxy.kit import Pod, get, ingress, slices
from tests.ingress.haproxy.test_tls import secured
from tests.ingress.kit import key_and_certificate, planned, secret

pytestmark = pytest.mark.kernel

HOST = "shop.example.com"


@contextmanager
def raw_pod(address: str, answer: Callable[[socket.socket], None]) -> Iterator[None]:
    """Run a pod that does with its connections what it is told."""
    listening = socket.create_server((address, 8080))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    def handle(connection: socket.socket) -> None:
        with connection:
            answer(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(10)


def read_head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        chunk = connection.recv(1)
        assert chunk, head
        head += chunk
    return head


def test_a_websocket_is_let_through_both_ways(running: Engine) -> None:
    def echo(connection: socket.socket) -> None:
        head = read_head(connection).lower()
        assert b"upgrade: websocket" in head
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        while data := connection.recv(4096):
            connection.sendall(data[::-1])

    running.apply(planned(slices("web", ["10.1.0.9"]), ingress(HOST, "web")).plan)
    with raw_pod("10.1.0.9", echo), socket.create_connection(("127.0.0.1", 80), timeout=10) as client:
        client.sendall(
            f"GET /chat HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert read_head(client).startswith(b"HTTP/1.1 101")
        for message in (b"hello", b"again"):
            client.sendall(message)
            assert client.recv(100) == message[::-1]


def test_events_arrive_as_they_are_sent(running: Engine) -> None:
    more = threading.Event()

    def events(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"9\r\ndata: 1\n\n\r\n")
        assert more.wait(10)
        connection.sendall(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

    running.apply(planned(slices("web", ["10.1.0.9"]), ingress(HOST, "web")).plan)
    with raw_pod("10.1.0.9", events), socket.create_connection(("127.0.0.1", 80), timeout=10) as client:
        client.sendall(f"GET /events HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        read_head(client)
        assert b"data: 1" in client.recv(1000)  # the pod sends no more before this has come
        more.set()
        assert b"data: 2" in client.recv(1000)


def test_an_upload_is_passed_on_while_it_comes(running: Engine) -> None:
    began = threading.Event()
    received = hashlib.sha256()
    size = 64 << 20

    def take(connection: socket.socket) -> None:
        read_head(connection)
        left = size
        while left:
            chunk = connection.recv(1 << 16)
            received.update(chunk)
            left -= len(chunk)
            began.set()
        connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    running.apply(planned(slices("web", ["10.1.0.9"]), ingress(HOST, "web")).plan)
    sent, block = hashlib.sha256(), os.urandom(1 << 20)
    with raw_pod("10.1.0.9", take), socket.create_connection(("127.0.0.1", 80), timeout=30) as client:
        client.sendall(f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {size}\r\n\r\n".encode())
        for number in range(size >> 20):
            client.sendall(block)
            sent.update(block)
            if number == 0:
                assert began.wait(10)  # nothing was kept back for the rest
        assert read_head(client).startswith(b"HTTP/1.1 201")
    assert received.digest() == sent.digest()


def test_clients_speak_http2_over_tls(running: Engine, tmp_path: Path) -> None:
    assert shutil.which("curl"), "this test needs the program curl"
    documents = [slices("web", ["10.1.0.1"]), secured(HOST, "a"), secret("a", host=HOST)]
    running.apply(planned(*documents).plan)
    (tmp_path / "ca.pem").write_text(key_and_certificate(HOST)[1])
    command = ["curl", "-sS", "--http2", "--cacert", str(tmp_path / "ca.pem"), "--resolve", f"{HOST}:443:127.0.0.1"]
    command += ["-o", str(tmp_path / "body"), "-w", "%{http_version} %{http_code}", f"https://{HOST}/"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "2 200"


def test_pods_that_say_so_are_spoken_to_in_http2_over_clear_text(running: Engine, three: dict[str, Pod]) -> None:
    assert three
    seen: list[bytes] = []
    got = threading.Event()

    def note(connection: socket.socket) -> None:
        seen.append(connection.recv(24, socket.MSG_WAITALL))
        got.set()

    h2c = slices("web", ["10.1.0.9"]).replace("port: 80}", "port: 80, appProtocol: kubernetes.io/h2c}")
    assert running.apply(planned(h2c, ingress(HOST, "web")).plan).refused == []
    with raw_pod("10.1.0.9", note):
        assert get(HOST).status in (502, 503)
        assert got.wait(10)
    assert seen[0] == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
