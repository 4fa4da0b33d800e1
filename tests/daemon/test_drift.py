"""Somebody flushes, reloads or edits the tables of a node at work: noticed within a second, repaired, and counted."""

import os
import re
import signal
from collections.abc import Sequence

import pytest

from hack.lab import select, until
from hack.lab.hosts import IPTABLES
from tests.kit.packets import FAMILIES, PATIENCE, PORT, Exposed, World, assert_all, each_family
from tests.kit.variants import lab as lab
from tests.kit.variants import variant as variant

pytestmark = pytest.mark.kernel

REPAIRS = "kproxy_drift_repairs_total"
LABELS = {"ipv4": "IPv4", "ipv6": "IPv6"}
Rules = dict[str, list[str]]

EMPTY = "*nat\nCOMMIT\n*filter\nCOMMIT\n"
NEIGHBOUR = """\
*nat
:NEIGHBOUR - [0:0]
-A PREROUTING -p tcp -m tcp --dport 9999 -j NEIGHBOUR
-A NEIGHBOUR -j RETURN
COMMIT
*filter
:NEIGHBOUR - [0:0]
-I FORWARD 1 -j NEIGHBOUR
-A NEIGHBOUR -p tcp -m tcp --dport 9999 -j DROP
COMMIT
"""
"""A firewall's rules. Loaded without --noflush, as a firewall's service loads them, nobody else's are left."""

COMMANDS: dict[str, Sequence[str]] = {
    "filter flushed": ["-F"],
    "nat flushed": ["-t nat -F"],
    "all flushed": ["-F", "-t nat -F"],
    "hook of nat removed": ["-t nat -D PREROUTING 1"],
    "hook of filter removed": ["-D FORWARD 1"],
    "list emptied": ["-t nat -F KUBE-SERVICES"],
    "rule added": ["-t nat -I KUBE-SERVICES 1 -j RETURN"],
}
RELOADS = {"emptied": EMPTY, "reloaded": NEIGHBOUR}


@pytest.fixture(scope="module")
def kproxy_args(variant: str) -> Sequence[str]:
    return "--iptables-variant", variant, "--v", "2"


@pytest.fixture(scope="module")
def web(world: World) -> Exposed:
    world.expose("refused", 11)
    return world.expose("web", 10, [world.lab.pod(name) for name in ("web-1", "web-2", "web-3")])


def iptables(world: World, variant: str, family: str, arguments: str) -> None:
    world.lab.node.run([f"{IPTABLES[family]}-{variant}", *arguments.split()])


def load(world: World, variant: str, family: str, text: str, *options: str) -> None:
    world.lab.node.run([f"{IPTABLES[family]}-{variant}-restore", *options], text)


def rules(world: World, family: str, ours: str = "KUBE-") -> Rules:
    """The rules that have to do with kproxy, or another, by table and chain."""
    found: Rules = {}
    table = ""
    for line in world.lab.node.iptables_save(family).splitlines():
        if line.startswith("*"):
            table = line
        elif (chain := re.match(r"(?::|-A )(\S+)", line)) and ours in line:
            found.setdefault(f"{table} {chain[1]}", []).extend([line] if line.startswith("-A") else [])
    return found


def repairs(world: World) -> dict[str, float]:
    metrics = world.kproxy.metrics()
    return {family: sum(select(metrics, REPAIRS, ip_family=LABELS[family]).values()) for family in FAMILIES}


def comparisons(world: World, family: str) -> int:
    return len(re.findall(rf"synced.* family={family} .*full=true", world.kproxy.log()))


def other(family: str) -> str:
    return FAMILIES[1 - FAMILIES.index(family)]


def assert_repaired(world: World, web: Exposed, family: str, before: Rules, repaired: dict[str, float]) -> None:
    """Check that the rules become what they were, that this was counted in this family alone, and that all works."""
    until(lambda: rules(world, family) == before, PATIENCE, "the rules to be repaired")
    until(lambda: repairs(world)[family] > repaired[family], PATIENCE, "the repair to be counted")
    assert repairs(world)[other(family)] == repaired[other(family)]
    asker = world.lab.pod("asker")
    assert_all(asker.ask_many(web.ip(family), PORT, times=60), servers=["web-1", "web-2", "web-3"])
    assert asker.ask(Exposed("refused", 11).ip(family), PORT).outcome == "refused"


@each_family
@pytest.mark.parametrize("drift", COMMANDS)
def test_a_command(world: World, web: Exposed, variant: str, family: str, drift: str) -> None:
    before, repaired = rules(world, family), repairs(world)
    with world.lab.pod("asker").connect(web.ip(family), PORT) as connection:
        for command in COMMANDS[drift]:
            iptables(world, variant, family, command)
        assert_repaired(world, web, family, before, repaired)
        assert connection.echo()


@each_family
@pytest.mark.parametrize("reload", RELOADS)
def test_a_reload_of_whole_tables(world: World, web: Exposed, variant: str, family: str, reload: str) -> None:
    before, repaired = rules(world, family), repairs(world)
    with world.lab.pod("asker").connect(web.ip(family), PORT) as connection:
        load(world, variant, family, RELOADS[reload])
        assert_repaired(world, web, family, before, repaired)
        assert connection.echo()
    theirs = rules(world, family, "NEIGHBOUR")
    assert len(theirs) == (4 if reload == "reloaded" else 0)
    repaired = repairs(world)
    load(world, variant, family, EMPTY)
    assert_repaired(world, web, family, before, repaired)


@each_family
def test_a_flush_while_a_change_comes(world: World, web: Exposed, variant: str, family: str) -> None:
    """The change is made on tables that are not what kproxy left; both are seen to."""
    pods = [world.lab.pod(name) for name in ("web-1", "web-2")]
    for round_ in range(3):
        iptables(world, variant, family, "-t nat -F")
        world.expose("changing", 12, pods[: 1 + round_ % 2])
        asker = world.lab.pod("asker")
        assert asker.ask(Exposed("changing", 12).ip(family), PORT).server in ("web-1", "web-2")
        assert_all(asker.ask_many(web.ip(family), PORT, times=60), servers=["web-1", "web-2", "web-3"])
    world.remove("changing")


@each_family
def test_a_neighbours_change_stays_and_is_no_repair(world: World, web: Exposed, variant: str, family: str) -> None:
    before, repaired = rules(world, family), repairs(world)
    compared = comparisons(world, family)
    load(world, variant, family, NEIGHBOUR, "--noflush")
    theirs = rules(world, family, "NEIGHBOUR")
    until(lambda: comparisons(world, family) > compared, PATIENCE, "kproxy to notice and to compare")
    assert rules(world, family, "NEIGHBOUR") == theirs
    assert rules(world, family) == before
    assert repairs(world) == repaired
    load(world, variant, family, EMPTY)
    assert_repaired(world, web, family, before, repaired)


@each_family
def test_sighup_compares_everything(world: World, web: Exposed, variant: str, family: str) -> None:
    """A rule replaced by one as long leaves the legacy table's outline as it was: only a comparison tells."""
    before, repaired = rules(world, family), repairs(world)
    iptables(world, variant, family, "-t nat -R KUBE-MARK-MASQ 1 -j MARK --or-mark 0x8000")
    assert rules(world, family) != before or variant == "nft"
    os.kill(world.kproxy.process.pid, signal.SIGHUP)
    assert_repaired(world, web, family, before, repaired)
