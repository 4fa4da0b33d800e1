"""The ways of test_way.py, gone: real HTTPS servers, real proxies; what arrives, and what an error says."""

import base64
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from kproxy import logs
from kproxy.api.transport.access import AccessOptions
from kproxy.api.transport.client import ApiClient
from kproxy.api.transport.credentials import Credentials
from kproxy.api.transport.failures import ApiError, UnreachableError
from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.certs import EXPIRED, TOO_EARLY, Authority, Lifetime
from tests.kit.apiserver.runner import server_context
from tests.kit.clients import works
from tests.kit.proxies import Asked, HttpProxy, ProxyServer, SocksProxy

LIST = "/api/v1/services"
NAME = "k8s.corp"
HOSTS = {NAME: "127.0.0.1"}


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """A server that has a name which only proxies can resolve."""
    with ApiServer(names=[NAME]) as server:
        yield server


def kubeconfig(of: ApiServer, folder: Path, user: Mapping[str, Any] | None = None, /, **cluster: Any) -> Path:
    path = of.kubeconfig(folder / "config", url=f"https://{NAME}:{of.port}")
    config = yaml.safe_load(path.read_text())
    config["clusters"][0]["cluster"].update({name.replace("_", "-"): value for name, value in cluster.items()})
    config["users"][0]["user"].update(user or {})
    path.write_text(yaml.safe_dump(config))
    return path


def client(path: Path | str = "", environ: Mapping[str, str] | None = None, **options: Any) -> ApiClient:
    return ApiClient(Credentials(AccessOptions(kubeconfig=str(path), environ=environ or {}, **options)))


def failure(api: ApiClient) -> str:
    with pytest.raises(ApiError) as error:
        api.get(LIST, patience=5).read()
    assert str(error.value).isprintable()
    return str(error.value).partition(": ")[2]


def tls_of(authority: Authority, *names: str) -> ssl.SSLContext:
    return server_context(authority.issue_server(names), authority.certificate)


# By which proxy


LOGIN = "us er:p@ss:w\u00f6rd"
IN_URL = "us%20er:p%40ss%3Aw%C3%B6rd"
KINDS: dict[str, Callable[[ApiServer], ProxyServer]] = {
    "http": lambda _: HttpProxy(hosts=HOSTS),
    "http with login": lambda _: HttpProxy(hosts=HOSTS, login=LOGIN),
    "https": lambda server: HttpProxy(hosts=HOSTS, context=tls_of(server._authority, "127.0.0.1")),
    "https with login": lambda server: HttpProxy(
        hosts=HOSTS, login=LOGIN, context=tls_of(server._authority, "127.0.0.1")
    ),
    "socks5": lambda _: SocksProxy(hosts=HOSTS),
    "socks5 with login": lambda _: SocksProxy(hosts=HOSTS, login=LOGIN),
}


def url_of(proxy: ProxyServer) -> str:
    return proxy.url.replace(LOGIN, IN_URL)


@pytest.mark.parametrize("place", ["HTTPS_PROXY", "https_proxy", "proxy-url"])
@pytest.mark.parametrize("kind", KINDS)
def test_proxy(server: ApiServer, tmp_path: Path, kind: str, place: str) -> None:
    """The proxy only passes bytes on, and resolves the name; who the server is, is verified through it."""
    with KINDS[kind](server) as proxy:
        if place == "proxy-url":
            api = client(kubeconfig(server, tmp_path, proxy_url=url_of(proxy)), {"NO_PROXY": "*"})
        else:
            api = client(kubeconfig(server, tmp_path), {place: url_of(proxy)})
        assert works(api)
        assert proxy.asked == [Asked(NAME, server.port, proxy.login)]
        assert server.requests.seen("services")[0].header("Authorization") == [f"Bearer {server.token}"]
        assert server.requests.seen("services")[0].header("Proxy-Authorization") == []
        api.close()


@pytest.mark.parametrize("kind", KINDS)
def test_proxy_on_the_way_to_ipv6(tmp_path: Path, kind: str) -> None:
    with ApiServer(address="::1") as server, KINDS[kind](server) as proxy:
        api = client(kubeconfig(server, tmp_path, server=server.url, proxy_url=url_of(proxy)))
        assert works(api)
        assert proxy.asked == [Asked("::1", server.port, proxy.login)]
        api.close()


@pytest.mark.parametrize("kind", ["http", "http with login", "socks5", "socks5 with login"])
def test_proxy_on_the_way_to_plain_http(kind: str) -> None:
    with ApiServer(tls=False) as server, KINDS[kind](server) as proxy:
        server.settings.anonymous = True
        api = client(master=f"http://{NAME}:{server.port}", environ={"HTTP_PROXY": url_of(proxy)})
        assert works(api)
        assert proxy.asked[0] == Asked(NAME, server.port, proxy.login)
        assert server.requests.seen("services")[0].header("Authorization") == []
        api.close()


@pytest.mark.parametrize("kind", KINDS)
def test_closing_breaks_off_a_watch_behind_a_proxy(server: ApiServer, tmp_path: Path, kind: str) -> None:
    with KINDS[kind](server) as proxy:
        api = client(kubeconfig(server, tmp_path, proxy_url=url_of(proxy)))
        answer = api.get(LIST, {"watch": "true"})
        answer.set_patience(60)
        ended = threading.Event()

        def read() -> None:
            with pytest.raises(UnreachableError):
                answer.read()
            ended.set()

        thread = threading.Thread(target=read)
        thread.start()
        server.requests.wait_open("services")
        api.close()
        assert ended.wait(10)
        thread.join()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "127.0.0.1:1", "socks5://127.0.0.1:1"])
def test_what_is_local_is_asked_directly(server: ApiServer, tmp_path: Path, url: str) -> None:
    """As k3s, RKE and kubespray have it: the variables of the whole node, and the server at 127.0.0.1."""
    environ = {"HTTPS_PROXY": url, "HTTP_PROXY": url, "ALL_PROXY": url}
    assert works(client(server.kubeconfig(tmp_path / "config"), environ))
    assert works(client(server.kubeconfig(tmp_path / "config", url=f"https://localhost:{server.port}"), environ))


def test_bypass_follows_the_server_that_is_asked(server: ApiServer, tmp_path: Path) -> None:
    environ = {"HTTPS_PROXY": "http://127.0.0.1:1"}
    assert works(client(kubeconfig(server, tmp_path), environ, master=server.url))
    with HttpProxy(hosts=HOSTS) as proxy:
        path = server.kubeconfig(tmp_path / "local")
        master = f"https://{NAME}:{server.port}"
        assert works(client(path, {"HTTPS_PROXY": proxy.url, "NO_PROXY": "127.0.0.1"}, master=master))
        assert [asked.host for asked in proxy.asked] == [NAME]


def test_proxy_of_its_own_for_each_server(server: ApiServer, tmp_path: Path) -> None:
    environ = {"HTTPS_PROXY": "http://127.0.0.1:1"}
    api = client(kubeconfig(server, tmp_path), environ, fallbacks=(server.url,))
    assert api.get(LIST).server == server.url


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
    config = yaml.safe_load(path.read_text())
    del config["clusters"][0]["cluster"]["server"]
    path.write_text(yaml.safe_dump(config))
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


# What goes wrong with a proxy


@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        (HttpProxy(refuse="403 Forbidden"), r"403 Forbidden: it refuses to connect us; allow it there, or name"),
        (HttpProxy(refuse="503 Busy"), r"503 Busy: it cannot reach the server; check HTTPS_PROXY, or name the server"),
        (HttpProxy(refuse="418 Teapot"), r"418 Teapot; check HTTPS_PROXY"),
        (HttpProxy(), r"502 Bad Gateway: it cannot reach the server"),
        (SocksProxy(), r"cannot reach the server .*; check HTTPS_PROXY"),
    ],
    ids=["forbidden", "busy", "teapot", "unknown host", "socks5 unknown host"],
)
def test_proxy_that_does_not_connect(server: ApiServer, tmp_path: Path, proxy: ProxyServer, expected: str) -> None:
    with proxy:
        text = failure(client(kubeconfig(server, tmp_path), {"HTTPS_PROXY": proxy.url}))
        assert re.match(f"its proxy {proxy.scheme}://127.0.0.1:{proxy.port}:? {expected}", text), text


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
@pytest.mark.parametrize("place", ["HTTPS_PROXY", "proxy-url"])
def test_proxy_that_is_down(server: ApiServer, tmp_path: Path, scheme: str, place: str) -> None:
    url = f"{scheme}://secret:word@127.0.0.1:1"
    cluster = {"proxy_url": url} if place == "proxy-url" else {}
    text = failure(client(kubeconfig(server, tmp_path, **cluster), {"HTTPS_PROXY": url}))
    assert text == f"its proxy {scheme}://127.0.0.1:1: connection refused; check {place}"


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
def test_proxy_that_nobody_knows(server: ApiServer, tmp_path: Path, scheme: str) -> None:
    url = f"{scheme}://no-such-host.invalid:3128"
    text = failure(client(kubeconfig(server, tmp_path), {"https_proxy": url}))
    assert re.match(f"its proxy {url}: its name cannot be resolved: .*; check https_proxy, and the node's DNS", text)


@pytest.mark.parametrize("make", [HttpProxy, SocksProxy])
@pytest.mark.parametrize(
    ("given", "expected"),
    [("", "it asks for a user and a password"), ("u:wrong@", "it does not accept the user and password")],
)
def test_proxy_that_wants_another_login(
    server: ApiServer, tmp_path: Path, make: Callable[..., ProxyServer], given: str, expected: str
) -> None:
    with make(login="u:p") as proxy:
        url = f"{proxy.scheme}://{given}127.0.0.1:{proxy.port}"
        text = failure(client(kubeconfig(server, tmp_path), {"HTTPS_PROXY": url}))
        assert text.startswith(f"its proxy {proxy.scheme}://127.0.0.1:{proxy.port}: ")
        assert text.endswith(f"{expected}; check HTTPS_PROXY")


def test_proxy_that_speaks_no_tls(server: ApiServer, tmp_path: Path) -> None:
    with HttpProxy() as proxy:
        text = failure(client(kubeconfig(server, tmp_path), {"HTTPS_PROXY": f"https://127.0.0.1:{proxy.port}"}))
    assert re.match(
        r"its proxy https://127.*: (it does not speak TLS; check HTTPS_PROXY: write http://|it closed)", text
    )


def test_proxy_of_another_authority(server: ApiServer, tmp_path: Path) -> None:
    with HttpProxy(context=tls_of(Authority(), "127.0.0.1")) as proxy:
        text = failure(client(kubeconfig(server, tmp_path), {"HTTPS_PROXY": proxy.url}))
    assert "the proxy's certificate is not trusted" in text
    assert "held to the same certificate-authority as the server's" in text


def test_server_of_another_name_behind_a_proxy(server: ApiServer, tmp_path: Path) -> None:
    """It is the server's certificate that is to blame, not the proxy."""
    with HttpProxy(hosts={"elsewhere": "127.0.0.1"}) as proxy:
        url = f"https://elsewhere:{server.port}"
        text = failure(client(kubeconfig(server, tmp_path, server=url), {"HTTPS_PROXY": proxy.url}))
    assert text.startswith("its certificate is for another name")
    assert text.endswith(f"(by way of the proxy {proxy.url}, HTTPS_PROXY)")


def test_something_else_where_a_socks_proxy_should_be(server: ApiServer, tmp_path: Path) -> None:
    with HttpProxy() as proxy:
        url = f"socks5://127.0.0.1:{proxy.port}"
        text = failure(client(kubeconfig(server, tmp_path), {"HTTPS_PROXY": url}))
    assert re.match(f"its proxy {url}: that is not the answer of a SOCKS5 proxy .*; check HTTPS_PROXY", text)


def test_silent_proxy(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kproxy.api.transport.client.CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for scheme in ("http", "socks5"):
            url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
            text = failure(client(kubeconfig(server, tmp_path), {"HTTPS_PROXY": url}))
            assert url in text
            assert "it fell silent" in text or "cannot be connected to in time" in text


# Connections


def test_many_connections_at_a_time_are_nothing_to_speak_of(
    server: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """urllib3 warns when it throws connections away that came back to a full pool; the log leaves that out."""
    caplog.handler.addFilter(logs.tells_something)
    api = client(server.kubeconfig(tmp_path / "config"))
    answers = [api.get(LIST) for _ in range(40)]
    for answer in answers:
        answer.read()
    deadline = time.monotonic() + 5
    while any(answer._response.connection is not None for answer in answers) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert caplog.messages == []
    api.close()
