"""How soon a change takes effect, how long a start takes, and what both cost.

    python -m hack.bench.programming                     the sizes of the docs
    python -m hack.bench.programming --sizes 1000x5 --modes nftables --repeats 20

Needs root: it builds a lab of network namespaces. The yardstick of each row is a program written in C that makes the
same change, given as text, in a copy of the same tables, right after: ``iptables-legacy-restore --noflush``, which has
to read and to replace the table just as kproxy has, or ``nft -f``. The ratio is the quiet median by that, so the whole
way from the API server to the first packet by the last step alone.
"""

import argparse
import itertools
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any

from hack.bench import options as common
from hack.bench.cluster import PROBE_IP, Bench, Churn, bench
from hack.bench.options import Size
from hack.bench.report import Cell, mib, ms, percentile, ratio, report_of, seconds
from hack.lab import Lab
from kproxy.backends.nftables.rules.names import TABLE

DEFAULTS = common.Defaults(("100x3", "1000x5", "5000x5", "10000x5"), ("iptables", "nftables"), 50, ("100x3",), 3)
UPDATES, QUICK_UPDATES = 2_000, 100
_PAUSE = 1.2
"""Seconds between two changes on a quiet cluster; more than what kproxy waits after a sync to spare the processor."""
_NAMESPACE = "kproxy-bench-copy"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = common.parser("programming", __doc__, DEFAULTS)
    parser.add_argument("--per-second", type=float, default=20, help="changes of other services under churn; 0: none")
    parser.add_argument("--updates", type=int, help=f"changes before memory is read again (default: {UPDATES})")
    parser.add_argument("--args", nargs=argparse.REMAINDER, default=[], help="further flags for kproxy")
    options = common.parse(parser, arguments)
    if options.updates is None:
        options.updates = QUICK_UPDATES if options.quick else UPDATES
    report = report_of(options)
    columns = ("start", "quiet p50", "quiet p99", "churn p50", "churn p99", "CPU a change", "RSS", "RSS after")
    title = "From a change to the first packet"
    report.table(title, "mode", "services x endpoints", *columns, "yardstick", "ratio")
    for mode in options.modes:
        for size in options.sizes:
            report.row(mode, str(size), *measure(size, mode, options))


def measure(size: Size, mode: str, options: argparse.Namespace) -> Sequence[Cell]:
    """Measure one size in one mode; return the cells of its row."""
    with bench(size) as it:
        state = ["--state-directory", str(it.lab.folder / "state")]
        start = it.cold_start([*state, "--proxy-mode", mode, *options.args])
        time.sleep(2)
        rss = it.rss_mib()
        cpu = it.cpu_seconds()
        quiet = _rounds(it, options.repeats, _PAUSE)
        cpu = it.cpu_seconds() - cpu
        idle = _idle_cpu(it, options.repeats * _PAUSE)
        churned = [0.0]
        if options.per_second:
            with it.churn(options.per_second):
                time.sleep(1)
                churned = _rounds(it, options.repeats, 0.1)
        _update(it, options.updates)
        after = it.rss_mib()
        beside = restore_seconds(it.lab) if mode == "iptables" else nft_seconds(it.lab)
        it.kproxy.stop()
    times = [ms(percentile(some, percent), 1) for some in (quiet, churned) for percent in (50, 99)]
    each = ms(max(0.0, cpu - idle) / options.repeats, 1)
    median = percentile(quiet, 50)
    return (seconds(start), *times, each, mib(rss), mib(after), ms(beside, 1), ratio(median, beside))


def _rounds(it: Bench, number: int, pause: float) -> list[float]:
    found = []
    for _ in range(number):
        time.sleep(pause)
        found.append(it.move())
    return found


def _idle_cpu(it: Bench, seconds: float) -> float:
    """Return the processor time that kproxy takes for nothing, measured over a second and scaled."""
    before = it.cpu_seconds()
    time.sleep(2)
    return (it.cpu_seconds() - before) / 2 * seconds


def _update(it: Bench, number: int) -> None:
    """Make that many changes as fast as the server takes them, and wait until kproxy has them all."""
    churn = Churn(it.server, it.size, per_second=1)
    control = it.server.connect()
    for batch in _batches(itertools.islice(churn.changes(), number), 50):
        control.put(*batch)
        time.sleep(0.05)
    control.close()
    it.move()
    time.sleep(4)  # kproxy gives memory back when it is quiet


def _batches(items: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    while batch := list(itertools.islice(items, size)):
        yield batch


def restore_seconds(lab: Lab) -> float:
    """Return how long iptables-legacy-restore takes for a change of the probe's chain."""
    tables = lab.node.iptables_save()
    chain = next(line.split()[-1] for line in tables.splitlines() if PROBE_IP in line and "KUBE-SVC-" in line)
    rules = [line for line in tables.splitlines() if line.startswith(f"-A {chain} ")]
    change = "\n".join(["*nat", f":{chain} - [0:0]", *rules, "COMMIT", ""])
    return _least_in_a_copy(["iptables-legacy-restore", "--noflush", "--wait"], tables, change)


def nft_seconds(lab: Lab) -> float:
    """Return how long nft takes to let the probe's element of the map of endpoints go, and come again."""
    table = lab.node.run(["nft", "list", "table", "ip", TABLE]).stdout
    found = re.search(rf"({re.escape(PROBE_IP)} \. [^:,]+?) (?:counter [^:]+)?: ([0-9. ]+)", table)
    assert found, "the probe's endpoint is in no map"
    place = re.findall(r"^\tmap (\S+) {", table[: found.start()], re.MULTILINE)[-1]
    element = f"element ip {TABLE} {place} {{ {found[1]} : {found[2].strip()} }}"
    return _least_in_a_copy(["nft", "-f", "-"], table, f"delete {element}\nadd {element}\n")


def _least_in_a_copy(command: Sequence[str], tables: str, change: str) -> float:
    """Return how long a program takes for a change of a copy of some tables, at best of five."""
    subprocess.run(["ip", "netns", "add", _NAMESPACE], check=True)
    try:
        inside = ["ip", "netns", "exec", _NAMESPACE, *command]
        times = []
        for text in (tables, *[change] * 5):
            began = time.perf_counter()
            subprocess.run(inside, input=text, text=True, check=True)
            times.append(time.perf_counter() - began)
        return min(times[1:])
    finally:
        subprocess.run(["ip", "netns", "del", _NAMESPACE], check=True)


if __name__ == "__main__":
    main()
