"""What manifests and docs promise of a kproxy at work: its rights suffice, and the way back to kube-proxy is open."""

import re
from collections.abc import Sequence

import pytest

from hack.lab import until
from tests.kit.apiserver.faults import Status
from tests.kit.deploy.manifests import DEPLOY, find, render
from tests.kit.packets import PATIENCE, PORT, World, assert_all

pytestmark = pytest.mark.kernel

KUBE_PROXYS_CHAINS = re.compile(
    r"KUBE-(SERVICES|EXTERNAL-SERVICES|NODEPORTS|POSTROUTING|MARK-MASQ|FORWARD|PROXY-FIREWALL|PROXY-CANARY|FIREWALL)"
    r"|KUBE-(SVC|SVL|SEP|EXT|FW)-[A-Z2-7]{16}"
)
"""All chains that kube-proxy makes, and so cleans up (pkg/proxy/iptables)."""


@pytest.fixture(scope="module")
def kproxy_args() -> Sequence[str]:
    return ("--layout", "large")


def granted() -> set[tuple[str, str, str]]:
    rules = find(render(DEPLOY / "base"), "ClusterRole")["rules"]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_kproxy_asks_for_nothing_that_it_has_no_right_to(world: World) -> None:
    world.kproxy.stop()
    world.control.set(streaming_lists="forbidden")  # as older servers have it: lists, then watches
    world.start("--layout", "large")
    world.control.set(streaming_lists="offered")
    until(lambda: world.control.objects("events"), PATIENCE, "the Event of the start")
    asked = set()
    for request in world.control.state(with_requests=True).requests:
        if request.resource and request.user_agent.startswith("kproxy/"):
            group = re.match(r"/apis/([^/]+)/", request.path)
            asked.add((group[1] if group else "", request.resource, request.verb))
    assert len(asked) >= 7
    assert asked - granted() == set()


def test_no_right_to_create_events_harms_nobody(world: World) -> None:
    world.kproxy.stop()
    world.control.add_fault(Status(403), resource="events", verb="create", times=None)
    world.start("--layout", "large")
    shop = world.expose("shop", 10, [world.lab.pod("web-1")])
    assert_all(world.lab.pod("asker").ask_many(shop.ip("ipv4"), PORT, times=10), servers=["web-1"])
    assert "error" not in world.kproxy.log()
    world.control.clear_faults()


def foreign_to_kube_proxy(world: World) -> list[str]:
    """What is in the kernel that kube-proxy does not know: chains, and tables of nftables."""
    node = world.lab.node
    text = "".join(node.iptables_save(family) for family in ("ipv4", "ipv6"))
    chains = re.findall(r"^:(KUBE-\S+)", text, re.MULTILINE)
    tables = re.findall(r"^table (\w+ kproxy)$", node.run(["nft", "list", "tables"]).stdout, re.MULTILINE)
    return [chain for chain in chains if not KUBE_PROXYS_CHAINS.fullmatch(chain)] + tables


@pytest.mark.parametrize("before", [("--layout=large",), ("--proxy-mode=nftables",)], ids=" ".join)
def test_before_the_way_back_all_rules_become_those_that_kube_proxy_knows(world: World, before: Sequence[str]) -> None:
    assert world.kproxy.stop() == 0
    world.start(*before)
    web = [world.lab.pod("web-1"), world.lab.pod("web-3")]
    for number in range(20, 50):
        world.expose(f"many-{number}", number, web, type="NodePort")
    assert foreign_to_kube_proxy(world)  # or there is nothing to see
    asker = world.lab.pod("asker")
    with asker.connect("10.96.0.20", PORT) as held, asker.load("10.96.0.49", PORT) as load:
        assert world.kproxy.stop() == 0
        world.start("--proxy-mode=iptables", "--layout=classic")  # as give-back.sh has it
        assert held.echo()
        until(lambda: not foreign_to_kube_proxy(world), PATIENCE, "what kube-proxy does not know to go")
        assert world.kproxy.stop() == 0
        assert_all(asker.ask_many("10.96.0.21", PORT, times=40), servers=["web-1", "web-3"])
    assert not load.tally.failures
    world.start("--layout=classic")
