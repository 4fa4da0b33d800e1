"""How long a start takes, from exec to the first packet through a Service's address, and what processor time.

    python -m hack.bench.start                          the sizes and modes of the docs
    python -m hack.bench.start --sizes 1000x5 --repeats 10

Needs root: it builds a lab of network namespaces. Each start finds a node without rules. The least is told, since other
work on the machine can only add. The yardstick is a Python that only imports the three packages that asking an API
server takes, urllib3, msgspec and yaml: without them there is no start.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from hack.bench import options as common
from hack.bench.cluster import Bench, bench, compile_kproxy
from hack.bench.report import Report, mib, ms, ratio, report_of

DEFAULTS = common.Defaults(
    sizes=("1000x5", "10000x5"), modes=("iptables", "nftables"), repeats=5, quick_sizes=("50x2",)
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    options = common.parse(common.parser("start", __doc__, DEFAULTS), arguments)
    report = report_of(options)
    compile_kproxy()
    report.table(
        "From exec to rules in force",
        *("services x endpoints", "mode", "least", "median", "CPU", "packages alone, CPU", "times", "peak RSS"),
    )
    for size in options.sizes:
        with bench(size) as it:
            for mode in options.modes:
                _measure(it, mode, options, report)


def _measure(it: Bench, mode: str, options: argparse.Namespace, report: Report) -> None:
    walls, cpus, bare = [], [], []
    for _ in range(options.repeats):
        walls.append(it.cold_start(["--proxy-mode", mode]))
        cpus.append(it.cpu_seconds(children=True))
        time.sleep(1)
        peak = it.rss_mib("VmHWM")
        it.end()
        bare.append(_packages_alone())
    cpu, least = min(cpus), min(bare)
    cells = (ms(min(walls)), ms(statistics.median(walls)), ms(cpu), ms(least), ratio(cpu, least), mib(peak))
    report.row(str(it.size), mode, *cells)


def _packages_alone() -> float:
    """Return the processor time of a Python that imports them and ends."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import msgspec, urllib3, yaml"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    main()
