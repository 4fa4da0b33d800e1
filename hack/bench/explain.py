"""How long ``kproxy explain`` takes: from objects in a file, and of a running daemon.

    python -m hack.bench.explain [--size 10000x5] [--times 9]

Of a file it is the whole command, from its start to its end; of the daemon it is the question and the answer, as the
socket sees them, beside the time of the whole command. The last Service is asked about, which lists find last.
"""

import argparse
import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hack.bench.options import Size
from hack.lab import Lab
from tests.kit.apiserver.objects import make_cluster, make_node

MODES = ("iptables", "nftables")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m hack.bench.explain", description=__doc__)
    parser.add_argument("--size", type=Size.parse, default=Size(10_000, 5))
    parser.add_argument("--times", type=int, default=9)
    options = parser.parse_args()
    print(f"{options.size} endpoints: milliseconds, the least and the median of {options.times}\n")
    print("| | least | median |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        manifests = Path(folder)
        write_cluster(options.size, manifests / "cluster.json")
        for mode in MODES:
            measure(mode, manifests, f"bench/svc-{options.size.services - 1:05}", options.times)


def write_cluster(size: Size, file: Path) -> None:
    """Write a made-up cluster, with the node that is asked."""
    items = [make_node("node-a", addresses=["10.0.0.1"], pod_cidrs=["10.244.0.0/24"])]
    items += make_cluster(size.services, size.endpoints)
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


def measure(mode: str, manifests: Path, service: str, times: int) -> None:
    """Print the rows of a mode."""
    with Lab() as lab:
        command = [sys.executable, "-m", "kproxy", "explain", service, "-o", "json", "--proxy-mode", mode]
        offline = [*command, "-f", str(manifests / "cluster.json"), "--hostname-override", "node-a"]
        row(f"{mode}, from a file", lambda: lab.node.run(offline), times)
        state = lab.folder / "state"
        args = ["--state-directory", str(state), "--proxy-mode", mode]
        kproxy = lab.node.start_kproxy(manifests=manifests, args=args)
        kproxy.wait_ready(120)
        (path,) = state.glob("*.sock")
        row(f"{mode}, of the daemon", lambda: asked(path, service), times)
        row(f"{mode}, of the daemon, whole command", lambda: lab.node.run([*command, *args]), times)


def asked(path: Path, service: str) -> None:
    """Ask the daemon, and read the whole answer."""
    with socket.socket(socket.AF_UNIX) as asker:
        asker.connect(str(path))
        asker.sendall(json.dumps({"ask": "explain", "destination": service}).encode() + b"\n")
        parts = []
        while part := asker.recv(1 << 16):
            parts.append(part)
    assert json.loads(b"".join(parts))["answer"]["kernel"] == "as planned"


def row(name: str, ask: Callable[[], object], times: int) -> None:
    """Print one row."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        ask()
        taken.append(1000 * (time.perf_counter() - began))
    print(f"| {name} | {min(taken):.0f} | {statistics.median(taken):.0f} |", flush=True)


if __name__ == "__main__":
    main()
