"""One HAProxy for all tests of a file that only ask, and change nothing of each other's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kproxy.ingress.haproxy.engine import Engine
from tests.ingress.haproxy.kit import Pod, engine, namespace, pods


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("haproxy")


@pytest.fixture(scope="module")
def three(folder: Path) -> Iterator[dict[str, Pod]]:
    """Pods a, b and c, in a namespace that this thread is in from now on."""
    with namespace(folder), pods(a="10.1.0.1", b="10.1.0.2", c="10.1.0.3") as running:
        yield running


@pytest.fixture(scope="module")
def running(folder: Path, three: dict[str, Pod]) -> Iterator[Engine]:
    assert three  # HAProxy runs in their namespace
    with engine(folder) as made:
        yield made
