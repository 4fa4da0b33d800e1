"""What is no way to the API server: one line that says what to do; and kubeconfigs that change, or select nothing."""

from pathlib import Path

import pytest

from kproxy.api.transport.access import AccessError
from kproxy.api.transport.credentials import Credentials
from tests.kit.logged import Logged
from tests.kit.sources.ways import CERTIFICATE, DATA, GOOD_EXEC, POD, SERVER, Row, as_user, to


def refused(row: Row, folder: Path) -> str:
    with pytest.raises(AccessError) as error:
        Credentials(row.options(folder))
    text = str(error.value)
    assert text.isprintable()
    return text.replace(str(folder), "DIR")


BOTH_CA = {"certificate-authority": "ca.crt", "certificate-authority-data": DATA["ca"]}


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (
            as_user("", {"auth-provider": {"name": "gcp"}}),
            "auth-provider gcp is no longer supported, by client-go neither",
        ),
        (as_user("", {"auth-provider": {}}), "auth-provider ? is no longer supported"),
        (
            as_user("", {"exec": GOOD_EXEC | {"interactiveMode": "Always"}}),
            "wants somebody to answer it (interactiveMode",
        ),
        (as_user("", {"exec": GOOD_EXEC | {"interactiveMode": "Sometimes"}}), "it is Never, IfAvailable or Always"),
        (as_user("", {"exec": GOOD_EXEC | {"command": ""}}), "its exec plugin has no command: set exec.command"),
        (as_user("", {"exec": GOOD_EXEC | {"apiVersion": ""}}), "without apiVersion: set exec.apiVersion"),
        (
            as_user("", {"exec": GOOD_EXEC | {"apiVersion": "client.authentication.k8s.io/v1alpha1"}}),
            "of apiVersion client.authentication.k8s.io/v1alpha1: set exec.apiVersion to",
        ),
        (
            as_user("", {"exec": GOOD_EXEC | {"command": "none-such", "installHint": "get it\nthere"}}),
            "the exec plugin none-such is not installed here, or not in PATH; get it\\nthere",
        ),
        (as_user("", {"exec": GOOD_EXEC | {"command": "./none"}}), "the exec plugin ./none is not installed here"),
        (as_user("", {"exec": {"command": 5}}), 'user "u": exec.command is not text: put it into quotes'),
        (as_user("", {"token": 5}), 'user "u": token is not text: put it into quotes'),
        (as_user("", {"token": "a b"}), "its token holds characters that no token has"),
        (as_user("", {"token": "a\nX: b"}), "its token holds characters that no token has"),
        (as_user("", {"token": "t", "username": "u"}), "its user has both a token and a user name or password"),
        (as_user("", {"tokenFile": "none"}), "tokenFile none cannot be read: No such file or directory"),
        (as_user("", {"tokenFile": "empty"}), "tokenFile empty is empty"),
        (as_user("", {"tokenFile": "a\0b"}), "tokenFile a\\x00b is not the name of a file"),
        (
            as_user("", {"client-certificate": "a\0b", "client-key": "tls.key"}),
            "client-certificate: a\\x00b is not the name of a file",
        ),
        (as_user("", {"as-groups": ["g"]}), 'without "as": set as, or remove them'),
        (as_user("", {"as": "a\r\nb"}), "it holds control characters"),
        (as_user("", CERTIFICATE | {"client-certificate": "tls.crt"}), "are both given: remove one"),
        (as_user("", CERTIFICATE | {"client-key": "tls.key"}), "client-key-data and client-key are both given"),
        (as_user("", {"client-certificate": "tls.crt"}), "client-certificate without client-key: set client-key"),
        (
            as_user("", {"client-certificate": "none", "client-key": "tls.key"}),
            "client-certificate: none cannot be read",
        ),
        (Row("", {}, SERVER | BOTH_CA), "certificate-authority-data and certificate-authority are both given"),
        (
            Row("", {}, SERVER | {"certificate-authority": "ca.crt", "insecure-skip-tls-verify": True}),
            "certificate-authority and insecure-skip-tls-verify exclude each other: remove one",
        ),
        (Row("", {}, {"server": "10.0.0.1:6443"}), "server '10.0.0.1:6443' has no scheme: write https://10.0.0.1:6443"),
        (Row("", {}, {"server": "k8s.corp"}), "server 'k8s.corp' has no scheme: write https://k8s.corp"),
        (Row("", {}, master="k8s.corp:6443"), "--master 'k8s.corp:6443' has no scheme: write https://k8s.corp:6443"),
        (Row("", {}, SERVER, master="10.0.0.1"), "--master '10.0.0.1' has no scheme: write https://10.0.0.1"),
        (Row("", {}, {"server": "ftp://10.0.0.1"}), "is not the URL of a server: write https://HOST:PORT"),
        (Row("", {}, {"server": "https://10.0.0.1:port"}), "is not the URL of a server"),
        (Row("", {}, {"server": "https://fd00::1:6443"}), "is not the URL of a server"),
        (Row("", {}, {"server": "https://u:secret@h:x"}), "server 'https://…@h:x' is not the URL of a server"),
        (Row("", {}, {"tls-server-name": "x"}), 'the cluster "c" names no server: set server, or use --master URL'),
        (
            Row("", {"HTTPS_PROXY": "socks4://u:secret@p:1"}, SERVER),
            "HTTPS_PROXY: 'socks4://…@p:1': only http, https and",
        ),
        (Row("", {}, SERVER | {"proxy-url": "socks5h://p"}), "proxy-url: 'socks5h://p': only http, https and socks5"),
        (Row("", {}, SERVER | {"proxy-url": "proxy:3128"}), "proxy-url is no proxy's URL: 'proxy:3128'; write http://"),
        (Row("", POD | {"KUBERNETES_SERVICE_PORT": "tcp"}), "KUBERNETES_SERVICE_PORT 'https://10.96.0.1:tcp' is not"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_no_way(row: Row, text: str, tmp_path: Path) -> None:
    assert text in refused(row, tmp_path)


def test_proxy_that_is_not_needed_may_be_anything(tmp_path: Path) -> None:
    row = Row("", {"HTTPS_PROXY": "socks4://p:1"}, **to("https://127.0.0.1:6443"))
    assert Credentials(row.options(tmp_path)).current().proxies == {}


# Kubeconfigs that select nothing


NOTHING = {
    "empty": "",
    "no context": "clusters: [{name: c, cluster: {server: 'https://10.0.0.1'}}]",
    "unknown cluster": "current-context: x\ncontexts: [{name: x, context: {cluster: c}}]",
    "no cluster": "current-context: x\ncontexts: [{name: x, context: {}}]",
}


@pytest.mark.parametrize("text", NOTHING.values(), ids=NOTHING)
def test_in_a_pod_a_kubeconfig_that_selects_nothing_gives_way_to_the_service_account(
    text: str, tmp_path: Path, logged: Logged
) -> None:
    options = Row("", POD, SERVER).options(tmp_path)
    (tmp_path / "config").write_text(text)
    access = Credentials(options).current()
    assert (access.servers, access.authorization) == (("https://10.96.0.1:443",), "Bearer pod-token")
    assert "the kubeconfig is of no use, the pod's service account is used instead" in logged.text


@pytest.mark.parametrize("text", NOTHING.values(), ids=NOTHING)
def test_with_master_a_kubeconfig_may_select_nothing(text: str, tmp_path: Path) -> None:
    options = Row("", POD, SERVER, master="https://10.0.0.7").options(tmp_path)
    (tmp_path / "config").write_text(text)
    access = Credentials(options).current()
    assert (access.servers, access.authorization) == (("https://10.0.0.7",), None)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("current-context: y\ncontexts: []", 'there is no "y" among its contexts'),
        ("kind: Pod\napiVersion: v1", "is a Pod, not a kubeconfig: check --kubeconfig"),
        (
            "current-context: x\ncontexts: [{name: x, context: {}}, {name: x}]",
            '"x" stands twice among its contexts: remove one',
        ),
    ],
)
def test_other_mistakes_do_not_give_way(text: str, error: str, tmp_path: Path) -> None:
    options = Row("", POD, SERVER).options(tmp_path)
    (tmp_path / "config").write_text(text)
    with pytest.raises(AccessError, match=error):
        Credentials(options)


def test_first_document_counts(tmp_path: Path) -> None:
    options = Row("", {}, SERVER, {"token": "t"}).options(tmp_path)
    config = tmp_path / "config"
    config.write_text(f"---\n{config.read_text()}\n---\nkind: Other\n")
    assert Credentials(options).current().authorization == "Bearer t"


def test_pod_without_an_authority_trusts_the_systems(tmp_path: Path, logged: Logged) -> None:
    options = Row("", POD).options(tmp_path)
    (options.service_account / "ca.crt").unlink()
    assert Credentials(options).current().tls.authority is None
    assert "the system's certificate authorities are trusted" in logged.text


def test_kubeconfig_that_empties_later_does_not_change_who_speaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    monkeypatch.setattr("kproxy.api.transport.credentials._MAX_AGE_SECONDS", 0.0)
    credentials = Credentials(Row("", POD, SERVER, {"token": "t"}).options(tmp_path))
    (tmp_path / "config").write_text("")
    assert credentials.current().authorization == "Bearer t"
    assert "credentials cannot be read again, those in use stay" in logged.text


def test_token_file_is_read_again_and_its_last_token_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kproxy.api.transport.credentials._MAX_AGE_SECONDS", 0.0)
    credentials = Credentials(as_user("", {"token": "stale", "tokenFile": "token"}).options(tmp_path))
    for text, expected in (("second", "second"), ("", "second"), ("third\r\n", "third")):
        (tmp_path / "token").write_text(text)
        assert credentials.current().authorization == f"Bearer {expected}"
    (tmp_path / "token").unlink()
    assert credentials.current().authorization == "Bearer third"
