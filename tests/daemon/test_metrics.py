"""Each metric that is documented occurs, and each that occurs is documented, on a node where things happen."""

import re

import pytest

from hack.lab import until
from tests.kit.apiserver.objects import make_service, service_port
from tests.kit.deploy.docs import DOCS
from tests.kit.packets import PATIENCE, World, cluster_ips

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def kproxy_args() -> tuple[str, ...]:
    return ()


def documented() -> set[str]:
    """The names in the tables of metrics.md."""
    return set(
        re.findall(r"^\| `(\w+)` \((?:counter|gauge|histogram)\)", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    )


def occurring(world: World) -> set[str]:
    """The names of all metrics that have a value, without what histograms add to theirs."""
    _, text = world.kproxy.get("/metrics", 10249)
    histograms = set(re.findall(r"^# TYPE (\w+) histogram$", text, re.MULTILINE))
    names = re.findall(r"^(\w+)(?:\{.*\})? \S+$", text, re.MULTILINE)
    shortened = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
    return {name for name in names if re.sub(r"_(bucket|sum|count)$", "", name) not in histograms} | (
        shortened & histograms
    )


def happenings(world: World) -> None:
    """Whatever it takes for each metric to have something to tell."""
    pod = world.lab.pod("web-1")
    shop = world.expose("shop", 10, [pod], protocols=("TCP", "UDP"), type="NodePort")
    world.lab.pod("asker").ask(shop.ip("ipv4"), 80)
    thief = make_service(
        "thief", cluster_ip=cluster_ips(11), ports=[service_port(80)], spec={"externalIPs": [shop.ip("ipv4")]}
    )
    odd = make_service("odd", cluster_ip=cluster_ips(12), ports=[service_port(80)], spec={"externalIPs": ["nonsense"]})
    local = make_service(
        "local",
        cluster_ip=cluster_ips(13),
        ports=[service_port(80)],
        type="LoadBalancer",
        spec={"externalTrafficPolicy": "Local", "healthCheckNodePort": 32123},
    )
    world.put(thief, odd, local)
    for page in ("/healthz", "/livez", "/readyz"):
        world.kproxy.get(page)


def test_the_documents_tell_of_what_there_is_and_of_nothing_else(world: World) -> None:
    told = documented()
    seen: set[str] = set()
    for settings in ({}, {"mode": "nftables"}):
        world.configure(**settings)
        happenings(world)
        until(lambda: "kproxy_health_check_node_ports" in occurring(world), PATIENCE, "the health-check node port")
        seen |= occurring(world)
    assert told - seen == set(), "documented, and never there"
    assert seen - told == set(), "there, and not documented"
