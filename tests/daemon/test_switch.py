"""From one engine to the other and back on a running node: nobody notices, and nothing is left behind."""

import datetime
import re
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from hack.lab import until
from hack.lab.kproxy import METRICS_PORT
from kproxy.backends.nftables.rules import names
from tests.kit.apiserver.objects import endpoint, make_service, make_slice
from tests.kit.packets import PATIENCE, PORT, World, cluster_ips, each_family
from tests.kit.packets.crowd import steady_crowd
from tests.kit.totals import fallen, totals_of

pytestmark = pytest.mark.kernel

CONNECTIONS = "kproxy_service_connections_total{"
PROGRAMMED = 'kubeproxy_network_programming_duration_seconds_count{ip_family="IPv4"}'
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
    with steady_crowd(world) as clients:
        clients.ask_on()
        world.configure(mode=mode, nodePortAddresses=["primary"])
        clients.ask_on()
        until(lambda: rules_of(world) == {mode}, PATIENCE, "the rules of this mode alone")
        clients.ask_on()
        clients.assert_connections_last()


def has_rules_of(mode: str, world: World) -> bool:
    return rules_of(world) == {mode}


def totals(world: World) -> dict[str, float]:
    return totals_of(world.kproxy.get("/metrics", METRICS_PORT)[1])


def test_totals_go_on_over_changes_of_mode(world: World) -> None:
    """To Prometheus a counter that falls is one that has begun anew, and all of it is counted once more."""
    world.configure(mode="nftables")
    until(partial(has_rules_of, "nftables", world), PATIENCE, "the rules of mode nftables alone")
    shop = world.expose("shop", 11, [world.lab.pod("web-1")])
    before: dict[str, float] = {}
    for mode in ("iptables", "nftables", "iptables"):
        assert world.lab.pod("asker").ask(shop.ip("ipv4"), PORT).server == "web-1"
        now = totals(world)
        assert fallen(before, now) == {}
        before |= now
        world.configure(mode=mode)
        until(partial(has_rules_of, mode, world), PATIENCE, "the rules of this mode alone")  # that count what is asked
    now = totals(world)
    assert fallen(before, now) == {}
    of_a_mode_or_service = re.compile(r"kubeproxy_sync_proxy_rules_\w+_failures_total|kproxy_(service|endpoint)_")
    assert [series for series in before.keys() - now.keys() if not of_a_mode_or_service.match(series)] == []
    connections = [value for series, value in now.items() if series.startswith(CONNECTIONS) and '"shop"' in series]
    assert connections == [3.0]


def test_what_a_change_of_mode_finds_there_is_no_news(world: World) -> None:
    """A slice bears the time of its last change; how long that is ago is not how long its rules took."""
    world.configure(mode="nftables")
    changed = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
    ends = [endpoint(world.lab.pod("web-1").ip, node="node-a")]
    annotations = {"endpoints.kubernetes.io/last-change-trigger-time": changed}
    slice_ = make_slice("shop", endpoints=ends, annotations=annotations)
    world.put(make_service("shop", cluster_ip=cluster_ips(12)), slice_)
    before = totals(world)[PROGRAMMED]
    assert before >= 1
    world.configure(mode="iptables")
    assert totals(world)[PROGRAMMED] == before


def netlink_sockets(world: World) -> int:
    """How many the daemon has open; the nftables engine has several for each family, one of which hears all news."""
    process = Path(f"/proc/{world.kproxy.process.pid}")
    links = set()
    for entry in (process / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            links.add(str(entry.readlink()))
    lines = (process / "net/netlink").read_text().splitlines()[1:]
    return sum(f"socket:[{line.split()[-1]}]" in links for line in lines)


def no_more(expected: int, world: World) -> bool:
    return netlink_sockets(world) <= expected


def test_an_engine_that_is_left_lets_go_of_its_sockets(world: World) -> None:
    """One that stays open gathers the kernel's news, which nobody reads, in memory of the kernel's."""
    world.configure(mode="nftables")
    most = netlink_sockets(world)
    for mode in ("iptables", "nftables") * 3:  # by how it came into force it has 6 or 8
        world.configure(mode=mode)
    until(partial(no_more, most + 2, world), PATIENCE, f"no more than some {most} sockets in nftables")
    world.configure(mode="iptables")
    until(partial(no_more, most - 1, world), PATIENCE, "the sockets of mode nftables to be closed")


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
