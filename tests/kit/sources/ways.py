"""Rows of a table about ways to the API server, and the files that they speak of."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kproxy.api.transport.access import AccessOptions
from tests.kit.apiserver.certs import Authority
from tests.kit.yaml_text import to_yaml

AUTHORITY = Authority()
CA = AUTHORITY.certificate
PAIR = AUTHORITY.issue_client("node")
DATA = {
    "ca": b64encode(CA).decode(),
    "certificate": b64encode(PAIR.certificate).decode(),
    "key": b64encode(PAIR.key).decode(),
}
POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
GOOD_EXEC = {"command": "/bin/true", "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never"}
CERTIFICATE = {"client-certificate-data": DATA["certificate"], "client-key-data": DATA["key"]}


@dataclass
class Row:
    """What is given, and from ``server`` on what is expected. Without ``cluster`` there is no kubeconfig."""

    about: str
    environ: Mapping[str, str] = field(default_factory=dict)
    cluster: Mapping[str, Any] | None = None
    user: Mapping[str, Any] | None = None
    master: str = ""
    fallbacks: tuple[str, ...] = ()
    server: str = "https://10.0.0.1:6443"
    proxy: str | None = None
    authorization: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    authority: bytes | None = None
    certificate: bytes | None = None
    name: str | None = None
    verify: bool = True

    def options(self, folder: Path) -> AccessOptions:
        (folder / "pod-token").mkdir()
        (folder / "pod-token" / "token").write_text("pod-token\n")
        (folder / "pod-token" / "ca.crt").write_bytes(CA)
        for name, content in FILES.items():
            (folder / name).write_bytes(content)
        kubeconfig = ""
        if self.cluster is not None:
            kubeconfig = str(write(folder / "config", self.cluster, self.user or {}))
        return AccessOptions(kubeconfig, self.master, self.fallbacks, folder / "pod-token", self.environ)


FILES = {
    "token": b"from-file\n",
    "empty": b"\n",
    "ca.crt": CA,
    "tls.crt": PAIR.certificate,
    "tls.key": PAIR.key,
    "bundle.crt": b"# our authorities, \xe4lteste zuerst\r\n" + AUTHORITY.issue_client("x").key + CA,
}
SERVER = {"server": "https://10.0.0.1:6443"}


def write(path: Path, cluster: Mapping[str, Any], user: Mapping[str, Any]) -> Path:
    config = {
        "clusters": [{"name": "c", "cluster": dict(cluster)}],
        "users": [{"name": "u", "user": dict(user)}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(to_yaml(config))
    return path


def as_user(about: str, user: Mapping[str, Any], **expected: Any) -> Row:
    """A row that is about who speaks."""
    return Row(about, {}, SERVER, user, **expected)


def to(url: str, **more: Any) -> dict[str, Any]:
    """The part of a row that is about the server."""
    return {"cluster": {"server": url}, "server": url, **more}
