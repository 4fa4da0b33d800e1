"""What tests of HTTP servers share: a free port, a client, patience."""

import http.client
import json
import socket
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

BOTH = ["127.0.0.1", "::1"]


def free_port() -> int:
    with closing(socket.socket(socket.AF_INET6)) as probe:
        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        probe.bind(("::", 0))
        return int(probe.getsockname()[1])


class Answer:
    """What a server answers."""

    def __init__(self, port: int, path: str, host: str, method: str, **headers: str) -> None:
        with closing(http.client.HTTPConnection(host, port, timeout=5)) as connection:
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


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.01)


def refused(port: int, host: str = "127.0.0.1") -> bool:
    with closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as probe:
        probe.settimeout(5)
        return probe.connect_ex((host, port)) != 0
