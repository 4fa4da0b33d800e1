"""Credentials that a program gives, and what they cost those who have none."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kproxy.api.transport.access import AccessError
from tests.kit.apiserver import ApiServer
from tests.kit.logged import Logged
from tests.kit.sources.clients import client, edit, works


def plugin(folder: Path, body: str) -> Path:
    path = folder / "plugin"
    path.write_text(f"#!/bin/sh\n{body}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def use_plugin(kubeconfig: Path, path: Path) -> Path:
    api_version = "client.authentication.k8s.io/v1"
    return edit(kubeconfig, user={"token": None, "exec": {"apiVersion": api_version, "command": str(path)}})


GIVES_FILE = """
cd "${0%/*}"
printf x >>runs
printf '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": %s}' "$(cat status)"
"""


def test_exec_plugin(api_server: ApiServer, kubeconfig: Path, tmp_path: Path) -> None:
    use_plugin(kubeconfig, plugin(tmp_path, GIVES_FILE))
    (tmp_path / "status").write_text(json.dumps({"token": api_server.token}))
    api = client(kubeconfig=str(kubeconfig))
    assert works(api)
    assert works(api)
    assert (tmp_path / "runs").read_text() == "x"
    api_server.rotate_token("fresh")  # refused: the plugin is asked again
    (tmp_path / "status").write_text(json.dumps({"token": "fresh"}))
    assert works(api)
    assert (tmp_path / "runs").read_text() == "xx"


def test_exec_plugin_whose_token_has_expired(api_server: ApiServer, kubeconfig: Path, tmp_path: Path) -> None:
    use_plugin(kubeconfig, plugin(tmp_path, GIVES_FILE))
    status = {"token": api_server.token, "expirationTimestamp": "2020-01-01T00:00:00Z"}
    (tmp_path / "status").write_text(json.dumps(status))
    api = client(kubeconfig=str(kubeconfig))
    assert works(api)
    assert works(api)
    assert (tmp_path / "runs").read_text() == "xxx"  # when made, and before each request
    assert api_server.requests.count() == 2


def test_exec_plugin_that_gives_a_certificate(api_server: ApiServer, kubeconfig: Path, tmp_path: Path) -> None:
    use_plugin(kubeconfig, plugin(tmp_path, GIVES_FILE))
    pair = api_server.client_certificate("node")
    certificate, key = pair.certificate.decode(), pair.key.decode()
    (tmp_path / "status").write_text(json.dumps({"clientCertificateData": certificate, "clientKeyData": key}))
    api_server.tokens.clear()
    assert works(client(kubeconfig=str(kubeconfig)))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("echo no such account >&2; exit 1", "no such account"),
        ("echo '{'", ""),
    ],
)
def test_exec_plugin_that_fails(kubeconfig: Path, tmp_path: Path, body: str, reason: str, logged: Logged) -> None:
    path = plugin(tmp_path, body)
    with pytest.raises(AccessError) as error:
        client(kubeconfig=str(use_plugin(kubeconfig, path)))
    assert str(error.value).startswith(f"kubeconfig {kubeconfig}: the exec plugin {path} gave no credentials (")
    assert reason in str(error.value)  # in the words of the plugin
    assert str(error.value).isprintable()
    assert logged.records == []


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (None, "gave no credentials ("),
        ([], "gave no credentials ("),
        ({}, "gave no credentials ("),
        ({"token": 5}, "gave no credentials ("),
        ({"expirationTimestamp": "2030-01-01T00:00:00Z"}, "gave no credentials ("),
        ({"token": "t", "clientKeyData": "k"}, "gave a certificate without a key, or a key without a certificate"),
        ({"clientCertificateData": "c"}, "gave a certificate without a key, or a key without a certificate"),
        ({"clientCertificateData": "c", "clientKeyData": "k"}, "its client certificate and key are not PEM"),
    ],
    ids=str,
)
def test_exec_plugin_that_gives_nothing_of_use(
    kubeconfig: Path, tmp_path: Path, status: object, reason: str, logged: Logged
) -> None:
    use_plugin(kubeconfig, plugin(tmp_path, GIVES_FILE))
    (tmp_path / "status").write_text(json.dumps(status))
    with pytest.raises(AccessError) as error:
        client(kubeconfig=str(kubeconfig))
    assert str(error.value).startswith(f"kubeconfig {kubeconfig}: ")
    assert reason in str(error.value)
    assert str(error.value).isprintable()
    assert logged.records == []


def test_reading_manifests_needs_no_kubernetes_package() -> None:
    imports = "kproxy.api.manifests, kproxy.api.folder, kproxy.api.watch.source, kproxy.api.transport.credentials"
    assert loaded(f"import {imports}") == []


def test_only_who_has_a_plugin_or_a_socks_proxy_pays_for_it(
    api_server: ApiServer, kubeconfig: Path, tmp_path: Path
) -> None:
    get = (
        "from kproxy.api.transport.access import AccessOptions; from kproxy.api.transport.client import ApiClient;"
        "from kproxy.api.transport.credentials import Credentials;"
        f"ApiClient(Credentials(AccessOptions(kubeconfig={str(kubeconfig)!r}, environ={{}}))).get('/version').read()"
    )
    assert loaded(get) == []
    use_plugin(kubeconfig, plugin(tmp_path, GIVES_FILE))
    (tmp_path / "status").write_text(json.dumps({"token": api_server.token}))
    assert "kubernetes" in loaded(get)


def loaded(code: str) -> list[str]:
    """Run some code; return which of the packages that take much memory were imported by it."""
    tell = "; import sys, json; print(json.dumps([name for name in ('kubernetes', 'socks') if name in sys.modules]))"
    result = subprocess.run(
        [sys.executable, "-c", code + tell], capture_output=True, text=True, check=True, env=os.environ
    )
    names: list[str] = json.loads(result.stdout)
    return names
