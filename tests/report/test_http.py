"""The one HTTP server: addresses, ports in use, pages that break or are slow, nonsense on the wire."""

import asyncio
import errno
import socket
import threading
from contextlib import closing
from typing import Any

import pytest

from kproxy.config import BindAddress
from kproxy.report.http import HttpServers, Routes
from kproxy.report.ports import BindError, open_socket
from kproxy.report.protocol import Request, Response
from tests.kit.logged import Logged
from tests.kit.waiting import PATIENCE, eventually
from tests.report.kit import BOTH, get, refused


def broken(_: Request) -> Response:
    raise ZeroDivisionError


PAGES: Routes = {"/a": lambda _: Response(200, "hello"), "/broken": broken}


@pytest.mark.parametrize("host", BOTH)
def test_the_empty_host_answers_in_both_families(servers: HttpServers, port: int, host: str) -> None:
    servers.serve("test", BindAddress("", port), PAGES)
    answer = get(port, "/a", host)
    assert (answer.status, answer.text) == (200, "hello")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "aiohttp" not in answer.headers["Server"]


def test_the_empty_host_does_without_ipv6(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def only_ipv4(family: int = -1, *args: int, **more: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *args, **more)

    monkeypatch.setattr("kproxy.report.ports.socket.socket", only_ipv4)
    listener = open_socket(BindAddress("", port))
    monkeypatch.undo()
    with closing(listener):
        assert listener.getsockname() == ("0.0.0.0", port)


@pytest.mark.parametrize(("host", "other"), [("127.0.0.1", "::1"), ("::1", "127.0.0.1")])
def test_an_address_answers_there_only(servers: HttpServers, port: int, host: str, other: str) -> None:
    servers.serve("test", BindAddress(host, port), PAGES)
    assert get(port, "/a", host).status == 200
    assert refused(port, other)


def test_no_address_serves_nothing(servers: HttpServers) -> None:
    servers.serve("test", None, PAGES)


def test_unknown_pages_and_methods(servers: HttpServers, port: int) -> None:
    servers.serve("test", BindAddress("", port), PAGES)
    assert (get(port, "/x").status, get(port, "/x").text) == (404, "no such page; there are: /a /broken\n")
    assert get(port, "/a?query=1").text == "hello"
    assert get(port, "/a", method="POST").status == 405
    assert get(port, "/a", method="POST").headers["Allow"] == "GET, HEAD"
    head = get(port, "/a", method="HEAD")
    assert (head.status, head.text, head.headers["Content-Length"]) == (200, "", "5")


def test_a_broken_page_harms_nobody_else(servers: HttpServers, port: int, logged: Logged) -> None:
    servers.serve("test", BindAddress("", port), PAGES)
    answer = get(port, "/broken")
    assert answer.status == 500
    assert "Traceback" not in answer.text
    assert "Error handling request" in logged.text
    assert get(port, "/a").status == 200


def test_nonsense_on_the_wire_harms_nobody_else(servers: HttpServers, port: int) -> None:
    servers.serve("test", BindAddress("", port), PAGES)
    with closing(socket.create_connection(("127.0.0.1", port), 5)) as bad:
        bad.sendall(b"\x16\x03\x01\x02\x00\x01 not http\r\n\r\n")
        assert b"400" in bad.recv(1000).split(b"\r\n")[0]
    assert get(port, "/a").status == 200


def test_a_slow_page_does_not_hold_up_the_others(servers: HttpServers, port: int) -> None:
    release = threading.Event()

    def slow(_: Request) -> Response:
        release.wait(PATIENCE)
        return Response(200, "slow")

    servers.serve("test", BindAddress("", port), {**PAGES, "/slow": slow})
    answers: list[str] = []
    waiting = threading.Thread(target=lambda: answers.append(get(port, "/slow").text))
    waiting.start()
    assert get(port, "/a").text == "hello"
    assert not answers
    release.set()
    waiting.join(PATIENCE)
    assert answers == ["slow"]


def test_a_port_in_use_is_an_error_with_a_remedy_where_that_is_asked_for(servers: HttpServers, port: int) -> None:
    servers.serve("first", BindAddress("", port), PAGES)
    with pytest.raises(BindError) as caught:
        servers.serve("second", BindAddress("", port), PAGES, hard_fail=True)
    assert str(caught.value) == (
        f"can't listen at [::]:{port}: already in use; see who has it with: ss -ltnp sport = :{port}"
    )


def test_an_address_the_machine_does_not_have_is_an_error(servers: HttpServers, port: int) -> None:
    with pytest.raises(BindError, match="the machine does not have this address"):
        servers.serve("test", BindAddress("203.0.113.7", port), PAGES, hard_fail=True)


def test_a_port_in_use_is_waited_for_otherwise(servers: HttpServers, port: int) -> None:
    with closing(socket.create_server(("127.0.0.1", port))):
        servers.serve("test", BindAddress("127.0.0.1", port), PAGES, retry_seconds=0.02)
    eventually(lambda: not refused(port))
    assert get(port, "/a").status == 200


def test_stopping_waits_for_no_port(port: int) -> None:
    servers = HttpServers()
    servers.start()
    with closing(socket.create_server(("127.0.0.1", port))):
        servers.serve("test", BindAddress("127.0.0.1", port), PAGES, retry_seconds=3600)
        eventually(lambda: asyncio.all_tasks(servers._loop))
        (waiting,) = asyncio.all_tasks(servers._loop)
        servers.stop()
    assert waiting.cancelled()


def test_stopping_closes_everything_at_once(port: int) -> None:
    servers = HttpServers()
    servers.start()
    servers.serve("test", BindAddress("", port), PAGES)
    with closing(socket.create_connection(("127.0.0.1", port), 5)) as idle:
        idle.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"hello" in idle.recv(1000)
        servers.stop()
        assert idle.recv(10) == b""
    assert refused(port)
    servers.stop()


@pytest.mark.parametrize("steps", range(4))
def test_who_comes_just_before_the_end_hears_of_it(servers: HttpServers, port: int, steps: int) -> None:
    """An answer, the end or a reset: not nothing at all, whichever step of the event loop the closing falls into."""
    protocol = servers.protocol(PAGES["/a"], inline=True)

    async def come_and_close() -> socket.socket:
        listener = await servers.listen(protocol, BindAddress("127.0.0.1", port))
        client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        client.sendall(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        for _ in range(steps):
            await asyncio.sleep(0)
        await servers.close(listener)
        return client

    with closing(servers.call(come_and_close())) as client:
        try:
            heard = client.recv(1000)
        except ConnectionResetError:
            heard = b""
    assert heard == b"" or heard.startswith(b"HTTP/1.1 200")
