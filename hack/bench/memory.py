"""Who holds kproxy's memory, at rest: by library and by package; and what a change of mode leaves behind.

    python -m hack.bench.memory                          the sizes and modes of the docs
    python -m hack.bench.memory --sizes 1000x5 --modes nftables

Needs root: it builds a lab of network namespaces. Resident is what the kernel counts (RSS), split by the file that it
is of (smaps); files that other processes map too are counted whole. Of what is no file's, Python's allocations are
traced in another run of the same (tracemalloc, see `hack.bench.traced`); the rest is the interpreter's own, the C
libraries', and what either keeps for next time.
"""

import argparse
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from hack.bench import options as common
from hack.bench.cluster import Bench, bench, compile_kproxy
from hack.bench.report import Report, mib, report_of
from hack.lab.kproxy import run_command
from hack.lab.waiting import until

DEFAULTS = common.Defaults(("1000x5",), ("iptables", "nftables"), 3, ("50x2",), 1)
_REST_SECONDS = 4.5
"""It gives memory back when it has been quiet for two."""
_OWNERS = {
    "Python's interpreter": r"libpython|/python3[^/]*$|/lib-dynload/",
    "OpenSSL": r"libssl|libcrypto",
    "the C library": r"/libc\.so|/ld-linux|libm\.so|/libc-|locale",
    "nftables": r"libnft|libmnl|libgmp|libjansson|libedit|libxtables|libip[46]tc",
    "extensions of packages": r"site-packages",
}
_OTHERS = {"iptables": "nftables", "nftables": "iptables"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print tables."""
    options = common.parse(common.parser("memory", __doc__, DEFAULTS), arguments)
    report = report_of(options)
    compile_kproxy()
    for size in options.sizes:
        with bench(size) as it:
            for mode in options.modes:
                held(it, mode, options, report)
            report.table(
                f"Resident after a change of mode, {size}", "to mode", "fresh start", "after the change", "difference"
            )
            for mode in options.modes:
                changed(it, mode, options, report)


def held(it: Bench, mode: str, options: argparse.Namespace, report: Report) -> None:
    """Measure who holds what in a mode."""
    resident, files = min(_fresh(it, mode) for _ in range(options.repeats))
    traced = _traced(it, mode)
    report.table(f"Memory in mode {mode}, {it.size}", "who", "MiB")
    report.row("resident, all in all", mib(resident, 1))
    for owner, size in sorted(files.items(), key=lambda pair: -pair[1]):
        if owner:
            report.row(f"{owner}: files", mib(size, 1))
    for package, size in sorted(traced.items(), key=lambda pair: -pair[1]):
        if size >= 0.2:
            report.row(f"{package}: code and classes" if package else "objects at work", mib(size, 1))
    report.row("packages with less than that", mib(sum(size for size in traced.values() if size < 0.2), 1))
    report.row("interpreter, C libraries, kept for next time", mib(files[""] - sum(traced.values()), 1))


def changed(it: Bench, mode: str, options: argparse.Namespace, report: Report) -> None:
    """Measure what is resident after a change to a mode, beside a fresh start in it; both are scraped, as nodes are."""
    fresh, after = [], []
    for _ in range(options.repeats):
        fresh.append(_fresh(it, mode, scraped=True)[0])
        config = it.lab.folder / "memory.json"
        config.write_text(_config(_OTHERS[mode]))
        it.cold_start(["--config", str(config)])
        it.kproxy.metrics()
        time.sleep(_REST_SECONDS)
        draft = config.with_suffix(".draft")
        draft.write_text(_config(mode))
        draft.rename(config)
        until(lambda: it.kproxy.log().count(" starting ") > 1, 30, "the change of mode")
        it.move()
        it.kproxy.metrics()
        time.sleep(_REST_SECONDS)
        after.append(it.rss_mib())
        it.end()
    report.row(mode, mib(min(fresh), 1), mib(min(after), 1), mib(min(after) - min(fresh), 1))


def _config(mode: str) -> str:
    return json.dumps(
        {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": mode}
    )


def _fresh(it: Bench, mode: str, *, scraped: bool = False) -> tuple[float, Mapping[str, float]]:
    """Return what is resident after a start, and what of it belongs to whose files; no file's under no name."""
    it.cold_start(["--proxy-mode", mode])
    if scraped:
        it.kproxy.metrics()
    time.sleep(_REST_SECONDS)
    found = it.rss_mib(), by_file(Path(f"/proc/{it.kproxy.process.pid}/smaps").read_text())
    it.end()
    return found


def by_file(smaps: str) -> Mapping[str, float]:
    """Return what is resident of the files of each owner, in MiB; under no name what is no file's."""
    found: Counter[str] = Counter()
    owner = ""
    for line in smaps.splitlines():
        mapping = re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+\s*(.*)", line)
        if mapping:
            path = mapping[1] if mapping[1].startswith("/") else ""
            known = (name for name, pattern in _OWNERS.items() if re.search(pattern, path))
            owner = next(known, "other libraries") if path else ""
        elif line.startswith("Rss:"):
            found[owner] += int(line.split()[1])
    return {owner: size / 1024 for owner, size in found.items()}


def _traced(it: Bench, mode: str) -> Mapping[str, float]:
    """Return what Python has allocated for each package, in MiB; under no name what came after it was imported."""
    node, file = it.lab.node, it.lab.folder / f"traced-{mode}.json"
    source = ["--kubeconfig", str(it.server.kubeconfig)]
    _, _, _, *command = run_command(node.name, node.ip, source, ["--proxy-mode", mode])
    process = node.start([sys.executable, "-m", "hack.bench.traced", str(file), *command])
    until(lambda: "synced" in process.log(), 120, "the first sync")
    time.sleep(_REST_SECONDS)
    os.kill(process.pid, signal.SIGUSR1)
    until(file.exists, 30, "what was traced")
    process.stop()
    it.clean_up()
    return {package: size / 1024**2 for package, size in json.loads(file.read_text()).items()}


if __name__ == "__main__":
    main()
