"""By which proxy, gone: real HTTPS servers behind real proxies, and what an error says of one."""

import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.api.transport.kit import HOSTS, LIST, NAME, broken_off, client, failure, kubeconfig, tls_of
from tests.api.transport.kit import server as server
from tests.kit.apiserver import ApiServer
from tests.kit.apiserver.certs import Authority
from tests.kit.sources.clients import works
from tests.kit.sources.proxies import Asked, HttpProxy, ProxyServer, SocksProxy

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
        with broken_off(answer, within=10):
            server.requests.wait_open("services")
            api.close()


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
