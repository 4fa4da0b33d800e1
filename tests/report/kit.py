"""What tests of HTTP servers share: free ports, a client."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from tests.kit.waiting import PATIENCE

BOTH = ["127.0.0.1", "::1"]


@contextmanager
def free_ports(count: int = 1) -> Iterator[list[int]]:
    """Ports that nobody else takes while the block lasts, and at which nobody listens.

    Who sets SO_REUSEADDR, as servers do, can listen there; who wants any port is given another one.
    """
    with ExitStack() as stack:
        ports = []
        for _ in range(count):
            held = stack.enter_context(socket.socket(socket.AF_INET6))
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("::", 0))
            ports.append(int(held.getsockname()[1]))
        yield ports


class Answer:
    """What a server answers."""

    def __init__(self, port: int, path: str, host: str, method: str, **headers: str) -> None:
        with closing(http.client.HTTPConnection(host, port, timeout=PATIENCE)) as connection:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            self.status = response.status
            self.headers = response.headers
            self.text = response.read().decode()

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def get(port: int, path: str = "/", host: str = "127.0.0.1", method: str = "GET", **headers: str) -> Answer:
    """Ask for a page."""
    return Answer(port, path, host, method, **headers)


def refused(port: int, host: str = "127.0.0.1") -> bool:
    with closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as probe:
        probe.settimeout(PATIENCE)
        return probe.connect_ex((host, port)) != 0
