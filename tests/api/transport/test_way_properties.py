"""Whatever stands in the environment or in a kubeconfig: a way, or one line that says what is wrong."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kproxy.api.transport.access import AccessError, AccessOptions, tls_context
from kproxy.api.transport.credentials import Credentials
from kproxy.api.transport.proxies import ProxyTextError, from_environment
from kproxy.api.transport.urls import parse_url
from tests.kit.yaml_text import to_yaml

WORDS = "http https socks5 :// : / @ [ ] % . * , 127.0.0.1 fd00::1 ::1 localhost corp 6443 99999 8 -1"
PIECES = st.sampled_from([*WORDS.split(), " ", "\n", "\0"])
TEXT = st.one_of(st.text(max_size=12), st.lists(PIECES, max_size=8).map("".join))
SERVERS = [
    "https://127.0.0.1:6443",
    "http://localhost",
    "https://k8s.corp:6443",
    "https://[fd00::1]",
    "https://10.0.0.1",
]
FIELDS = {
    "cluster": [
        "server",
        "tls-server-name",
        "insecure-skip-tls-verify",
        "certificate-authority",
        "certificate-authority-data",
        "proxy-url",
        "extensions",
    ],
    "user": [
        "client-certificate",
        "client-certificate-data",
        "client-key",
        "client-key-data",
        "token",
        "tokenFile",
        "as",
        "as-uid",
        "as-groups",
        "as-user-extra",
        "username",
        "password",
        "auth-provider",
    ],
}
VALUES = st.one_of(
    TEXT,
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(SERVERS),
    st.lists(TEXT, max_size=2),
    st.dictionaries(TEXT, TEXT, max_size=2),
)


def check_line(error: Exception) -> None:
    assert str(error).isprintable()
    assert len(str(error)) < 1_000


def section(name: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(FIELDS[name]), VALUES, max_size=4)


@settings(deadline=None)
@given(st.sampled_from(SERVERS), TEXT, TEXT)
def test_proxies(server: str, proxy: str, exempt: str) -> None:
    url = parse_url(server)
    assert url is not None
    environ = {"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy, "NO_PROXY": exempt}
    try:
        found = from_environment(url, environ)
    except ProxyTextError as error:
        check_line(error)
        found = None
    if url.host in ("127.0.0.1", "localhost") or "*" in exempt.split(","):
        assert found is None
    if found is not None:
        assert parse_url(str(found)) is not None


@settings(deadline=None)
@given(TEXT)
def test_urls(text: str) -> None:
    url = parse_url(text)
    if url is not None:
        assert parse_url(str(url)) == parse_url(str(parse_url(str(url))))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(section("cluster"), section("user"), st.sampled_from(["", *SERVERS]), TEXT)
def test_kubeconfigs(tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any], master: str, proxy: str) -> None:
    path = tmp_path / "config"
    config = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(to_yaml(config))
    try:
        access = Credentials(AccessOptions(str(path), master, environ={"HTTPS_PROXY": proxy})).current()
        tls_context(access)
    except AccessError as error:
        check_line(error)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.recursive(VALUES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2)))
@pytest.mark.parametrize("field", ["clusters", "users", "contexts", "current-context", "kind"])
def test_other_shapes(tmp_path: Path, field: str, value: Any) -> None:
    path = tmp_path / "config"
    config: dict[str, Any] = {
        "clusters": [{"name": "c", "cluster": {"server": SERVERS[0]}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
        field: value,
    }
    path.write_text(to_yaml(config))
    try:
        Credentials(AccessOptions(str(path), environ={}))
    except AccessError as error:
        check_line(error)
