"""A server that nothing is served by yet, and a port for it."""

from collections.abc import Iterator

import pytest

from kproxy.report.http import HttpServers
from tests.report.kit import free_port


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def servers() -> Iterator[HttpServers]:
    running = HttpServers()
    running.start()
    yield running
    running.stop()
