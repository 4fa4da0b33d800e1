"""Ports that are open before anybody serves: who comes early waits, and is answered."""

import socket
import urllib.request
from threading import Thread

import pytest

from kproxy.config import BindAddress
from kproxy.report.http import HttpServers
from kproxy.report.ports import BindError, Ports
from kproxy.report.protocol import Response


@pytest.fixture
def address(port: int) -> BindAddress:
    return BindAddress("127.0.0.1", port)


def test_who_asks_before_there_is_a_server_is_answered_when_there_is(address: BindAddress) -> None:
    ports, answers = Ports(), []

    def ask() -> None:
        with urllib.request.urlopen(f"http://{address}/hello", timeout=30) as answer:
            answers.append(answer.read())

    assert ports.open([address, None])
    early = Thread(target=ask)
    early.start()
    servers = HttpServers(ports=ports)
    servers.start()
    try:
        servers.serve("test", address, {"/hello": lambda _: Response(200, "good morning")})
        early.join(30)
        assert answers == [b"good morning"]
    finally:
        servers.stop()


def test_a_port_that_is_taken_keeps_no_other_shut_and_is_told_of_by_whoever_serves(address: BindAddress) -> None:
    ports = Ports()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        held = BindAddress("127.0.0.1", taken.getsockname()[1])
        assert not ports.open([held, address])
        socket.create_connection((address.host, address.port), 5).close()
        with pytest.raises(BindError, match="already in use"):
            ports.take(held)
    ports.close()


def test_what_nobody_has_taken_is_shut_again(address: BindAddress) -> None:
    ports = Ports()
    ports.open([address])
    ports.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.host, address.port), 5)
