"""A server that nothing is served by yet, and a port for it."""

from collections.abc import Iterator

import pytest

from kproxy.report.http import HttpServers
from tests.report.kit import free_ports


@pytest.fixture
def port() -> Iterator[int]:
    with free_ports() as (free,):
        yield free


@pytest.fixture
def servers() -> Iterator[HttpServers]:
    running = HttpServers()
    running.start()
    yield running
    running.stop()
