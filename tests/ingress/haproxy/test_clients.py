"""What pods are told of a client: what strangers say is worth nothing, what trusted proxies say counts."""

import socket
from pathlib import Path

import pytest

from tests.ingress.haproxy.kit import Pod, engine, get, ingress, slices
from tests.ingress.kit import planned

pytestmark = pytest.mark.kernel

HOST = "shop.example.com"
DOCUMENTS = (slices("web", ["10.1.0.1"]), ingress(HOST, "web"))
CLAIMS = {
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example.com",
    "X-Forwarded-User": "root",
    "Forwarded": "for=6.6.6.6",
}


def seen(headers: dict[str, str] | None = None) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in get(HOST, headers=headers).seen["headers"]:
        found.setdefault(name, []).append(value)
    return found


@pytest.mark.usefixtures("three")
def test_what_a_stranger_says_is_not_passed_on(tmp_path: Path) -> None:
    with engine(tmp_path) as made:
        made.apply(planned(*DOCUMENTS).plan)
        found = seen(CLAIMS)
    assert found["x-forwarded-for"] == ["127.0.0.1"]
    assert found["x-forwarded-proto"] == ["http"]
    assert found["x-forwarded-host"] == [HOST]
    assert found["forwarded"] == ["for=127.0.0.1;proto=http"]
    assert "x-forwarded-user" not in found


@pytest.mark.usefixtures("three")
def test_what_a_trusted_proxy_says_is_kept_and_added_to(tmp_path: Path) -> None:
    with engine(tmp_path, trusted=("127.0.0.0/8", "fd00::/8")) as made:
        made.apply(planned(*DOCUMENTS).plan)
        found = seen(CLAIMS)
        bare = seen()
    assert found["x-forwarded-for"] == ["6.6.6.6", "127.0.0.1"]
    assert found["x-forwarded-proto"] == ["https"]
    assert found["x-forwarded-host"] == ["evil.example.com"]
    assert found["forwarded"] == ["for=6.6.6.6", "for=127.0.0.1;proto=http"]
    assert (bare["x-forwarded-for"], bare["x-forwarded-proto"]) == (["127.0.0.1"], ["http"])


def by_proxy_protocol() -> bytes:
    with socket.create_connection(("127.0.0.1", 80), timeout=10) as client:
        request = f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
        client.sendall(b"PROXY TCP4 9.8.7.6 127.0.0.1 1234 80\r\n" + request.encode())
        return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(("trusted", "believed"), [((), True), (("127.0.0.1/32",), True), (("10.99.0.0/16",), False)])
def test_the_proxy_protocol_is_taken_from_whom_it_may_come(
    tmp_path: Path, trusted: tuple[str, ...], believed: bool
) -> None:
    with engine(tmp_path, trusted=trusted, proxy_protocol=True) as made:
        made.apply(planned(*DOCUMENTS).plan)
        answer = by_proxy_protocol()
        assert (b'["x-forwarded-for", "9.8.7.6"]' in answer) is believed, answer
        assert answer.startswith(b"HTTP/1.1 200" if believed else b"HTTP/1.1 400")


@pytest.mark.usefixtures("three")
def test_clients_come_by_either_family(tmp_path: Path, three: dict[str, Pod]) -> None:
    assert three
    with engine(tmp_path) as made:
        made.apply(planned(*DOCUMENTS).plan)
        with socket.create_connection(("::1", 80), timeout=10) as client:
            client.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert b'["x-forwarded-for", "::1"]' in answer
    assert b'for=\\"[::1]\\";proto=http' in answer
