"""From one engine to the other and back on a running node: nobody notices, and nothing is left behind."""

from functools import partial
from pathlib import Path

import pytest

from hack.lab import until
from kproxy.backends.nftables.rules import names
from tests.kit.packets import PATIENCE, PORT, World, each_family
from tests.packets.test_rollout import PROTOCOLS, crowd

pytestmark = pytest.mark.kernel

OTHER = {"iptables": "nftables", "nftables": "iptables"}


@pytest.fixture(scope="module")
def kproxy_args() -> tuple[str, ...]:
    return ()


def rules_of(world: World) -> set[str]:
    """Which engines have rules in place."""
    node = world.lab.node
    kept = {"KUBE-FIREWALL"}  # the kubelet's as well, and left where it may be
    iptables = {
        line.split()[0][1:]
        for family in ("ipv4", "ipv6")
        for line in node.iptables_save(family).splitlines()
        if line.startswith(":KUBE-") and line.split()[0][1:] not in kept
    }
    tables = node.run(["nft", "list", "tables"]).stdout.split()
    return {name for name, found in (("iptables", iptables), ("nftables", names.TABLE in tables)) if found}


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_another_mode_takes_over_and_nobody_notices(world: World, mode: str) -> None:
    # The mode before may be any: the tests go from one to the other and back.
    world.configure(mode=OTHER[mode], nodePortAddresses=["primary"])
    until(lambda: rules_of(world) == {OTHER[mode]}, PATIENCE, "the rules of the other mode alone")
    pods = [world.lab.pod(name) for name in ("web-1", "web-2", "web-3")]
    spec = {"externalTrafficPolicy": "Local"}
    steady = world.expose("steady", 22, pods, protocols=PROTOCOLS, type="NodePort", spec=spec)
    asker, client = world.lab.pod("asker"), world.lab.client
    with (
        crowd(world, steady) as clients,
        asker.connect(steady.ip("ipv4"), PORT) as inside,
        asker.connect(steady.ip("ipv6"), PORT) as inside6,
        client.connect(world.lab.node.ip, steady.node_port) as outside,
    ):
        clients.ask_on()
        world.configure(mode=mode, nodePortAddresses=["primary"])
        clients.ask_on()
        until(lambda: rules_of(world) == {mode}, PATIENCE, "the rules of this mode alone")
        clients.ask_on()
        assert [connection.echo() for connection in (inside, inside6, outside)] == [True] * 3


def netlink_sockets(world: World) -> int:
    """How many the daemon has open; the nftables engine has several for each family, one of which hears all news."""
    process = Path(f"/proc/{world.kproxy.process.pid}")
    links = {str(entry.readlink()) for entry in (process / "fd").iterdir() if entry.is_symlink()}
    lines = (process / "net/netlink").read_text().splitlines()[1:]
    return sum(f"socket:[{line.split()[-1]}]" in links for line in lines)


def no_more(expected: int, world: World) -> bool:
    return netlink_sockets(world) <= expected


def test_an_engine_that_is_left_lets_go_of_its_sockets(world: World) -> None:
    """One that stays open gathers the kernel's news, which nobody reads, in memory of the kernel's."""
    world.configure(mode="nftables")
    most = netlink_sockets(world)
    world.configure(mode="iptables")
    fewest = netlink_sockets(world)
    assert fewest < most
    for mode, expected in (("nftables", most), ("iptables", fewest)):
        world.configure(mode=mode)
        until(partial(no_more, expected, world), PATIENCE, f"{expected} sockets in {mode}")


@each_family
def test_kproxy_takes_over_from_kube_proxys_table_and_says_so(world: World, family: str) -> None:
    """What kube-proxy has left in nftables comes after kproxy's chains, so it can do no harm to what kproxy serves."""
    shop = world.expose("shop", 10, [world.lab.pod("web-1")])
    ip = {"ipv4": "ip", "ipv6": "ip6"}[family]
    nobody = {"ipv4": "192.0.2.99", "ipv6": "2001:db8:c::99"}[family]
    world.lab.node.run(
        ["nft", "-f", "-"],
        f"table {ip} kube-proxy {{ chain nat-prerouting {{ type nat hook prerouting priority dstnat;\n"
        f"{ip} daddr {shop.ip(family)} tcp dport {PORT} dnat to {nobody}\n}}; }}\n",
    )
    try:
        world.configure(mode="nftables", logging={"verbosity": 1 if family == "ipv4" else 2})
        assert "kube-proxy has left its table in nftables" in world.kproxy.log()
        assert world.lab.pod("asker").ask(shop.ip(family), PORT).server == "web-1"
    finally:
        world.lab.node.run(["nft", "delete", "table", ip, "kube-proxy"])
