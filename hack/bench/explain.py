"""How long ``kproxy explain`` takes: from objects in a file, and of a running daemon.

    python -m hack.bench.explain
    python -m hack.bench.explain --sizes 1000x5 --modes nftables --repeats 20

Of a file it is the whole command, from its start to its end; of the daemon it is the question and the answer, as the
socket sees them, beside the time of the whole command. The last Service is asked about, which lists find last. The
yardstick is what people do without it: reading the rules with iptables-legacy-save or ``nft list table``, on the same
node, right after; for files it is reading the same file with Python's own json, from start to end.
"""

import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hack.bench import options as common
from hack.bench.options import Size
from hack.bench.report import Report, ms, ratio, report_of
from hack.lab import Lab
from tests.kit.apiserver.objects import make_cluster, make_node

DEFAULTS = common.Defaults(("10000x5",), ("iptables", "nftables"), 9, ("100x5",), 2)
_READ = "import json, sys; json.load(open(sys.argv[1]))"
_RULES = {"iptables": ["iptables-legacy-save"], "nftables": ["nft", "list", "table", "ip", "kproxy"]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    options = common.parse(common.parser("explain", __doc__, DEFAULTS), arguments)
    report = report_of(options)
    columns = ("services x endpoints", "mode", "asked", "least", "median", "yardstick, least", "ratio")
    report.table("kproxy explain", *columns)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "cluster.json")
        for size in options.sizes:
            write_cluster(size, file)
            for mode in options.modes:
                measure(size, mode, file, options.repeats, report)


def write_cluster(size: Size, file: Path) -> None:
    """Write a made-up cluster, with the node that is asked."""
    items = [make_node("node-a", addresses=["10.0.0.1"], pod_cidrs=["10.244.0.0/24"])]
    items += make_cluster(size.services, size.endpoints)
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


def measure(size: Size, mode: str, file: Path, times: int, report: Report) -> None:
    """Print the rows of a size and mode."""
    service = f"bench/svc-{size.services - 1:05}"
    with Lab() as lab:
        command = [sys.executable, "-m", "kproxy", "explain", service, "-o", "json", "--proxy-mode", mode]
        offline = [*command, "-f", str(file), "--hostname-override", "node-a"]

        def row(asked: str, ask: Callable[[], object], yardstick: Sequence[str]) -> None:
            taken = [seconds_of(ask) for _ in range(times)]
            beside = min(seconds_of(lambda: lab.node.run(yardstick)) for _ in range(times))
            times_taken = ms(min(taken)), ms(statistics.median(taken)), ms(beside)
            report.row(str(size), mode, asked, *times_taken, ratio(min(taken), beside))

        row("files", lambda: lab.node.run(offline), [sys.executable, "-c", _READ, str(file)])
        state = lab.folder / "state"
        args = ["--state-directory", str(state), "--proxy-mode", mode]
        kproxy = lab.node.start_kproxy(manifests=file.parent, args=args)
        kproxy.wait_ready(120)
        (path,) = state.glob("*.sock")
        row("the daemon", lambda: asked(path, service), _RULES[mode])
        row("the daemon, whole command", lambda: lab.node.run([*command, *args]), _RULES[mode])


def asked(path: Path, service: str) -> None:
    """Ask the daemon, and read the whole answer."""
    with socket.socket(socket.AF_UNIX) as asker:
        asker.connect(str(path))
        asker.sendall(json.dumps({"ask": "explain", "destination": service}).encode() + b"\n")
        parts = []
        while part := asker.recv(1 << 16):
            parts.append(part)
    assert json.loads(b"".join(parts))["answer"]["kernel"] == "as planned"


def seconds_of(action: Callable[[], object]) -> float:
    """Return how long something took."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
