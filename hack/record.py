"""Records what a kube-proxy makes of the objects of a scenario, as under tests/golden.

    python -m hack.record /usr/local/bin/kube-proxy tests/golden/clusterip-tcp tests/golden/loadbalancer

Each folder has objects.json and config.yaml; iptables.v4.save and iptables.v6.save in it are written anew. Needs root.

The program runs in a network namespace that looks like the node of the recordings, node-a. It gets its objects from
the API server of the tests, by JSON; conntrack's limits, which are the whole machine's, it is told to leave alone. Mind
what the README of the recordings puts aside when it compares.
"""

import argparse
import contextlib
import json
import os
import re
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from hack.lab.errors import LabError, run
from hack.lab.namespaces import Namespace, create_all, delete_all
from hack.lab.processes import Process, inside
from tests.kit.apiserver.process import ApiServerProcess

INTERFACES = {
    "eth0": ("10.0.0.1/24", "fd00:a::1/64"),
    "up0": ("192.168.77.6/30",),
}
"""Besides lo; up0 was the way to the API server."""

FAMILIES = {"v4": "iptables-legacy-save", "v6": "ip6tables-legacy-save"}
TABLES = ("filter", "nat")
HEALTHZ = "http://127.0.0.1:10256/healthz"
PATIENCE = 60.0
"""Seconds that a program may take until its rules are there."""

QUIET = 2.0
"""Seconds without a change, after which they are taken for complete."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path, help="a kube-proxy")
    parser.add_argument("scenarios", type=Path, nargs="+", metavar="FOLDER")
    options = parser.parse_args(argv)
    try:
        for scenario in options.scenarios:
            for family, text in record(options.program.absolute(), scenario).items():
                (scenario / f"iptables.{family}.save").write_text(text)
            print(f"recorded {scenario}")
    except LabError as error:
        print(f"hack.record: {error}", file=sys.stderr)
        return 1
    return 0


def record(program: Path, scenario: Path) -> dict[str, str]:
    """The rules of both families, as iptables-save prints them, without comments and counts. Raises LabError."""
    objects = json.loads((scenario / "objects.json").read_text())["items"]
    with (
        tempfile.TemporaryDirectory(prefix="kproxy-record-") as scratch,
        _node() as node,
        ApiServerProcess(netns=node.name) as server,
    ):
        server.control.replace_all(objects)
        folder = Path(scratch)
        lock = folder / "xtables.lock"
        lock.touch()
        config = folder / "config.yaml"
        config.write_text(_config(scenario / "config.yaml", server.kubeconfig))
        command = [str(program), "--config", str(config)]
        process = Process(command, inside(node.name, lock, command), folder / "log", os.environ)
        try:
            return _settled(process, node, lock)
        finally:
            process.stop()


@contextlib.contextmanager
def _node() -> Iterator[Namespace]:
    """A namespace with the interfaces of the recorded node; the other end of each wire leads nowhere."""
    node = Namespace(f"kprecord-{os.getpid()}")
    create_all([node.name])
    try:
        commands = ["link set lo up"]
        for name, addresses in INTERFACES.items():
            commands += [f"link add {name} type veth peer name {name}-peer", f"link set {name}-peer up"]
            commands += [f"address add {address} dev {name}{_at_once(address)}" for address in addresses]
            commands += [f"link set {name} up"]
        node.ip(commands)
        yield node
    finally:
        delete_all([node.name])


def _at_once(address: str) -> str:
    return " nodad" if ":" in address else ""


def _config(path: Path, kubeconfig: Path) -> str:
    config = yaml.safe_load(path.read_text())
    config["clientConnection"] = {"kubeconfig": str(kubeconfig), "contentType": "application/json"}
    config["conntrack"] = {"maxPerCore": 0, "min": 0}
    return yaml.safe_dump(config)


def _settled(process: Process, node: Namespace, lock: Path) -> dict[str, str]:
    """Wait until the program says that it is well and its rules no longer change."""
    began = since = time.monotonic()
    seen: dict[str, str] = {}
    while time.monotonic() - since < QUIET or not _is_well(node):
        if process.exit_code is not None:
            raise LabError(f"{process.command[0]} ended with exit code {process.exit_code}:\n{process.log()}")
        if time.monotonic() - began > PATIENCE:
            raise LabError(f"no complete rules after {PATIENCE:g} s:\n{process.log()}")
        time.sleep(0.2)
        now = {family: _rules(program, node, lock) for family, program in FAMILIES.items()}
        if now != seen or not all("KUBE-SERVICES" in text for text in now.values()):
            seen, since = now, time.monotonic()
    return seen


def _is_well(node: Namespace) -> bool:
    with contextlib.suppress(urllib.error.URLError, ConnectionError), node.entered():
        return bool(urllib.request.urlopen(HEALTHZ, timeout=5).status == 200)
    return False


def _rules(program: str, node: Namespace, lock: Path) -> str:
    texts = (run(inside(node.name, lock, [program, "-t", table])) for table in TABLES)
    lines = (line for text in texts for line in text.splitlines() if not line.startswith("#"))
    return "".join(re.sub(r"\[\d+:\d+\]$", "[0:0]", line) + "\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
