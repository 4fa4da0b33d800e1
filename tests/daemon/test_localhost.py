"""Nobody gets at 127.0.0.1 of a node from outside, whatever kproxy opened, closes, or leaves (CVE-2020-8558).

Node ports at localhost need the sysctl route_localnet, which lets neighbours at all of 127.0.0.0/8 but for a rule in
KUBE-FIREWALL. A burglar tries all the time; the sysctl goes back to what it was when what needed it goes.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from hack.lab import Outcome, Pod, until
from kproxy.node.raised import RUN_DIRECTORY, namespace_cookie
from tests.kit.packets import PATIENCE, SILENCE, World, bridge, clean_up

pytestmark = pytest.mark.kernel

ROUTE_LOCALNET = "net.ipv4.conf.all.route_localnet"
GUARD = "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8"
KUBELET = "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n"
KUBE_PROXY = "*nat\n:KUBE-PROXY-CANARY - [0:0]\nCOMMIT\n"
PORT = 5555


@pytest.fixture(scope="module")
def burglar(idle_world: World) -> Iterator[Pod]:
    """A pod that sends packets for 127.0.0.1 out on the wire, to its node, where a server listens there."""
    world, node = idle_world, idle_world.lab.node
    pod = world.lab.add_pod("burglar")
    pod.namespace.sysctl(ROUTE_LOCALNET, 1)
    pod.namespace.ip(["address delete 127.0.0.1/8 dev lo", f"route add 127.0.0.1 via {bridge().v4} src {pod.ip}"])
    node.addresses.append("127.0.0.1")
    server = node.serve(PORT, name="treasure")
    node.addresses.remove("127.0.0.1")
    with closing(server):
        yield pod


@pytest.fixture
def closed(idle_world: World, burglar: Pod) -> Iterator[World]:
    """A node on which 127.0.0.1 is closed, without kproxy and any trace of it; it must be so afterwards."""
    world = idle_world
    world.lab.node.namespace.sysctl(ROUTE_LOCALNET, 0)
    assert not gets_in(burglar)
    yield world
    if world.kproxy.process.exit_code is None:
        world.kproxy.stop()
    assert "Traceback" not in world.kproxy.log()
    clean_up(world.lab.node)
    world.lab.node.run(["iptables-legacy", "-t", "mangle", "-X"])
    world.lab.node.namespace.sysctl(ROUTE_LOCALNET, 0)
    clean_up(world.lab.node)
    assert "KUBE-" not in world.lab.node.iptables_save()


def route_localnet(world: World) -> int:
    return int(world.lab.node.run(["sysctl", "-n", ROUTE_LOCALNET]).stdout)


def guarded(world: World) -> bool:
    return GUARD in world.lab.node.iptables_save()


def gets_in(burglar: Pod, timeout: float = SILENCE) -> bool:
    return burglar.ask("127.0.0.1", PORT, timeout=timeout).outcome is Outcome.ANSWERED


def opened(world: World, burglar: Pod) -> None:
    """Wait until kproxy has raised the sysctl, and try the door."""
    until(lambda: route_localnet(world) == 1, PATIENCE, "kproxy to raise route_localnet")
    assert guarded(world)
    assert not gets_in(burglar)


def test_the_sysctl_alone_lets_neighbours_in(closed: World, burglar: Pod) -> None:
    closed.start()
    opened(closed, burglar)
    assert closed.kproxy.stop() == 0
    assert not gets_in(burglar), "the guard stays while kproxy is away"
    closed.lab.node.run(["iptables-legacy", "-F", "KUBE-FIREWALL"])
    assert gets_in(burglar, PATIENCE), "so that what follows proves anything"


@pytest.mark.parametrize("killed", [False, True])
def test_cleanup_puts_the_sysctl_back_also_after_a_restart(closed: World, burglar: Pod, killed: bool) -> None:
    closed.start()
    opened(closed, burglar)
    if killed:
        closed.kproxy.process.kill()
        closed.start()
        opened(closed, burglar)
    assert closed.kproxy.stop() == 0
    with burglar.load("127.0.0.1", PORT) as tries:
        said = closed.lab.node.clean_up()
    assert route_localnet(closed) == 0, said
    assert "KUBE-" not in closed.lab.node.iptables_save()
    assert not gets_in(burglar)
    assert not tries.tally.servers


WITHOUT_LOCALHOST: dict[str, dict[str, Any]] = {
    "another mode": {"mode": "nftables"},
    "not wanted": {"iptables": {"localhostNodePorts": False}},
    "other addresses": {"nodePortAddresses": ["10.0.0.0/24"]},
}


@pytest.mark.parametrize("case", list(WITHOUT_LOCALHOST))
def test_it_goes_back_when_nothing_asks_for_it_any_more(closed: World, burglar: Pod, case: str) -> None:
    closed.start()
    opened(closed, burglar)
    with burglar.load("127.0.0.1", PORT) as tries:
        closed.configure(**WITHOUT_LOCALHOST[case])
        until(lambda: route_localnet(closed) == 0, PATIENCE, "the sysctl to go back")
    assert not tries.tally.servers
    closed.configure()
    opened(closed, burglar)


def test_it_stays_where_it_was_up_before(closed: World, burglar: Pod) -> None:
    closed.lab.node.namespace.sysctl(ROUTE_LOCALNET, 1)
    assert gets_in(burglar, PATIENCE), "nobody guarded it"
    closed.start()
    opened(closed, burglar)
    assert closed.kproxy.stop() == 0
    closed.lab.node.clean_up()
    assert route_localnet(closed) == 1
    assert "KUBE-" not in closed.lab.node.iptables_save()


@pytest.mark.parametrize("others", [KUBELET, KUBE_PROXY], ids=["kubelet", "kube-proxy"])
def test_it_stays_with_its_guard_where_others_need_it(closed: World, burglar: Pod, others: str) -> None:
    closed.start()
    opened(closed, burglar)
    assert closed.kproxy.stop() == 0
    # Afterwards: half a second later, a running kproxy would take kube-proxy's chain for one that is left over.
    closed.lab.node.run(["iptables-legacy-restore", "--noflush"], others)
    closed.lab.node.clean_up()
    assert route_localnet(closed) == 1
    assert guarded(closed)
    assert not gets_in(burglar)


def test_where_nobody_knows_who_raised_it_the_guard_stays(closed: World, burglar: Pod) -> None:
    closed.start()
    opened(closed, burglar)
    assert closed.kproxy.stop() == 0
    with closed.lab.node.namespace.entered():
        notes = RUN_DIRECTORY / f"sysctls-{namespace_cookie():x}.json"
    notes.unlink()
    assert f"sysctl -w {ROUTE_LOCALNET}=0" in closed.lab.node.clean_up()
    assert route_localnet(closed) == 1
    assert not gets_in(burglar)


def test_init_only_closes_before_it_opens(closed: World, burglar: Pod) -> None:
    with burglar.load("127.0.0.1", PORT) as tries:
        closed.launch("--init-only")
        assert closed.kproxy.process.wait(PATIENCE) == 0
    assert route_localnet(closed) == 1
    assert guarded(closed)
    assert not tries.tally.servers
    closed.lab.node.clean_up()
    assert route_localnet(closed) == 0


def test_cleanup_says_it_in_a_container_that_may_not_set_it(closed: World, burglar: Pod) -> None:
    """As in the DaemonSet's container, /proc/sys is read-only: then the guard stays, too."""
    closed.start()
    opened(closed, burglar)
    assert closed.kproxy.stop() == 0
    script = f"mount -o bind,ro /proc/sys /proc/sys && exec {sys.executable} -m kproxy cleanup"
    done: subprocess.CompletedProcess[str] = closed.lab.node.run(["unshare", "-m", "sh", "-c", script])
    assert "could not be put back to 0" in done.stderr
    assert not gets_in(burglar)
    closed.lab.node.clean_up()
    assert route_localnet(closed) == 0
    assert "KUBE-" not in closed.lab.node.iptables_save()
