"""Kernel settings become what kube-proxy makes them, and what can't be set is said and not fatal."""

import subprocess
import sys
from pathlib import Path

import pytest

from kproxy.config import Config, load
from kproxy.node import sysctl
from kproxy.node.sysctl import Setting
from tests.kit.paths import ROOT

CONNTRACK = "net.netfilter.nf_conntrack_"


def names(config: Config, cores: int = 2) -> dict[str, int]:
    return {setting.name: setting.value for setting in sysctl.wanted(config, cores)}


def test_the_defaults_are_kube_proxys() -> None:
    assert names(Config()) == {
        f"{CONNTRACK}max": 131072,
        "/sys/module/nf_conntrack/parameters/hashsize": 32768,
        f"{CONNTRACK}tcp_timeout_established": 86400,
        f"{CONNTRACK}tcp_timeout_close_wait": 3600,
        "net.ipv4.conf.all.route_localnet": 1,
    }


@pytest.mark.parametrize(
    ("args", "cores", "name", "value"),
    [
        ([], 8, f"{CONNTRACK}max", 262144),
        (["--conntrack-max-per-core=1000", "--conntrack-min=5"], 2, f"{CONNTRACK}max", 2000),
        (["--conntrack-max-per-core=0"], 8, f"{CONNTRACK}max", None),
        (["--conntrack-max-per-core=0"], 8, "/sys/module/nf_conntrack/parameters/hashsize", None),
        (["--conntrack-tcp-timeout-established=0s"], 2, f"{CONNTRACK}tcp_timeout_established", None),
        (["--conntrack-tcp-timeout-close-wait=1m"], 2, f"{CONNTRACK}tcp_timeout_close_wait", 60),
        (["--conntrack-tcp-be-liberal"], 2, f"{CONNTRACK}tcp_be_liberal", 1),
        ([], 2, f"{CONNTRACK}tcp_be_liberal", None),
        (["--conntrack-udp-timeout=10s"], 2, f"{CONNTRACK}udp_timeout", 10),
        (["--conntrack-udp-timeout-stream=20s"], 2, f"{CONNTRACK}udp_timeout_stream", 20),
        (["--iptables-localhost-nodeports=false"], 2, "net.ipv4.conf.all.route_localnet", None),
        (["--proxy-mode=nftables"], 2, "net.ipv4.conf.all.route_localnet", None),
        (["--nodeport-addresses=primary"], 2, "net.ipv4.conf.all.route_localnet", None),
        (["--nodeport-addresses=10.0.0.0/8"], 2, "net.ipv4.conf.all.route_localnet", None),
        (["--nodeport-addresses=10.0.0.0/8,127.0.0.1/32"], 2, "net.ipv4.conf.all.route_localnet", 1),
        (["--nodeport-addresses=0.0.0.0/0"], 2, "net.ipv4.conf.all.route_localnet", 1),
        (["--nodeport-addresses=fd00::/8"], 2, "net.ipv4.conf.all.route_localnet", 1),
    ],
)
def test_what_is_wanted(args: list[str], cores: int, name: str, value: int | None) -> None:
    assert names(load(args), cores).get(name) == value


class Tree:
    """A made-up /proc and /sys that notices every write."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, path: str, content: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return file


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_wrong_value_is_set(tree: Tree) -> None:
    file = tree.put("proc/sys/net/x", "5\n")
    (outcome,) = sysctl.apply([Setting("proc/sys/net/x", 7, "")], tree.root)
    assert file.read_text() == "7\n"
    assert (outcome.found, outcome.written, outcome.problem) == (5, True, "")


@pytest.mark.parametrize(("found", "at_least"), [("7", False), ("7", True), ("8", True)])
def test_a_right_value_is_left_alone(tree: Tree, found: str, at_least: bool) -> None:
    file = tree.put("proc/sys/net/x", found)
    file.chmod(0o444)
    before = file.stat().st_mtime_ns
    (outcome,) = sysctl.apply([Setting("proc/sys/net/x", 7, "", at_least)], tree.root)
    assert not outcome.written
    assert not outcome.problem
    assert file.stat().st_mtime_ns == before


def test_a_time_out_that_is_too_long_is_shortened(tree: Tree) -> None:
    tree.put("proc/sys/net/x", "432000")
    (outcome,) = sysctl.apply([Setting("proc/sys/net/x", 86400, "")], tree.root)
    assert outcome.written


def test_a_missing_setting_is_named_with_value_and_remedy(tree: Tree) -> None:
    (outcome,) = sysctl.apply(
        [Setting("proc/sys/net/netfilter/nf_conntrack_max", 9, "for room", at_least=True)], tree.root
    )
    assert outcome.problem == (
        "net.netfilter.nf_conntrack_max could not be read and could not be set to at least 9, for room: "
        "there is no such setting here, as its module is not loaded; run on the node: modprobe nf_conntrack"
    )
    assert outcome.missing_module


def test_a_setting_that_a_loaded_module_lacks_is_none_of_the_modules(tree: Tree) -> None:
    tree.put("proc/sys/net/netfilter/nf_conntrack_max", "9")
    (outcome,) = sysctl.apply([Setting("proc/sys/net/netfilter/nf_conntrack_odd", 9, "for room")], tree.root)
    assert "there is no such setting here; run on the node: sysctl -w" in outcome.problem
    assert not outcome.missing_module


def test_a_read_only_setting_is_named(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.put("sys/module/x/hashsize", "5")

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "write_text", read_only)
    (outcome,) = sysctl.apply([Setting("sys/module/x/hashsize", 9, "for speed")], tree.root)
    assert outcome.problem == (
        "/sys/module/x/hashsize is 5 and could not be set to 9, for speed: it is read-only here; "
        "run on the node: echo 9 > /sys/module/x/hashsize"
    )


@pytest.mark.parametrize("content", ["", "x", "\n"])
def test_nonsense_is_a_problem_and_not_a_crash(tree: Tree, content: str) -> None:
    tree.put("proc/sys/net/x", content)
    (outcome,) = sysctl.apply([Setting("proc/sys/net/x", 7, "")], tree.root)
    assert "it holds no number" in outcome.problem


@pytest.mark.parametrize(("text", "cores"), [("0\n", 1), ("0-1\n", 2), ("0-3,6,8-9\n", 7)])
def test_cores_are_the_machines(tree: Tree, text: str, cores: int) -> None:
    tree.put("sys/devices/system/cpu/online", text)
    assert sysctl.online_cores(tree.root) == cores


def test_cores_are_counted_somehow_where_sysfs_is_missing(tree: Tree) -> None:
    assert sysctl.online_cores(tree.root) >= 1


def test_oom_score(tree: Tree) -> None:
    file = tree.put("proc/self/oom_score_adj", "0\n")
    assert sysctl.set_oom_score_adj(-999, tree.root) == ""
    assert file.read_text() == "-999\n"
    file.unlink()
    assert "oom_score_adj could not be set to -999" in sysctl.set_oom_score_adj(-999, tree.root / "nowhere")


@pytest.mark.kernel
def test_a_network_namespace_of_its_own_is_set_up_for_real() -> None:
    """In a namespace the time-outs and route_localnet can be set; the limit is read-only, as in every kind node."""
    code = """
from pathlib import Path
from kproxy.node import sysctl
from kproxy.config import load
more = int(Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text()) + 1
config = load(["--conntrack-udp-timeout=11s", f"--conntrack-min={more}", "--conntrack-max-per-core=1"])
settings = [setting for setting in sysctl.wanted(config, 1) if not setting.path.startswith("sys/")]
for outcome in sysctl.apply(settings):
    print(outcome.setting.name, outcome.written, outcome.problem)
assert not any(outcome.written for outcome in sysctl.apply(settings))
"""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
    )
    lines = done.stdout.splitlines()
    assert "net.netfilter.nf_conntrack_udp_timeout True " in lines
    assert "net.ipv4.conf.all.route_localnet True " in lines
    (limit,) = [line for line in lines if line.startswith("net.netfilter.nf_conntrack_max")]
    assert "it is read-only here" in limit
