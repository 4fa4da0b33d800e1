"""The ways of test_way.py, gone: real HTTPS servers; as whom, what arrives, and what an error says. Without proxies."""

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from kproxy import logs
from kproxy.api.transport.failures import UnreachableError
from tests.api.transport.kit import LIST, client, failure, kubeconfig
from tests.api.transport.kit import server as server
from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.certs import EXPIRED, TOO_EARLY, Lifetime
from tests.kit.logged import Logged
from tests.kit.sources.clients import works
from tests.kit.yaml_text import from_yaml, to_yaml

# As whom


def test_headers_as_they_arrive(server: ApiServer, tmp_path: Path) -> None:
    user = {"as": "j\u00e4ne", "as-groups": ["a", "b"], "as-user-extra": {"scopes": ["x"]}}
    assert works(client(kubeconfig(server, tmp_path, user, server=server.url)))
    (request,) = server.requests.seen("services")
    assert request.header("Impersonate-User")[0].encode("utf-8", "surrogateescape") == "j\u00e4ne".encode()
    assert request.header("Impersonate-Group") == ["a", "b"]
    assert request.header("Impersonate-Extra-scopes") == ["x"]


def test_user_and_password_as_they_arrive(server: ApiServer, tmp_path: Path) -> None:
    user = {"username": "u", "password": "p", "token": ""}
    assert "401" in failure(client(kubeconfig(server, tmp_path, user, server=server.url)))
    assert {value for request in server.requests.seen() for value in request.header("Authorization")} == {"Basic dTpw"}


def test_token_file_is_sent_before_a_stale_token(server: ApiServer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(server.token)
    assert works(client(kubeconfig(server, tmp_path, {"token": "stale", "tokenFile": "token"}, server=server.url)))


def test_certificates_are_kept_where_master_names_the_server(server: ApiServer, tmp_path: Path) -> None:
    path = server.kubeconfig(tmp_path / "config", user="system:kube-proxy")
    config = from_yaml(path.read_text())
    del config["clusters"][0]["cluster"]["server"]
    path.write_text(to_yaml(config))
    assert works(client(path, master=server.url))
    assert server.requests.seen("services")[0].user == "system:kube-proxy"


# What goes wrong with the server


def other_authority(server: ApiServer) -> None:
    server.renew_certificate(new_authority=True)


CERTIFICATES: dict[str, tuple[Callable[[ApiServer], None], str]] = {
    "expired": (
        lambda server: server.renew_certificate(lifetime=EXPIRED),
        r"its certificate has expired; renew it, unless it is this node's clock, which shows \d{4}-.* UTC",
    ),
    "too early": (
        lambda server: server.renew_certificate(lifetime=TOO_EARLY),
        r"its certificate is not valid yet; check this node's clock, which shows \d{4}-.* UTC",
    ),
    "other name": (
        lambda server: server.renew_certificate(names=["elsewhere"]),
        r"its certificate is for another name: IP address mismatch; .*or set tls-server-name to one .*https://127.0.0.1",
    ),
    "other authority": (
        other_authority,
        r"its certificate is not trusted: .*; check certificate-authority: the server's is another than that of ",
    ),
}


@pytest.mark.parametrize("name", CERTIFICATES)
def test_certificate_that_will_not_do(server: ApiServer, tmp_path: Path, name: str) -> None:
    path = server.kubeconfig(tmp_path / "config")
    change, expected = CERTIFICATES[name]
    server.stop()
    change(server)
    server.start()
    api = client(path)
    assert re.match(expected, failure(api))
    with pytest.raises(UnreachableError) as error:
        api.get(LIST)
    assert error.value.untrusted


def test_certificate_without_the_tls_server_name(server: ApiServer, tmp_path: Path) -> None:
    text = failure(client(kubeconfig(server, tmp_path, server=server.url, tls_server_name="other")))
    assert "for another name: host name mismatch" in text
    assert "(asked for was tls-server-name other)" in text


def test_names_count_where_they_are_alternative_names_only(server: ApiServer, tmp_path: Path) -> None:
    """As in Go: the common name, kube-apiserver here, is nobody's name."""
    server.stop()
    server._certificate = server._authority.issue_client("localhost")
    server.start()
    with pytest.raises(UnreachableError):
        works(client(server.kubeconfig(tmp_path / "config", url=f"https://localhost:{server.port}")))


@pytest.mark.parametrize(
    ("lifetime", "expected"),
    [
        (EXPIRED, r"has expired on \d{4}-\d\d-\d\d; renew it"),
        (TOO_EARLY, r"is not valid before \d{4}-.* UTC; check this node's clock"),
    ],
)
def test_client_certificate_out_of_its_time(
    server: ApiServer, tmp_path: Path, lifetime: Lifetime, expected: str
) -> None:
    pair = server._authority.issue_client("node", lifetime=lifetime)
    (tmp_path / "crt").write_bytes(pair.certificate)
    (tmp_path / "key").write_bytes(pair.key)
    user = {"token": "", "client-certificate": "crt", "client-key": "key"}
    text = failure(client(kubeconfig(server, tmp_path, user, server=server.url)))
    assert re.search(f"the client certificate of kubeconfig .* {expected}", text)


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"exp": 1_600_000_000}, "the token of kubeconfig .* has expired on 2020-09-13 12:26 UTC; renew it"),
        ({"exp": 99_999_999_999}, "it does not accept the credentials of kubeconfig .*; renew them"),
        ({}, "it does not accept the credentials of kubeconfig .*; renew them"),
        ({"exp": "x"}, "it does not accept the credentials of kubeconfig .*; renew them"),
    ],
)
def test_token_that_says_when_it_expired(
    server: ApiServer, tmp_path: Path, claims: Mapping[str, Any], expected: str
) -> None:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    text = failure(client(kubeconfig(server, tmp_path, {"token": f"e30.{payload}.c2ln"}, server=server.url)))
    assert re.search(f"401 Unauthorized: {expected}", text)
    assert payload not in text


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://no-such-host.invalid:6443", "its name cannot be resolved: .*; check the server's URL .*node's DNS"),
        ("https://127.0.0.1:1", "connection refused; check the server's URL in --kubeconfig or --master"),
        ("https://127.0.0.1:{plain}", "it does not speak TLS; check the server's URL"),
        ("http://127.0.0.1:{tls}", "it closed the connection without an answer; if it speaks TLS, write https://"),
        ("http://127.0.0.1:{odd}/go", "400 Bad Request: it speaks TLS; write https:// in its URL"),
        (
            "http://127.0.0.1:{odd}/portal",
            "302 Found: it sends us to http://portal/login, as no API server does; check",
        ),
        ("http://127.0.0.1:{odd}/page", "404 Not Found: not the answer of an API server; check the server's URL"),
    ],
)
def test_wrong_server(server: ApiServer, url: str, expected: str) -> None:
    with ApiServer(tls=False) as plain, odd_server() as odd:
        api = client(master=url.format(plain=plain.port, tls=server.port, odd=odd))
        assert re.match(expected, failure(api))


@contextmanager
def odd_server() -> Iterator[int]:
    """A server that is none of ours: it answers as Go's HTTPS servers do to HTTP, as a portal, and as a web site."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code = 302 if "portal" in self.path else 404 if "page" in self.path else 400
            self.send_response(code)
            self.send_header("Location", "http://portal/login")
            self.end_headers()
            self.wfile.write(b"Client sent an HTTP request to an HTTPS server.\n" if code == 400 else b"<html>")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listener:
        threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True).start()
        yield listener.server_port
        listener.shutdown()


def test_pod_hears_of_its_own_variables(server: ApiServer, tmp_path: Path) -> None:
    folder = server.service_account(tmp_path)
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}
    text = failure(client(environ=environ, service_account=folder))
    assert text.startswith("connection refused; check KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT")


# Connections


def test_many_connections_at_a_time_are_nothing_to_speak_of(server: ApiServer, tmp_path: Path, logged: Logged) -> None:
    """urllib3 warns when it throws connections away that came back to a full pool; the log leaves that out."""
    logged.addFilter(logs.tells_something)
    api = client(server.kubeconfig(tmp_path / "config"))
    answers = [api.get(LIST) for _ in range(40)]
    for answer in answers:
        answer.read()
    deadline = time.monotonic() + 5
    while any(answer._response.connection is not None for answer in answers) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert logged.messages == []
    api.close()
