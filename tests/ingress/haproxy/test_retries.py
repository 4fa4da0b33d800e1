"""Requests that are tried again: after which answers, how often, and at which endpoint."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from kproxy.ingress.haproxy.engine import Engine
from tests.ingress.gateways import gateway, route
from tests.ingress.haproxy.kit import get, slices
from tests.ingress.haproxy.test_protocols import raw_pod, read_head
from tests.ingress.kit import CLASSES, planned

pytestmark = pytest.mark.kernel

ONCE = "10.1.0.31"
RETRIES = {
    "/some": {"codes": [500, 503], "attempts": 2},
    "/connections": {"attempts": 2},
    "/never": {"codes": [500], "attempts": 0},
    "/usual": None,
}


@pytest.fixture(scope="module", autouse=True)
def applied(running: Engine) -> None:
    rules = [
        {
            "matches": [{"path": {"type": "PathPrefix", "value": path}}],
            "backendRefs": [{"name": "web", "port": 80}],
        }
        | ({"retry": retry} if retry is not None else {})
        for path, retry in RETRIES.items()
    ]
    late = {
        "matches": [{"path": {"value": "/late"}}],
        "timeouts": {"backendRequest": "1s"},
        "retry": {"attempts": 1},
        "backendRefs": [{"name": "web", "port": 80}],
    }
    made = planned(CLASSES, gateway({"name": "http", "port": 8000}), route(*rules, late), slices("web", [ONCE]))
    assert made.problems == ()
    assert running.apply(made.plan).refused == []


@contextmanager
def failing(times: int, fail: Callable[[socket.socket], None]) -> Iterator[list[int]]:
    """Run a pod that fails so often, then answers 200; the list gets an entry for each request."""
    seen: list[int] = []
    lock = threading.Lock()

    def answer(connection: socket.socket) -> None:
        read_head(connection)
        with lock:
            seen.append(1)
            number = len(seen)
        if number <= times:
            fail(connection)
        else:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with raw_pod(ONCE, answer):
        yield seen


def code(number: int) -> Callable[[socket.socket], None]:
    text = f"HTTP/1.1 {number} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
    return lambda connection: connection.sendall(text)


def nothing(_: socket.socket) -> None:
    """Close the connection without a word."""


def too_late(connection: socket.socket) -> None:
    """Wait until the other side has lost its patience."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(100):  # the body, then the end
            pass


@pytest.mark.parametrize(
    ("path", "fail", "times", "status", "requests"),
    [
        ("/some", code(500), 2, 200, 3),
        ("/some", code(503), 1, 200, 2),
        ("/some", code(500), 5, 500, 3),
        ("/some", code(502), 1, 502, 1),
        ("/some", nothing, 1, 200, 2),
        ("/connections", nothing, 2, 200, 3),
        ("/connections", nothing, 9, 502, 3),
        ("/connections", code(500), 1, 500, 1),
        ("/never", code(500), 1, 500, 1),
        ("/usual", code(503), 1, 503, 1),
        ("/late", too_late, 1, 200, 2),
        ("/late", too_late, 9, 504, 2),
    ],
)
def test_how_often_a_request_is_tried(
    path: str, fail: Callable[[socket.socket], None], times: int, status: int, requests: int
) -> None:
    with failing(times, fail) as seen:
        assert get("any.example.com", path, port=8000, method="POST", body=b"x").status == status
    assert len(seen) == requests
