"""Fixtures for all tests; each set of them lives beside what it sets up. And how tests are spread over processes."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.kit.apiserver.fixtures import api_server as api_server
from tests.kit.apiserver.fixtures import kubeconfig as kubeconfig
from tests.kit.conntrack import dns as dns
from tests.kit.conntrack import net as net
from tests.kit.conntrack import web as web
from tests.kit.lab import lab as lab
from tests.kit.world import idle_world as idle_world
from tests.kit.world import kproxy_args as kproxy_args
from tests.kit.world import world as world

# Others are at work on the same machine: how long it takes to make or to try an example says nothing about kproxy.
settings.register_profile("kproxy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kproxy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: files that build the image, then those with packets; so that all end together."""
    ranks: dict[Path, int] = {}
    for item in items:
        rank = 0 if item.get_closest_marker("image") else 1 if item.get_closest_marker("kernel") else 2
        ranks[item.path] = min(rank, ranks.get(item.path, rank))
    items.sort(key=lambda item: ranks[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Let reports through to the process that prints them whatever a test has logged: half a character, say."""
    return _printable((yield))


def _printable(data: Any) -> Any:
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace").decode()
    if isinstance(data, dict):
        return {_printable(key): _printable(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return type(data)(_printable(value) for value in data)
    return data
