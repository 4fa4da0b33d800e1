"""Fixtures for all tests; each set of them lives beside what it sets up. And how tests are spread over processes."""

import gc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("tests.kit")  # what fails there shows its values, too; before anything imports it

from tests.kit.apiserver.fixtures import api_server as api_server
from tests.kit.apiserver.fixtures import kubeconfig as kubeconfig
from tests.kit.examples import scaled
from tests.kit.lab import lab as lab
from tests.kit.logged import logged as logged
from tests.kit.packets.conntrack import dns as dns
from tests.kit.packets.conntrack import net as net
from tests.kit.packets.conntrack import web as web
from tests.kit.packets.fixtures import idle_world as idle_world
from tests.kit.packets.fixtures import kproxy_args as kproxy_args
from tests.kit.packets.fixtures import world as world
from tests.kit.spread import SECONDS, expected, needs_kernel, spaced

pytest_plugins = ["tests.kit.side_by_side"]

# Others are at work on the same machine: how long it takes to make or to try an example says nothing about kproxy.
settings.register_profile(
    "kproxy", max_examples=scaled(100), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("kproxy")


def pytest_configure() -> None:
    """Look for no garbage while tests are collected: there is none, and thousands of tests to look through."""
    gc.disable()


def pytest_collection_finish() -> None:
    """What is there now stays; no collection need look at it again, and of what comes most goes by itself."""
    gc.freeze()
    gc.set_threshold(50_000)
    gc.enable()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no module of which no test is wanted, where it is those without a kernel that are."""
    if _without_kernel(config) and collection_path.suffix == ".py":
        return True if needs_kernel(collection_path) else None
    return None


def _without_kernel(config: pytest.Config) -> bool:
    return bool(config.option.markexpr.startswith("not kernel"))


def _known(config: pytest.Config) -> dict[str, float]:
    """How long each file took last; nothing without pytest's cache (`-p no:cacheprovider`)."""
    return dict(config.cache.get(SECONDS[_without_kernel(config)], {})) if hasattr(config, "cache") else {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that all processes end together.

    Where that is not known yet, it is those with packets. Files that need the image come one after the other: whoever
    builds it lets nobody else at it, and four processes that wait for the fifth would do nothing for a minute or more.
    """
    known = _known(config)
    seconds = expected({item.path for item in items}, known)
    with_image: set[str] = set()
    for item in items:
        file = _file_of(item.nodeid)
        if item.get_closest_marker("kernel") and file not in known:
            seconds[file] = 100.0
        if item.get_closest_marker("image"):
            with_image.add(file)
    order = spaced(sorted(seconds, key=lambda file: -seconds[file]), with_image)
    places = {file: place for place, file in enumerate(order)}
    items.sort(key=lambda item: places[_file_of(item.nodeid)])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Note how long files took, where whole files ran and not only some of their tests."""
    if config.option.keyword or any("::" in one for one in config.args):
        return
    took: dict[str, float] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                file = _file_of(report.nodeid)
                took[file] = round(took.get(file, 0.0) + report.duration, 2)
    if hasattr(config, "cache"):
        config.cache.set(SECONDS[_without_kernel(config)], _known(config) | took)


def _file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]
