"""Whether anything grows: a long run of one node with everything that a daemon meets in its life.

    python -m hack.bench.soak --minutes 60 --plot soak.svg
    python -m hack.bench.soak --quick                       half a minute, of which nothing can be concluded
    python -m hack.bench.soak --read soak.jsonl --plot soak.svg

All the time: endpoints of other Services change, Services with new names come and go, a client asks a Service that
stays, another's endpoint moves and is waited for, Prometheus scrapes, the page is open, and now and then somebody asks
it why. Again and again: the API server ends the watches, cuts them, has forgotten where they were (410 Gone), and
somebody removes rules. The daemon is killed with SIGKILL after an eighth of the time, and restarted in good order after
a quarter; from then on it is one and the same, changes its mode eight times and is told once to read everything anew.

The yardstick is the daemon itself: a straight line is laid through what it held since it had met everything once, with
a level for each mode. A rise of memory by more than 2 %, or of one descriptor or thread, is not flat: exit code 1.
Needs root. It is a light load, about a tenth of a core.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hack.bench import options as common
from hack.bench.report import Figure, Report, mib, ms, percentile, report_of
from hack.bench.soak.plot import plot
from hack.bench.soak.samples import End, Record, settled, trends
from hack.bench.soak.schedule import Schedule
from hack.bench.soak.world import SoakWorld, soak_world, surviving

DEFAULTS = common.Defaults(("1000x5",), ("iptables", "nftables"), 1, ("100x5",), 1)
QUICK_MINUTES = 0.5
MODE_CHANGES = 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, or read an earlier run; print what was seen, and return the exit code."""
    parser = common.parser("soak", __doc__, DEFAULTS)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--per-second", type=float, default=2, help="changes of other Services (default: %(default)s)")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep all that is seen here, as it comes")
    parser.add_argument("--read", type=Path, metavar="FILE", help="run nothing: tell of what an earlier run has kept")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw a picture of it")
    options = common.parse(parser, arguments)
    if options.quick:
        options.minutes = min(options.minutes, QUICK_MINUTES)
    if options.read:
        record = Record.read(options.read)
    else:
        record = Record(options.save)
        run(options, record)
    if options.plot:
        options.plot.write_text(plot(record, _title(record)), encoding="utf-8")
    grows = tell(record, report_of(options))
    return 0 if options.quick else grows


def run(options: argparse.Namespace, record: Record) -> None:
    """Do all of it for as long as it shall last."""
    began = time.monotonic()
    clock: Callable[[], float] = lambda: time.monotonic() - began  # noqa: E731
    with soak_world(options.sizes[0], options.modes[0], options.per_second, record.add, clock) as world:
        began = time.monotonic()
        schedule = Schedule()
        plan(world, schedule, options.minutes * 60)
        schedule.run(options.minutes * 60)
        world.end()


def plan(world: SoakWorld, schedule: Schedule, length: float) -> None:
    """Say what happens when, in seconds."""

    def tell(text: str) -> None:
        sys.stderr.write(f"{schedule.now:7.0f} s: {text}\n")

    for seconds, do in (
        (2.0, world.move),
        (2.0, world.look),
        (3.0, world.come_and_go),
        (length / 360, world.sample),
        (min(15.0, length / 60), world.scrape),
        (30.0, world.ask_why),
        (length / 45, lambda: world.api("end_watches", "watches ended")),
        (length / 30, world.take_away),
        (length / 15, lambda: world.api("cut_connections", "connections cut")),
        (length / 9.5, world.expire),
    ):
        schedule.every(seconds, surviving(do, tell))
    schedule.at(length / 8, surviving(world.kill, tell))
    schedule.at(length / 4, surviving(world.restart, tell))
    schedule.at(length * 0.62, surviving(world.reload, tell))
    left = length * 3 / 4
    for number in range(MODE_CHANGES):
        schedule.at(length / 4 + left * (number + 0.5) / (MODE_CHANGES + 0.5), surviving(world.change_mode, tell))


def _title(record: Record) -> str:
    minutes = max(line.at for line in record.lines) / 60
    return f"kproxy for {minutes:.0f} minutes of churn, broken watches, scrapes, changes of mode, a kill, a restart"


def tell(record: Record, report: Report) -> int:
    """Print what was seen; return 1 if something grows."""
    found = trends(record.samples)
    held = settled(record.samples)
    report.table(
        f"What the last daemon held, over {(held[-1].at - held[0].at) / 60:.0f} minutes", "what", "mean", "rise",
        "an hour", "allowed", "flat"
    )  # fmt: skip
    for one in found:
        digits = 1 if one.unit else 2
        cells = (Figure(value, one.unit, digits) for value in (one.level, one.rise, one.per_hour, one.allowed))
        report.row(one.name, *cells, "yes" if one.flat else "NO")
    report.table("From a change to the first packet", "quarter", "changes", "median", "95 of 100", "99 of 100", "most")
    end = record.lines[-1].at
    for quarter in range(4):
        seconds = [one.seconds for one in record.latencies if quarter <= one.at / end * 4 < quarter + 1]
        if seconds:
            report.row(str(quarter + 1), len(seconds), *(ms(percentile(seconds, part)) for part in (50, 95, 99, 100)))
    report.table(
        "By life of the daemon", "life", "RSS at the end", "CPU, % of a core", "repairs", "lists again", "failures"
    )
    for life in sorted({sample.life for sample in record.samples}):
        _tell_life(record, life, report)
    for line in record.lines:
        if isinstance(line, End):
            report.note(f"A client that asked {line.asked:,} times meanwhile was not answered {line.unanswered} times.")
    return 0 if all(one.flat for one in found) else 1


def _tell_life(record: Record, life: int, report: Report) -> None:
    samples = [sample for sample in record.samples if sample.life == life]
    last = [one for one in record.counted if one.life == life][-1:]
    cpu = samples[-1].cpu_seconds - samples[0].cpu_seconds
    share = 100 * cpu / max(1e-9, samples[-1].at - samples[0].at)
    counts = [int(value) for one in last for value in (one.repairs, one.relists, one.failures)] or [0, 0, 0]
    report.row(life, mib(samples[-1].rss_mib, 1), Figure(share, "%", 1), *counts)


if __name__ == "__main__":
    sys.exit(main())
