"""The DNS server on real sockets: both protocols, answers that do not fit, files that change, and others to ask."""

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest
from dns.message import Message

from hack.lab.processes import REPOSITORY

SHOP = REPOSITORY / "hack/tour/shop"
ITEM = "item.shop.svc.cluster.local."
DIG = shutil.which("dig")
PATIENCE = 30.0  # seconds for an answer


@contextmanager
def running(*arguments: str) -> Iterator[int]:
    """The server, on a free port of 127.0.0.1."""
    command = [sys.executable, "-u", "-m", "hack.tour.dns", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        found = re.search(r"port (\d+)$", process.stdout.readline())
        assert found
        try:
            yield int(found[1])
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A server that knows of every change in its folder, and so serves all tests."""
    shop = tmp_path_factory.mktemp("dns") / "shop"
    shutil.copytree(SHOP, shop)
    with running("--manifests", str(shop)) as port:
        yield shop, port


@pytest.fixture
def port(one_server: tuple[Path, int]) -> int:
    return one_server[1]


Way = Callable[..., Message]


def asked(way: Way, name: str, kind: str, port: int) -> Message:
    return way(dns.message.make_query(name, kind), "127.0.0.1", port=port, timeout=PATIENCE)


def addresses(response: Message) -> list[str]:
    return sorted(str(data) for rrset in response.answer for data in rrset)


@pytest.fixture
def shop(one_server: tuple[Path, int]) -> Iterator[Path]:
    """Its folder; once the test is over it is as it was, and the server has seen that."""
    folder, port = one_server
    yield folder
    for file in folder.iterdir():
        file.unlink()
    shutil.copytree(SHOP, folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
    assert addresses(asked(dns.query.udp, ITEM, "A", port)) == ["10.96.0.80"]


@pytest.mark.parametrize("way", [dns.query.udp, dns.query.tcp])
def test_both_protocols_answer(port: int, way: Way) -> None:
    assert addresses(asked(way, ITEM, "A", port)) == ["10.96.0.80"]


def test_several_questions_fit_into_one_connection(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        for name in (ITEM, "nothing.cluster.local.", ITEM):
            query = dns.message.make_query(name, "A")
            dns.query.send_tcp(sock, query)
            response, _ = dns.query.receive_tcp(sock)
            assert query.is_response(response)


def test_what_does_not_fit_into_a_datagram_is_had_by_tcp(shop: Path, port: int) -> None:
    crowd = ",".join(f"{{addresses: [10.1.{n // 250}.{n % 250 + 1}]}}" for n in range(300))
    (shop / "db.yaml").write_text(f"""
{{apiVersion: v1, kind: Service, metadata: {{name: db, namespace: shop}}, spec: {{clusterIP: None}}}}
---
{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, endpoints: [{crowd}],
  metadata: {{name: db-1, namespace: shop, labels: {{kubernetes.io/service-name: db}}}}}}
""")
    name = "db.shop.svc.cluster.local."
    short = asked(dns.query.udp, name, "A", port)
    assert short.flags & dns.flags.TC
    assert len(addresses(asked(dns.query.tcp, name, "A", port))) == 300


def test_the_next_answer_knows_of_every_change(shop: Path, port: int) -> None:
    item = shop / "item.yaml"
    for number in range(81, 90):
        item.write_text(item.read_text().replace(f"10.96.0.{number - 1}", f"10.96.0.{number}"))
        assert addresses(asked(dns.query.udp, ITEM, "A", port)) == [f"10.96.0.{number}"]
    item.unlink()
    assert asked(dns.query.udp, ITEM, "A", port).rcode() == dns.rcode.NXDOMAIN


def test_a_broken_file_leaves_all_as_it_was(shop: Path, port: int) -> None:
    (shop / "pay.yaml").write_text("kind: [")
    assert addresses(asked(dns.query.udp, ITEM, "A", port)) == ["10.96.0.80"]


def test_noise_stops_nothing(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for noise in (b"", b"\0", b"\xff" * 600, dns.message.make_query(ITEM, "A").to_wire()[:-3]):
            sock.sendto(noise, ("127.0.0.1", port))
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        sock.sendall(b"\xff\xff" + b"\0" * 10)
    assert addresses(asked(dns.query.udp, ITEM, "A", port)) == ["10.96.0.80"]


def test_a_response_is_not_answered(port: int) -> None:
    """Else two servers could keep each other busy for ever."""
    response = dns.message.make_response(dns.message.make_query(ITEM, "A"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.sendto(response.to_wire(), ("127.0.0.1", port))
        query = dns.message.make_query(ITEM, "A")
        sock.sendto(query.to_wire(), ("127.0.0.1", port))
        assert query.is_response(dns.message.from_wire(sock.recv(2000)))


def test_other_names_are_asked_of_others(shop: Path) -> None:
    with (
        running("--zone-file", str(REPOSITORY / "hack/tour/outside.zone")) as outside,
        running("--manifests", str(shop), "--forward", "127.0.0.1#1", f"127.0.0.1#{outside}") as port,
    ):
        found = asked(dns.query.udp, "www.example.com.", "A", port)
        assert (addresses(found), found.answer[0].ttl) == (["192.0.2.80"], 300)
        assert asked(dns.query.udp, "nothing.example.com.", "A", port).rcode() == dns.rcode.NXDOMAIN
        assert asked(dns.query.udp, "example.org.", "A", port).rcode() == dns.rcode.REFUSED
        pay = asked(dns.query.udp, "pay.shop.svc.cluster.local.", "A", port)
        assert addresses(pay) == ["192.0.2.8", "pay.example.com."]


def test_dig_is_content(port: int) -> None:
    assert DIG, "this test needs the program dig"
    command = [DIG, "@127.0.0.1", "-p", str(port), "+cookie", ITEM]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "status: NOERROR" in output
    assert re.search(rf"^{re.escape(ITEM)}\s+5\s+IN\s+A\s+10\.96\.0\.80$", output, re.MULTILINE)
    assert "malformed" not in output.lower()


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        command = [
            sys.executable,
            "-m",
            "hack.tour.dns",
            "--manifests",
            str(SHOP),
            "--port",
            str(sock.getsockname()[1]),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 1
    assert done.stderr.startswith("dns: ")
    assert "in use" in done.stderr
    assert done.stderr.count("\n") == 1
