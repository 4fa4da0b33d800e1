"""Clients of an API server, made from a kubeconfig that a test has changed."""

from pathlib import Path
from typing import Any

from kproxy.api.transport.access import AccessOptions
from kproxy.api.transport.client import ApiClient
from kproxy.api.transport.credentials import Credentials
from tests.kit.yaml_text import from_yaml, to_yaml


def client(**options: Any) -> ApiClient:
    """Return a client by `AccessOptions`, as they are given."""
    return ApiClient(Credentials(AccessOptions(**options)))


def works(api: ApiClient) -> bool:
    """List Services; tell whether that is what came."""
    answer = api.get("/api/v1/services", {"limit": "1"})
    return b"ServiceList" in answer.read()


def edit(kubeconfig: Path, **parts: Any) -> Path:
    """Change the cluster's and the user's fields; None removes one."""
    config = from_yaml(kubeconfig.read_text())
    for section, changes in parts.items():
        entry = config[f"{section}s"][0][section]
        entry.update(changes)
        for name in [name for name, value in entry.items() if value is None]:
            del entry[name]
    kubeconfig.write_text(to_yaml(config))
    return kubeconfig
