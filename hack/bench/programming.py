"""How soon a change takes effect, how long a start takes, and what both cost.

    python -m hack.bench.programming                     the sizes of the docs
    python -m hack.bench.programming --sizes 1000x5 --rounds 20

Needs root: it builds a lab of network namespaces. The yardstick of each row is ``iptables-legacy-restore --noflush``
loading the same change, as text, into a copy of the same tables, right after: a program written in C, which has to read
and to replace the table just as kproxy has.
"""

import argparse
import itertools
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from hack.bench.cluster import PROBE_IP, Bench, Churn, bench
from hack.bench.options import Size
from hack.lab import Lab

SIZES = ("100x3", "1000x5", "5000x5", "10000x5")
_PAUSE = 1.2
"""Seconds between two changes on a quiet cluster; more than what kproxy waits after a sync to spare the processor."""


class Row(msgspec.Struct, kw_only=True):
    """The figures of one size; times in milliseconds but for the start, memory in MiB."""

    size: str
    start_s: float
    quiet_p50: float
    quiet_p99: float
    churn_p50: float = 0.0
    churn_p99: float = 0.0
    cpu_per_update: float = 0.0
    rss_start: float
    rss_after: float = 0.0
    updates: int = 0
    restore: float = 0.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="NxM")
    parser.add_argument("--rounds", type=int, default=50, help="changes measured, quiet and under churn each")
    parser.add_argument("--per-second", type=float, default=20, help="changes of other services under churn")
    parser.add_argument("--updates", type=int, default=10_000, help="changes before memory is read again")
    parser.add_argument("--args", nargs=argparse.REMAINDER, default=[], help="further flags for kproxy")
    options = parser.parse_args(arguments)
    rows = []
    for size in options.sizes:
        row = measure(Size.parse(size), options)
        print(row, flush=True)
        rows.append(row)
    print(table(rows))


def measure(size: Size, options: argparse.Namespace) -> Row:
    """Measure one size."""
    with bench(size) as it:
        start = it.cold_start(options.args)
        time.sleep(2)
        rss = it.rss_mib()
        cpu = it.cpu_seconds()
        quiet = _rounds(it, options.rounds, _PAUSE)
        cpu = it.cpu_seconds() - cpu
        idle = _idle_cpu(it, options.rounds * _PAUSE)
        row = Row(
            size=str(size),
            start_s=start,
            quiet_p50=_percentile(quiet, 50),
            quiet_p99=_percentile(quiet, 99),
            cpu_per_update=max(0.0, cpu - idle) / options.rounds * 1e3,
            rss_start=rss,
        )
        if options.per_second:
            with it.churn(options.per_second):
                time.sleep(1)
                churned = _rounds(it, options.rounds, 0.1)
            row.churn_p50, row.churn_p99 = _percentile(churned, 50), _percentile(churned, 99)
        _update(it, options.updates)
        row.updates, row.rss_after = options.updates, it.rss_mib()
        row.restore = restore_ms(it.lab)
        it.kproxy.stop()
        return row


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


def restore_ms(lab: Lab) -> float:
    """Return how long iptables-legacy-restore takes for a change of the probe's chain, at best of five.

    In mode nftables there is no such thing; 0 then.
    """
    tables = lab.node.iptables_save()
    found = [line.split()[-1] for line in tables.splitlines() if PROBE_IP in line and "KUBE-SVC-" in line]
    if not found:
        return 0.0
    chain = found[0]
    rules = [line for line in tables.splitlines() if line.startswith(f"-A {chain} ")]
    change = "\n".join(["*nat", f":{chain} - [0:0]", *rules, "COMMIT", ""])
    name = "kproxy-bench-restore"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        _restore(name, tables)
        times = []
        for _ in range(5):
            began = time.perf_counter()
            _restore(name, change)
            times.append(time.perf_counter() - began)
        return min(times) * 1e3
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def _restore(namespace: str, text: str) -> None:
    command = ["ip", "netns", "exec", namespace, "iptables-legacy-restore", "--noflush", "--wait"]
    subprocess.run(command, input=text, text=True, check=True)


def _percentile(values: list[float], percent: int) -> float:
    """Return a percentile in milliseconds."""
    if percent == 50:
        return statistics.median(values) * 1e3
    return sorted(values)[min(len(values) - 1, round(len(values) * percent / 100))] * 1e3


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown."""
    head = ["services x endpoints", "start", "quiet p50 / p99", "churn p50 / p99", "CPU per update"]
    head += ["RSS at start / after updates", "iptables-legacy-restore"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [
        f"| {row.size} | {row.start_s:.1f} s | {row.quiet_p50:.0f} / {row.quiet_p99:.0f} ms "
        f"| {row.churn_p50:.0f} / {row.churn_p99:.0f} ms | {row.cpu_per_update:.0f} ms "
        f"| {row.rss_start:.0f} / {row.rss_after:.0f} MiB | {row.restore:.0f} ms |"
        for row in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
