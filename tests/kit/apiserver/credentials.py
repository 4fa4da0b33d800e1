"""The files by which clients find and trust an API server: kubeconfig, and a pod's service-account folder."""

from base64 import b64encode
from pathlib import Path
from typing import Any

from tests.kit.apiserver.certs import KeyPair
from tests.kit.yaml_text import to_yaml


def write_kubeconfig(path: Path, url: str, authority: bytes, credentials: str | KeyPair) -> Path:
    """Write a kubeconfig; ``credentials`` is a bearer token or a client certificate. Returns ``path``."""
    user: dict[str, Any]
    if isinstance(credentials, KeyPair):
        certificate, key = _base64(credentials.certificate), _base64(credentials.key)
        user = {"client-certificate-data": certificate, "client-key-data": key}
    else:
        user = {"token": credentials}
    cluster = {"server": url}
    if url.startswith("https:"):
        cluster["certificate-authority-data"] = _base64(authority)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    path.write_text(to_yaml(config))
    path.chmod(0o600)
    return path


def write_service_account(folder: Path, token: str, authority: bytes) -> Path:
    """Write token, ca.crt and namespace as the kubelet mounts them; returns ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "token").write_text(token)
    (folder / "ca.crt").write_bytes(authority)
    (folder / "namespace").write_text("kube-system")
    return folder


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
