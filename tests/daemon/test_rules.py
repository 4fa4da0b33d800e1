"""kproxy and the rules of others: it takes over from another proxy in place, harms no neighbour, leaves no trace."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hack.lab import Kproxy, Lab, until
from tests.kit.iptables.text import Tables, comparable, parse_tables
from tests.kit.packets import FAMILIES, PATIENCE, service, slices
from tests.kit.paths import GOLDEN

pytestmark = pytest.mark.kernel


@pytest.fixture
def clean_node(lab: Lab) -> Iterator[None]:
    """node-a's rules are afterwards what they were before."""
    before = [saved(lab, family) for family in FAMILIES]
    yield
    lab.node.clean_up()
    assert [saved(lab, family) for family in FAMILIES] == before


def saved(lab: Lab, family: str) -> list[str]:
    """All chains and rules of a family, but for built-in chains that do nothing, with their tables and no counters."""
    found, table = [], ""
    for line in lab.node.iptables_save(family).splitlines():
        table = line if line.startswith("*") else table
        if line.startswith("-A") or (line.startswith(":") and " ACCEPT " not in line):
            found.append(f"{table} {line.partition(' [')[0]}")
    return found


def chains(lab: Lab, family: str = "ipv4") -> set[str]:
    return {line.split()[1][1:] for line in saved(lab, family) if " :" in line}


def start(lab: Lab, folder: Path) -> Kproxy:
    """kproxy on node-a, once its first rules are written."""
    state = ["--state-directory", str(lab.folder / "state")]
    kproxy = lab.node.start_kproxy(manifests=folder, args=state)
    kproxy.wait_ready(PATIENCE)
    return kproxy


# Taking over.


def recording(scenario: str, family: str) -> str:
    """What kube-proxy left; nfacct would have to be set up first."""
    text = (GOLDEN / scenario / f"iptables.{family[2:]}.save").read_text()
    return re.sub(r".*localhost_nps_accepted_pkts.*\n| -m nfacct --nfacct-name +\S+", "", text)


def without_cni(tables: Tables) -> Tables:
    """Leave out what the lab itself has written."""
    return {
        name: {
            chain: [rule for rule in rules if not any(option.value == "CNI-MASQUERADE" for option in rule)]
            for chain, rules in table.items()
            if chain != "CNI-MASQUERADE"
        }
        for name, table in tables.items()
    }


@pytest.mark.usefixtures("clean_node")
def test_kproxy_takes_over_from_kube_proxy_in_place(lab: Lab, tmp_path: Path) -> None:
    """Some Services have gone since. Clients of those that are left feel nothing."""
    frontend = lab.add_pod("frontend", ip="10.244.0.50")
    frontend.serve(8080)
    client = lab.add_pod("client-of-frontend")
    for family in FAMILIES:
        lab.node.iptables_restore(recording("small-cluster", family), family)
    objects: list[dict[str, Any]] = json.loads((GOLDEN / "small-cluster" / "objects.json").read_text())["items"]
    left = [obj for obj in objects if re.match(r"node-|frontend|kube", obj["metadata"]["name"])]
    (tmp_path / "objects.json").write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": left}))
    before = chains(lab)
    with (
        client.load("10.96.7.10", 80) as inside,
        lab.client.load(lab.node.ip, 30900) as outside,
        client.connect("10.96.7.10", 80) as connection,
    ):
        until(lambda: min(len(load.tally.answers) for load in (inside, outside)) > 20, PATIENCE, "some requests")
        assert "KUBE-PROXY-CANARY" in before
        kproxy = start(lab, tmp_path)
        seen = [len(load.tally.answers) for load in (inside, outside)]
        until(lambda: len(inside.tally.answers) > seen[0] + 20, PATIENCE, "more requests from inside")
        until(lambda: len(outside.tally.answers) > seen[1] + 20, PATIENCE, "more requests from outside")
        assert connection.echo()
    assert inside.tally.failures == outside.tally.failures == ()
    assert chains(lab) < before
    for family in FAMILIES:
        assert "CANARY" not in " ".join(chains(lab, family))
        command = [sys.executable, "-m", "kproxy", "render", "-f", str(tmp_path / "objects.json"), "--family", family]
        rendered = lab.node.run([*command, *flags_of(kproxy)]).stdout
        in_kernel = without_cni(parse_tables(lab.node.iptables_save(family)))
        assert comparable(in_kernel) == comparable(parse_tables(rendered))
    assert kproxy.stop() == 0
    for name in ("frontend", "client-of-frontend"):
        lab.remove_pod(name)


def flags_of(kproxy: Kproxy) -> list[str]:
    """What render must be told for it to know what the running kproxy was told."""
    command = kproxy.process.command
    return [
        word for flag in ("--hostname-override", "--cluster-cidr") for word in (flag, command[command.index(flag) + 1])
    ]


# Neighbours.

BUILTINS = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "raw": ("PREROUTING", "OUTPUT"),
}
NOBODY = {"ipv4": "198.51.100.128/25", "ipv6": "2001:db8:dead::/64"}


def neighbour(family: str) -> str:
    """Rules of a made-up program in every built-in chain, with chains of its own, all with counters."""
    lines = []
    for table, builtins in BUILTINS.items():
        lines += [f"*{table}", ":NEIGHBOUR - [0:0]", ":KUBERNETES-IN-NAME-ONLY - [0:0]"]
        for number, builtin in enumerate(builtins, start=1):
            match = f'-s {NOBODY[family]} -m comment --comment "neighbour\'s {builtin}"'
            lines += [f"[{number}:{number * 100}] -A {builtin} {match} -j NEIGHBOUR"]
            lines += [f"[{number}:{number * 90}] -I {builtin} 1 {match} -j KUBERNETES-IN-NAME-ONLY"]
        lines += ["[7:700] -A NEIGHBOUR -p tcp -m tcp --dport 80 -j RETURN", "[8:800] -A NEIGHBOUR -j RETURN"]
        lines += ["[9:900] -A KUBERNETES-IN-NAME-ONLY -m mark --mark 0x4000/0x4000 -j NEIGHBOUR", "COMMIT"]
    return "\n".join([*lines, ""])


def neighbours_lines(lab: Lab, family: str) -> list[str]:
    """The neighbour's rules as they stand, in order and with counters, each after its table's name."""
    found, table = [], ""
    program = {"ipv4": "iptables-legacy-save", "ipv6": "ip6tables-legacy-save"}[family]
    for line in lab.node.run([program, "-c"]).stdout.splitlines():
        table = line if line.startswith("*") else table
        if "NEIGHBOUR" in line or "NAME-ONLY" in line:
            found.append(f"{table} {line}")
    return found


@pytest.fixture
def neighbours(lab: Lab) -> Iterator[dict[str, list[str]]]:
    before = {family: lab.node.iptables_save(family) for family in FAMILIES}
    restore = {"ipv4": "iptables-legacy-restore", "ipv6": "ip6tables-legacy-restore"}
    for family in FAMILIES:
        lab.node.run([restore[family], "--noflush", "--counters"], neighbour(family))
    yield {family: neighbours_lines(lab, family) for family in FAMILIES}
    for family in FAMILIES:
        flush = "".join(f"*{table}\nCOMMIT\n" for table in BUILTINS if f"*{table}\n" not in before[family])
        lab.node.run([restore[family]], before[family] + flush)


@pytest.mark.usefixtures("clean_node")
def test_neighbours_rules_survive_syncs_and_cleanup(lab: Lab, neighbours: dict[str, list[str]], tmp_path: Path) -> None:
    assert all(len(lines) == 2 * 14 + 5 * 4 for lines in neighbours.values())

    def unharmed() -> bool:
        return all(neighbours_lines(lab, family) == lines for family, lines in neighbours.items())

    pod = lab.add_pod("web")
    pod.serve(8080)
    more = {"type": "LoadBalancer", "ingress": [{"ip": "203.0.113.10"}, {"ip": "2001:db8:e::10"}]}
    write(tmp_path, service("web", 10, **more), *slices("web", [pod]))  # type: ignore[arg-type]
    asker = lab.add_pod("asker")
    for command in ("cleanup", "--cleanup"):  # the latter is kube-proxy's
        kproxy = start(lab, tmp_path)
        assert asker.ask("10.96.0.10", 80).server == "web"
        assert unharmed()
        write(tmp_path, service("other", 11), *slices("other", [pod]))
        until(lambda: asker.ask("fd00:10:96::11", 80, timeout=0.2).server == "web", PATIENCE, "the other service")
        assert unharmed()
        write(tmp_path, service("web", 10, **more), *slices("web", [pod]))  # type: ignore[arg-type]
        until(lambda: asker.ask("fd00:10:96::10", 80, timeout=0.2).server == "web", PATIENCE, "the first service again")
        assert kproxy.stop() == 0
        assert unharmed()
        assert asker.ask("10.96.0.10", 80).server == "web"
        lab.node.run([sys.executable, "-m", "kproxy", command])
        assert unharmed()
        assert not [name for family in FAMILIES for name in chains(lab, family) if name.startswith("KUBE-")]


def write(folder: Path, *objects: dict[str, Any]) -> None:
    draft = folder / "objects.draft"
    draft.write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": objects}))
    draft.rename(folder / "objects.json")


# Cleaning up.


def test_cleanup_where_there_is_nothing_makes_no_tables(lab: Lab) -> None:
    """Reading a table would create it, and on a node of the other variant it must not exist."""
    lab.client.run([sys.executable, "-m", "kproxy", "cleanup"])
    for names in ("ip_tables_names", "ip6_tables_names"):
        assert lab.client.run(["cat", f"/proc/net/{names}"]).stdout == ""
