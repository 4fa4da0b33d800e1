"""The walk-through in the documents shows what the stages really make of its example."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from kproxy.api.kinds import Kind
from kproxy.api.manifests import combine, read_manifest
from kproxy.api.types import EndpointSlice, Service
from kproxy.backends.iptables.compile.compiler import compile_plan
from kproxy.backends.iptables.rules.render import render_chain
from kproxy.node.facts import node_facts
from kproxy.plan.planner import Planner
from kproxy.plan.settings import ProxySettings
from kproxy.state.model import IPFamily
from kproxy.state.tracker import Tracker
from tests.kit.paths import DEPLOY

PAGE = DEPLOY / "docs" / "walkthrough.md"
BLOCKS = re.findall(r"```(?:yaml)?\n(.*?)```", PAGE.read_text(), re.DOTALL)


class Example(NamedTuple):
    tracker: Tracker
    planner: Planner


@pytest.fixture(name="example")
def example_of_the_page() -> Example:
    objects = combine({"web.yaml": read_manifest(BLOCKS[0].encode(), "web.yaml")}, None).objects
    tracker = Tracker(IPFamily.IPV4, "node-a")
    (service,) = objects[Kind.SERVICE].values()
    (endpoint_slice,) = objects[Kind.ENDPOINT_SLICE].values()
    assert isinstance(service, Service)
    assert isinstance(endpoint_slice, EndpointSlice)
    tracker.update_service(service)
    tracker.update_slice(endpoint_slice)
    settings = ProxySettings(cluster_cidrs={IPFamily.IPV4: "10.244.0.0/16"})
    planner = Planner(settings, node_facts("node-a", None), tracker)
    planner.update(tracker.pending)
    return Example(tracker, planner)


def test_state(example: Example) -> None:
    assert BLOCKS[1] == "".join(f"{line}\n" for line in state_lines(example.tracker))


def state_lines(tracker: Tracker) -> Iterator[str]:
    for name, port in tracker.ports.items():
        yield str(name)
        yield f"    ServicePort: cluster_ip={port.cluster_ip} port={port.port}"
        for endpoint in tracker.endpoints(name):
            yield f"    Endpoint: {endpoint} is_local={endpoint.is_local} ready={endpoint.ready}"


def test_plan(example: Example) -> None:
    assert BLOCKS[2] == "".join(f"{line}\n" for line in plan_lines(example.planner))


def plan_lines(planner: Planner) -> Iterator[str]:
    for name, service in planner.plan.services.items():
        yield str(name)
        for frontend in service.frontends:
            yield f"    frontend: {frontend.kind.value} {frontend.ip} port {frontend.port}"
        yield f"    internal route: to={service.internal.to.value} masquerade={service.internal.masquerade.value}"
        yield f"    cluster endpoints: {' '.join(map(str, service.cluster_endpoints))}"


def test_rules(example: Example) -> None:
    chains = compile_plan(example.planner.plan).nat.chains
    lines = [line for chain in chains for line in render_chain(chain, chains[chain], IPFamily.IPV4)]
    about_web = [line for line in lines if "shop/web:http" in line]
    assert sorted(BLOCKS[3].splitlines()) == sorted(about_web)
