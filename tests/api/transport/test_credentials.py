"""Ways to an API server: kubeconfig, service account, --master; and credentials that change while kproxy runs."""

import logging
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from kproxy.api.transport import credentials as credentials_module
from kproxy.api.transport.access import AccessError, AccessOptions
from kproxy.api.transport.client import ApiClient
from kproxy.api.transport.credentials import Credentials
from kproxy.api.transport.failures import RefusedError, UnreachableError
from tests.kit.apiserver import ApiServer
from tests.kit.logged import Logged
from tests.kit.sources.clients import client, edit, works
from tests.kit.sources.watching_world import Observed


def pod(api_server: ApiServer, folder: Path) -> dict[str, Any]:
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(api_server.port)}
    return {"service_account": api_server.service_account(folder), "environ": environ}


# Ways


def test_kubeconfig_with_a_token(kubeconfig: Path) -> None:
    assert works(client(kubeconfig=str(kubeconfig)))


def test_kubeconfig_with_a_client_certificate(api_server: ApiServer, tmp_path: Path) -> None:
    api_server.tokens.clear()
    assert works(client(kubeconfig=str(api_server.kubeconfig(tmp_path / "config", user="system:kube-proxy"))))
    assert api_server.requests.seen("services")[0].user == "system:kube-proxy"


def test_kubeconfig_with_files(api_server: ApiServer, kubeconfig: Path, tmp_path: Path) -> None:
    """Relative paths are relative to the kubeconfig, and a token file may end in a newline."""
    (tmp_path / "ca.crt").write_bytes(api_server.ca_certificate)
    (tmp_path / "token").write_text(api_server.token + "\n")
    cluster = {"certificate-authority-data": None, "certificate-authority": "ca.crt"}
    edit(kubeconfig, cluster=cluster, user={"token": None, "tokenFile": "token"})
    assert works(client(kubeconfig=str(kubeconfig)))


def test_no_key_is_left_on_disk(api_server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    path = api_server.kubeconfig(tmp_path / "config", user="u")
    api = client(kubeconfig=str(path))
    assert works(api)
    assert list(scratch.iterdir()) == []


def test_service_account(api_server: ApiServer, tmp_path: Path) -> None:
    assert works(client(**pod(api_server, tmp_path)))


def test_master_overrides_the_kubeconfig(kubeconfig: Path, api_server: ApiServer) -> None:
    edit(kubeconfig, cluster={"server": "https://192.0.2.1:6443"})
    assert works(client(kubeconfig=str(kubeconfig), master=api_server.url + "/"))


def test_master_alone_means_no_credentials() -> None:
    with ApiServer(tls=False) as server:
        server.settings.anonymous = True
        assert works(client(master=server.url))
        server.settings.anonymous = False
        with pytest.raises(RefusedError, match=r"401 .* credentials of no credentials \(--master alone\)"):
            works(client(master=server.url))


def test_tokens_never_travel_in_the_clear(kubeconfig: Path) -> None:
    with ApiServer(tls=False) as server, pytest.raises(RefusedError, match="401"):
        works(client(kubeconfig=str(kubeconfig), master=server.url))


def test_name_to_expect_in_the_certificate(api_server: ApiServer, kubeconfig: Path) -> None:
    other = ApiServer(address="127.0.0.9", port=api_server.port)
    other._authority, other._certificate = api_server._authority, api_server._certificate
    other.tokens = api_server.tokens
    with other:
        edit(kubeconfig, cluster={"server": other.url})
        with pytest.raises(UnreachableError, match="IP address mismatch"):
            works(client(kubeconfig=str(kubeconfig)))
        edit(kubeconfig, cluster={"tls-server-name": "kubernetes.default.svc"})
        assert works(client(kubeconfig=str(kubeconfig)))


def test_unverified_tls_is_warned_about(kubeconfig: Path, logged: Logged) -> None:
    edit(kubeconfig, cluster={"certificate-authority-data": None, "insecure-skip-tls-verify": True})
    assert works(client(kubeconfig=str(kubeconfig)))
    assert "certificate is not verified, anybody can pose as it" in logged.text


def test_authority_without_key_identifiers_is_trusted(api_server: ApiServer, kubeconfig: Path) -> None:
    """As Go does; Python asks for more since 3.13. An authority need not have signed itself, either."""
    edit(kubeconfig, cluster={"certificate-authority-data": b64encode(api_server._certificate.certificate).decode()})
    assert works(client(kubeconfig=str(kubeconfig)))


# Change


def test_token_that_rotates(api_server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kubelet does it: the file changes first, and the old token goes on working for a while."""
    options = pod(api_server, tmp_path)
    api = client(**options)
    assert works(api)
    api_server.tokens.add("fresh")
    (tmp_path / "token").write_text("fresh")
    monkeypatch.setattr(credentials_module, "_MAX_AGE_SECONDS", 0.0)  # a minute later
    assert works(api)
    api_server.tokens.discard(api_server.token)
    assert works(api)
    assert [request.user != "" for request in api_server.requests.seen()] == [True] * 3


def test_token_that_is_refused_is_read_again_at_once(api_server: ApiServer, tmp_path: Path) -> None:
    api = client(**pod(api_server, tmp_path))
    assert works(api)
    api_server.rotate_token("fresh")
    with pytest.raises(RefusedError, match="401 Unauthorized: it does not accept the credentials of service account"):
        works(api)
    api_server.service_account(tmp_path)
    assert works(api)


def test_new_authority(api_server: ApiServer, tmp_path: Path) -> None:
    options = pod(api_server, tmp_path)
    api = client(**options)
    assert works(api)
    api_server.stop()
    api_server.renew_certificate(new_authority=True)
    api_server.start()
    with pytest.raises(UnreachableError, match=r"certificate is not trusted: self-signed .*; check certificate-auth"):
        works(api)
    api_server.service_account(tmp_path)
    assert works(api)


def test_kubeconfig_out_of_reach_for_a_while(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch, logged: Logged) -> None:
    api = client(kubeconfig=str(kubeconfig))
    monkeypatch.setattr(credentials_module, "_MAX_AGE_SECONDS", 0.0)
    text = kubeconfig.read_text()
    kubeconfig.unlink()
    assert works(api)
    assert "credentials cannot be read again, those in use stay" in logged.text
    kubeconfig.write_text(text)
    assert works(api)


# What bad input gets


def test_missing_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(AccessError) as error:
        client(kubeconfig=str(tmp_path / "none"))
    assert str(error.value) == (
        f"kubeconfig {tmp_path}/none cannot be read: No such file or directory; check --kubeconfig"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 5000, ":1: nested too deeply"),
        ("a: [", ":2: not valid YAML, in column 1 "),
        ("", " selects no context: set current-context"),
        ("- a", " selects no context: set current-context"),
        ("current-context: x", ': there is no "x" among its contexts'),
        ("current-context: x\ncontexts: [{name: y}]", ': there is no "x" among its contexts'),
        (
            "current-context: x\ncontexts: [{name: x, context: {cluster: c}}]\nclusters: {}",
            ': there is no "c" among its clusters',
        ),
        (
            "current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\nclusters: [{name: c}]",
            ': there is no "u" among its users',
        ),
        (
            "current-context: x\ncontexts: [{name: x, context: {cluster: c}}]\nclusters: [{name: c}]",
            ': the cluster "c" names no server',
        ),
    ],
)
def test_kubeconfig_that_makes_no_sense(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(AccessError) as error:
        client(kubeconfig=str(path))
    assert str(error.value).startswith(f"kubeconfig {path}{message}")
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("cluster", "user", "message"),
    [
        (
            {"certificate-authority-data": b64encode(b"x").decode()},
            {},
            "certificate authority is not a PEM certificate",
        ),
        ({"certificate-authority-data": "!"}, {}, "certificate-authority-data is not base64"),
        ({"certificate-authority-data": "Cg=="}, {}, "its certificate authority is empty"),
        (
            {"certificate-authority-data": None, "certificate-authority": "none"},
            {},
            "certificate-authority: none cannot be read: ",
        ),
        (
            {},
            {"client-certificate-data": "eA==", "client-key": "nowhere"},
            "client-key: nowhere cannot be read: ",
        ),
        ({"certificate-authority-data": 5}, {}, "certificate-authority-data is not text"),
        ({}, {"client-certificate-data": "eA==", "client-key-data": "eA=="}, "client certificate and key are not PEM"),
        ({"proxy-url": "socks4://127.0.0.1:1"}, {}, "only http, https and socks5 proxies are supported"),
    ],
)
def test_kubeconfig_with_useless_parts(
    kubeconfig: Path, cluster: dict[str, Any], user: dict[str, Any], message: str
) -> None:
    edit(kubeconfig, cluster=cluster, user=user)
    with pytest.raises(AccessError, match=message) as error:
        client(kubeconfig=str(kubeconfig))
    assert str(error.value).isprintable()


def test_certificate_and_key_that_do_not_match(api_server: ApiServer, tmp_path: Path) -> None:
    path = api_server.kubeconfig(tmp_path / "config", user="a")
    edit(path, user={"client-key-data": b64encode(api_server.client_certificate("b").key).decode()})
    with pytest.raises(AccessError, match="its client certificate and key do not match"):
        client(kubeconfig=str(path))


def test_no_way_at_all() -> None:
    with pytest.raises(AccessError, match="use --kubeconfig FILE or --master URL, or --manifests DIR"):
        client(environ={})


def test_service_account_that_is_not_mounted(tmp_path: Path) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(AccessError, match=f"service account in {tmp_path}: token cannot be read: .*; is it mounted"):
        client(environ=environ, service_account=tmp_path)


@pytest.mark.parametrize("name", ["token", "ca.crt"])
def test_service_account_with_an_empty_file(tmp_path: Path, name: str) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    for file in ("token", "ca.crt"):
        (tmp_path / file).write_text("" if file == name else "x")
    with pytest.raises(AccessError, match=f"service account in {tmp_path}: {name} is empty"):
        client(environ=environ, service_account=tmp_path)


def test_secrets_show_nowhere(api_server: ApiServer, tmp_path: Path, logged: Logged) -> None:
    logged.hear_from(logging.DEBUG)
    access = Credentials(AccessOptions(kubeconfig=str(api_server.kubeconfig(tmp_path / "config", user="u")))).current()
    assert "PRIVATE" not in repr(access)
    api = client(**pod(api_server, tmp_path / "pod"))
    api_server.rotate_token("fresh")
    with pytest.raises(RefusedError) as error:
        works(api)
    assert "kproxy-test-token" not in repr(error.value) + repr(access) + logged.text


# What it costs


def test_observer_sees_every_request(api_server: ApiServer, kubeconfig: Path) -> None:
    observed = Observed()
    api = ApiClient(Credentials(AccessOptions(kubeconfig=str(kubeconfig))), observed)
    works(api)
    with pytest.raises(RefusedError):
        api.get("/nothing")
    api_server.stop()
    with pytest.raises(UnreachableError):
        works(api)
    assert observed.codes == ["200", "404", "<error>"]
