"""The way to the API server: environment, kubeconfig and flags in; whom to ask, by which proxy, as whom, trusting whom.

Each row is what client-go does with the same, as read from its sources (tools/clientcmd, rest, transport) and from
golang.org/x/net/http/httpproxy; the rows about proxies were also put to Go's net/http itself. Nothing is connected to:
test_way_connected.py and test_proxies_connected.py do that.
"""

from pathlib import Path

import pytest

from kproxy.api.transport.access import Access, tls_context
from kproxy.api.transport.credentials import Credentials
from tests.kit.sources.ways import CA, CERTIFICATE, DATA, FILES, GOOD_EXEC, PAIR, POD, SERVER, Row, as_user, to

PROXY = {"HTTPS_PROXY": "http://proxy:3128"}


def local(host: str) -> Row:
    return Row(f"never a proxy for {host}", PROXY | {"https_proxy": "x:1"}, **to(f"https://{host}:6443"))


def exempt(entry: str, url: str, by: str | None = None) -> Row:
    return Row(f"NO_PROXY={entry} {url}", PROXY | {"NO_PROXY": entry}, proxy=by, **to(url))


BY = "http://proxy:3128"
PROXIES = [
    Row("HTTPS_PROXY", PROXY, SERVER, proxy=BY),
    Row("small letters", {"https_proxy": "http://proxy:3128"}, SERVER, proxy=BY),
    Row("capitals first", PROXY | {"https_proxy": "http://other:1"}, SERVER, proxy=BY),
    Row("empty capitals", {"HTTPS_PROXY": "", "https_proxy": "http://proxy:3128"}, SERVER, proxy=BY),
    Row("HTTP_PROXY is not for https", {"HTTP_PROXY": "http://proxy:3128"}, SERVER),
    Row("HTTP_PROXY for http", {"HTTP_PROXY": "proxy:3128"}, proxy=BY, **to("http://10.0.0.1:8080")),
    Row("HTTPS_PROXY is not for http", PROXY, **to("http://10.0.0.1:8080")),
    Row("ALL_PROXY is not known", {"ALL_PROXY": "socks5://proxy:1080", "all_proxy": "ftp://x"}, SERVER),
    Row("without a scheme", {"HTTPS_PROXY": "proxy:3128"}, SERVER, proxy=BY),
    Row("an address without a scheme", {"HTTPS_PROXY": "10.9.9.9:3128"}, SERVER, proxy="http://10.9.9.9:3128"),
    Row("IPv6 without a scheme", {"HTTPS_PROXY": "[fd00::9]:3128"}, SERVER, proxy="http://[fd00::9]:3128"),
    Row("a name alone", {"HTTPS_PROXY": "proxy"}, SERVER, proxy="http://proxy:80"),
    Row("without a port", {"HTTPS_PROXY": "https://proxy"}, SERVER, proxy="https://proxy:443"),
    Row("socks5", {"HTTPS_PROXY": "socks5://proxy"}, SERVER, proxy="socks5://proxy:1080"),
    Row("socks5h", {"HTTPS_PROXY": "socks5h://proxy:9"}, SERVER, proxy="socks5://proxy:9"),
    Row("capitals in the scheme", {"HTTPS_PROXY": "HTTP://proxy:3128/"}, SERVER, proxy=BY),
    Row("user and password", {"HTTPS_PROXY": "http://u:p%40ss@proxy:3128"}, SERVER, proxy="u/p@ss http://proxy:3128"),
    Row("user alone", {"HTTPS_PROXY": "u@proxy:3128"}, SERVER, proxy="u/ http://proxy:3128"),
    Row("what is no URL is passed over", {"HTTPS_PROXY": "10.9.9.9:port"}, SERVER),
    Row("a line end is passed over", {"HTTPS_PROXY": "http://proxy:3128\n"}, SERVER),
    *map(local, ["localhost", "127.0.0.1", "127.8.8.8", "[::1]", "[::ffff:127.0.0.1]"]),
    Row("a name like localhost", PROXY, proxy=BY, **to("https://localhost.corp:6443")),
    exempt("*", "https://10.0.0.1:6443"),
    exempt("x, *", "https://k8s.corp"),
    exempt("*.corp", "https://k8s.corp:6443"),
    exempt("*.corp", "https://corp:6443", BY),
    exempt(".corp", "https://a.k8s.corp:6443"),
    exempt(".corp", "https://corp:6443", BY),
    exempt("corp", "https://corp:6443"),
    exempt("corp", "https://k8s.corp:6443"),
    exempt("corp", "https://xcorp:6443", BY),
    exempt("CORP", "https://K8S.Corp:6443"),
    exempt("k8s.corp:6443", "https://k8s.corp:6443"),
    exempt("k8s.corp:443", "https://k8s.corp:6443", BY),
    exempt("k8s.corp:443", "https://k8s.corp"),
    exempt(" k8s.corp , x", "https://k8s.corp"),
    exempt("*.corp:6443", "https://k8s.corp:6443"),
    exempt("10.0.0.1", "https://10.0.0.1:6443"),
    exempt("10.0.0.1:6443", "https://10.0.0.1:6443"),
    exempt("10.0.0.1:443", "https://10.0.0.1:6443", BY),
    exempt("10.0.0.0/8", "https://10.0.0.1:6443"),
    exempt("10.0.0.9/8", "https://10.0.0.1:6443"),
    exempt("10.0.0.0/255.0.0.0", "https://10.0.0.1:6443", BY),
    exempt("10.0.0", "https://10.0.0.1:6443", BY),
    exempt("0.0.0.0/0", "https://k8s.corp:6443", BY),
    exempt("fd00::5", "https://[fd00::5]:6443"),
    exempt("fd00::/8", "https://[fd00::5]:6443"),
    exempt("[fd00::5]:6443", "https://[fd00::5]:6443"),
    exempt("[fd00::5]:443", "https://[fd00::5]:6443", BY),
    exempt("[fd00::5]", "https://[fd00::5]:6443", BY),
    exempt("::ffff:10.0.0.0/104", "https://10.0.0.1:6443"),
    exempt("b\u00fccher.example", "https://b\u00fccher.example:6443"),
    exempt("https://k8s.corp", "https://k8s.corp:6443", BY),
    Row("no_proxy", PROXY | {"no_proxy": "10.0.0.1"}, SERVER),
    Row("NO_PROXY comes first", PROXY | {"NO_PROXY": "x", "no_proxy": "10.0.0.1"}, SERVER, proxy=BY),
    Row("empty NO_PROXY", PROXY | {"NO_PROXY": "", "no_proxy": "10.0.0.1"}, SERVER),
    Row(
        "proxy-url comes first",
        {"HTTPS_PROXY": "http://other:1", "NO_PROXY": "*"},
        SERVER | {"proxy-url": "http://proxy:3128"},
        proxy=BY,
    ),
    Row(
        "proxy-url, also to localhost",
        {},
        {"server": "https://127.0.0.1:6443", "proxy-url": "socks5://proxy"},
        server="https://127.0.0.1:6443",
        proxy="socks5://proxy:1080",
    ),
    Row("empty proxy-url", PROXY, SERVER | {"proxy-url": ""}, proxy=BY),
    Row(
        "--master decides",
        PROXY | {"NO_PROXY": "10.0.0.1"},
        SERVER,
        master="https://10.0.0.2:6443",
        server="https://10.0.0.2:6443",
        proxy=BY,
    ),
    Row(
        "--master is local",
        PROXY,
        SERVER,
        master="https://127.0.0.1:6443",
        server="https://127.0.0.1:6443",
    ),
    Row(
        "--master and proxy-url",
        {},
        SERVER | {"proxy-url": BY},
        master="https://127.0.0.1:6443",
        server="https://127.0.0.1:6443",
        proxy=BY,
    ),
    Row("--master alone", PROXY, master="https://10.0.0.1:6443", proxy=BY),
    Row("a pod", PROXY | POD, server="https://10.96.0.1:443", proxy=BY, authorization="Bearer pod-token", authority=CA),
    Row(
        "a pod with NO_PROXY",
        PROXY | POD | {"NO_PROXY": "10.96.0.0/12,.svc"},
        server="https://10.96.0.1:443",
        authorization="Bearer pod-token",
        authority=CA,
    ),
]


USERS = [
    as_user("nobody", {}),
    as_user("token", {"token": "t"}, authorization="Bearer t"),
    as_user("token with a line end", {"token": "t\n"}, authorization="Bearer t"),
    as_user("tokenFile", {"tokenFile": "token"}, authorization="Bearer from-file"),
    as_user("token and tokenFile", {"token": "stale", "tokenFile": "token"}, authorization="Bearer from-file"),
    as_user("empty token and tokenFile", {"token": "", "tokenFile": "token"}, authorization="Bearer from-file"),
    as_user("null token and tokenFile", {"token": None, "tokenFile": "token"}, authorization="Bearer from-file"),
    as_user("token, tokenFile missing", {"token": "t", "tokenFile": "none"}, authorization="Bearer t"),
    as_user("token, tokenFile empty", {"token": "t", "tokenFile": "empty"}, authorization="Bearer t"),
    as_user("user and password", {"username": "u", "password": "p\u00e4"}, authorization="Basic dTpww6Q="),
    as_user("password alone", {"password": "p"}, authorization="Basic OnA="),
    as_user("certificate", CERTIFICATE, certificate=PAIR.certificate),
    as_user(
        "certificate in files",
        {"client-certificate": "tls.crt", "client-key": "tls.key"},
        certificate=PAIR.certificate,
    ),
    as_user(
        "certificate inline, key in a file",
        {"client-certificate-data": DATA["certificate"], "client-key": "tls.key"},
        certificate=PAIR.certificate,
    ),
    as_user(
        "certificate and token",
        CERTIFICATE | {"token": "t"},
        certificate=PAIR.certificate,
        authorization="Bearer t",
    ),
    as_user("a key without a certificate", {"client-key": "tls.key"}),
    as_user(
        "no plugin beside a token", {"token": "t", "exec": GOOD_EXEC | {"command": "/none"}}, authorization="Bearer t"
    ),
    as_user(
        "no plugin beside a certificate",
        CERTIFICATE | {"exec": GOOD_EXEC | {"command": "/none"}},
        certificate=PAIR.certificate,
    ),
    as_user("impersonation", {"as": "jane"}, headers=(("Impersonate-User", "jane"),)),
    as_user(
        "impersonation in full",
        {"token": "t", "as": "j", "as-uid": "7", "as-groups": ["a", "b"], "as-user-extra": {"a/b": ["1", "2"]}},
        authorization="Bearer t",
        headers=(
            ("Impersonate-User", "j"),
            ("Impersonate-Uid", "7"),
            ("Impersonate-Group", "a"),
            ("Impersonate-Group", "b"),
            ("Impersonate-Extra-a%2Fb", "1"),
            ("Impersonate-Extra-a%2Fb", "2"),
        ),
    ),
    Row("nothing is read for http", {}, user={"tokenFile": "none"}, **to("http://10.0.0.1:8080")),
    Row("login in the URL", {}, {"server": "https://u:p@10.0.0.1:6443"}, authorization="Basic dTpw"),
    Row(
        "login in the URL, and a token",
        {},
        {"server": "https://u@10.0.0.1:6443"},
        {"token": "t"},
        authorization="Bearer t",
    ),
]
TRUST = [
    Row("authority inline", {}, SERVER | {"certificate-authority-data": DATA["ca"]}, authority=CA),
    Row(
        "authority inline over several lines",
        {},
        SERVER | {"certificate-authority-data": "\n".join([DATA["ca"][:64], DATA["ca"][64:]])},
        authority=CA,
    ),
    Row("authority in a file", {}, SERVER | {"certificate-authority": "ca.crt"}, authority=CA),
    Row("the system's authorities", {}, SERVER | {"certificate-authority": "", "certificate-authority-data": ""}),
    Row("a bundle", {}, SERVER | {"certificate-authority": "bundle.crt"}, authority=FILES["bundle.crt"]),
    Row("tls-server-name", {}, SERVER | {"tls-server-name": "kubernetes"}, name="kubernetes"),
    Row("insecure", {}, SERVER | {"insecure-skip-tls-verify": True}, verify=False),
    Row(
        "--master, and the kubeconfig without a server",
        {},
        {"certificate-authority-data": DATA["ca"]},
        CERTIFICATE,
        master="https://10.0.0.1:6443",
        authority=CA,
        certificate=PAIR.certificate,
    ),
    Row(
        "--master and an empty server",
        {},
        {"server": "", "certificate-authority": "ca.crt"},
        {"tokenFile": "token"},
        master="https://10.0.0.1:6443/",
        authority=CA,
        authorization="Bearer from-file",
    ),
    Row(
        "tls-server-name does not hold for --master",
        {},
        {"server": "https://10.0.0.9", "tls-server-name": "kubernetes", "certificate-authority": "ca.crt"},
        master="https://10.0.0.1:6443",
        authority=CA,
    ),
    Row("--master over http", {}, SERVER, {"tokenFile": "none"}, master="http://10.0.0.1", server="http://10.0.0.1"),
    Row("a path is kept", {}, **to("https://10.0.0.1/k8s/clusters/c-1")),
    Row("query and slash are not", {}, {"server": "https://10.0.0.1:6443/?x=y#z"}),
    Row("--master alone has no credentials", POD, master="https://10.0.0.1:6443"),
    Row(
        "a pod over IPv6",
        {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"},
        server="https://[fd00::1]:443",
        authorization="Bearer pod-token",
        authority=CA,
    ),
    Row("KUBECONFIG is not looked at", {"KUBECONFIG": "/none", "KUBERNETES_MASTER": "https://x"}, SERVER),
    Row("kubeconfig before the pod's account", POD, SERVER, {"token": "t"}, authorization="Bearer t"),
]


@pytest.mark.parametrize("row", [*PROXIES, *USERS, *TRUST], ids=lambda row: row.about)
def test_way(row: Row, tmp_path: Path) -> None:
    access = Credentials(row.options(tmp_path)).current()
    assert access.servers == (row.server,)
    assert proxy_of(access) == row.proxy
    assert access.authorization == row.authorization
    assert access.headers == row.headers
    tls = access.tls
    assert (tls.authority, tls.certificate, tls.server_name, tls.verify) == (
        row.authority,
        row.certificate,
        row.name,
        row.verify,
    )
    tls_context(access)
    assert "p@ss" not in repr(access)


def proxy_of(access: Access) -> str | None:
    proxy = access.proxies.get(access.servers[0])
    if proxy is None:
        return None
    return f"{proxy.login.user}/{proxy.login.password} {proxy}" if proxy.login else str(proxy)


def test_each_server_has_its_own_proxy(tmp_path: Path) -> None:
    fallbacks = ("https://10.0.0.2:6443", "https://127.0.0.1:6443", "https://10.0.0.1:6443/")
    row = Row("", PROXY | {"NO_PROXY": "10.0.0.1"}, SERVER, fallbacks=fallbacks)
    access = Credentials(row.options(tmp_path)).current()
    assert access.servers == ("https://10.0.0.1:6443", "https://10.0.0.2:6443", "https://127.0.0.1:6443")
    assert {server: str(proxy) for server, proxy in access.proxies.items()} == {"https://10.0.0.2:6443": BY}
