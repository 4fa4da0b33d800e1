"""pytest fixtures of the test API server; tests/conftest.py makes them known to all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.apiserver.server import ApiServer


@pytest.fixture
def api_server() -> Iterator[ApiServer]:
    """A running, empty API server; it is stopped, with all its connections, after the test."""
    with ApiServer() as server:
        yield server


@pytest.fixture
def kubeconfig(api_server: ApiServer, tmp_path: Path) -> Path:
    """A kubeconfig with a good token for ``api_server``."""
    return api_server.kubeconfig(tmp_path / "kubeconfig")
