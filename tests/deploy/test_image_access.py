"""All ways to an API server work in the image, of which much of the libraries is left out.

What each way means is tested in tests/api; here it is gone once, by the image's own Python, in a container without
rights and with a root file system that nobody can write.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kit.apiserver import ApiServer
from tests.kit.deploy.containers import Mount, run
from tests.kit.sources.proxies import HttpProxy, ProxyServer, SocksProxy

pytestmark = [pytest.mark.image, pytest.mark.kernel]

ASK = """\
import json, pathlib, sys
from kproxy.api.transport.access import AccessOptions
from kproxy.api.transport.client import ApiClient
from kproxy.api.transport.credentials import Credentials
given = json.loads(sys.argv[1])
given["service_account"] = pathlib.Path(given.get("service_account", "/nowhere"))
print(ApiClient(Credentials(AccessOptions(**given))).get("/api/v1/services", {"limit": "1"}).read().decode())
"""
FILES = "/files"
"""Where the container finds what a way needs."""

PLUGIN = """\
#!/bin/sh
printf '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": %s}' "$STATUS"
"""

Options = dict[str, Any]


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


def asks(root: Path, folder: Path, options: Options) -> str:
    """Ask for Services from within the image; return what came."""
    mounts = [Mount(folder, FILES, read_only=True)]
    bundle = folder.parent / f"{folder.name}-bundle"
    done = run(bundle, root, ["/opt/kproxy/bin/python", "-c", ASK, json.dumps(options)], mounts=mounts)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def kubeconfig(
    server: ApiServer, folder: Path, *, user: Options | None = None, cluster: Options | None = None
) -> Options:
    """Write one that has only what is given besides the server and its authority."""
    path = server.kubeconfig(folder / "config")
    config = yaml.safe_load(path.read_text())
    if user is not None:
        config["users"][0]["user"] = user
    config["clusters"][0]["cluster"].update(cluster or {})
    path.write_text(yaml.safe_dump(config))
    return {"kubeconfig": f"{FILES}/config"}


def with_token(server: ApiServer, folder: Path) -> Options:
    return kubeconfig(server, folder, user={"token": server.token})


def with_token_file(server: ApiServer, folder: Path) -> Options:
    (folder / "token").write_text(f"{server.token}\n")
    return kubeconfig(server, folder, user={"tokenFile": "token"})


def with_client_certificate(server: ApiServer, folder: Path) -> Options:
    server.tokens.clear()
    server.kubeconfig(folder / "config", user="system:kube-proxy")
    return {"kubeconfig": f"{FILES}/config"}


def with_files(server: ApiServer, folder: Path) -> Options:
    server.tokens.clear()
    pair = server.client_certificate("system:kube-proxy")
    for name, content in (("ca", server.ca_certificate), ("crt", pair.certificate), ("key", pair.key)):
        (folder / f"a.{name}").write_bytes(content)
    user = {"client-certificate": "a.crt", "client-key": "a.key"}
    options = kubeconfig(server, folder, user=user, cluster={"certificate-authority": "a.ca"})
    config = yaml.safe_load((folder / "config").read_text())
    del config["clusters"][0]["cluster"]["certificate-authority-data"]
    (folder / "config").write_text(yaml.safe_dump(config))
    return options


def exec_plugin(server: ApiServer, folder: Path, status: Options) -> Options:
    (folder / "plugin").write_text(PLUGIN)
    (folder / "plugin").chmod(0o755)
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "./plugin",
        "interactiveMode": "Never",
        "env": [{"name": "STATUS", "value": json.dumps(status)}],
    }
    return kubeconfig(server, folder, user={"exec": plugin})


def with_plugin_for_a_token(server: ApiServer, folder: Path) -> Options:
    return exec_plugin(server, folder, {"token": server.token})


def with_plugin_for_a_certificate(server: ApiServer, folder: Path) -> Options:
    server.tokens.clear()
    pair = server.client_certificate("system:kube-proxy")
    status = {"clientCertificateData": pair.certificate.decode(), "clientKeyData": pair.key.decode()}
    return exec_plugin(server, folder, status)


def with_service_account(server: ApiServer, folder: Path) -> Options:
    server.service_account(folder)
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.port)}
    return {"service_account": FILES, "environ": environ}


def without_verification(server: ApiServer, folder: Path) -> Options:
    options = kubeconfig(server, folder, cluster={"insecure-skip-tls-verify": True})
    config = yaml.safe_load((folder / "config").read_text())
    del config["clusters"][0]["cluster"]["certificate-authority-data"]
    (folder / "config").write_text(yaml.safe_dump(config))
    return options


def with_a_fallback(server: ApiServer, folder: Path) -> Options:
    return with_token(server, folder) | {"master": "https://127.0.0.1:1", "fallbacks": [server.url]}


WAYS: list[Callable[[ApiServer, Path], Options]] = [
    with_token,
    with_token_file,
    with_client_certificate,
    with_files,
    with_plugin_for_a_token,
    with_plugin_for_a_certificate,
    with_service_account,
    without_verification,
    with_a_fallback,
]


@pytest.mark.parametrize("way", WAYS)
def test_way(root: Path, server: ApiServer, tmp_path: Path, way: Callable[[ApiServer, Path], Options]) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    assert "ServiceList" in asks(root, folder, way(server, folder))


@pytest.mark.parametrize("kind", [HttpProxy, SocksProxy])
@pytest.mark.parametrize("place", ["kubeconfig", "environment"])
def test_way_by_a_proxy(root: Path, tmp_path: Path, kind: type[ProxyServer], place: str) -> None:
    """It alone knows the server's name."""
    folder = tmp_path / "files"
    folder.mkdir()
    with ApiServer(names=["k8s.corp"]) as server, kind(hosts={"k8s.corp": "127.0.0.1"}) as proxy:
        cluster = {"server": f"https://k8s.corp:{server.port}"}
        if place == "kubeconfig":
            options = kubeconfig(server, folder, cluster=cluster | {"proxy-url": proxy.url})
        else:
            options = kubeconfig(server, folder, cluster=cluster) | {"environ": {"HTTPS_PROXY": proxy.url}}
        assert "ServiceList" in asks(root, folder, options)
        assert [asked.host for asked in proxy.asked] == ["k8s.corp"]


def test_way_in_the_clear_and_without_credentials(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    with ApiServer(tls=False) as server:
        server.settings.anonymous = True
        assert "ServiceList" in asks(root, folder, {"master": server.url})
