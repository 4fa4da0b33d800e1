"""What a scrape of /metrics costs the daemon, and what it costs a change that comes at the same moment.

    python -m hack.bench.scrape                                     the sizes of the docs
    python -m hack.bench.scrape --sizes 5000x50 --modes nftables --repeats 8

Needs root: it builds a lab of network namespaces. All of the daemon's processor time counts, less what it takes when
nobody asks; that of iptables-nft-save, which it runs, too. The figures:

* the first scrape, which reads every counter there is, and finds out where they stand;
* one that reads the counters, and one that does not, as where that is dear; with traffic to the probe in between;
* one of those that Prometheus makes every 15 seconds, as they come to in the long run: a dear reading is made as seldom
  as its share of a core allows (`kproxy.report.ration`), which is told, too;
* how soon a change takes effect by itself, which is the yardstick, and with a scrape that began as the change was made,
  in turn.
"""

import statistics
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from hack.bench.cluster import Bench, bench
from hack.bench.options import Defaults, parse, parser
from hack.bench.report import Report, mib, ms, ratio, seconds
from hack.lab.kproxy import METRICS_PORT
from kproxy.report.ration import CHEAP_SECONDS, SHARE

MODES = {
    "iptables": ["--proxy-mode", "iptables", "--iptables-variant", "legacy"],
    "iptables-nft": ["--proxy-mode", "iptables", "--iptables-variant", "nft"],
    "nftables": ["--proxy-mode", "nftables"],
}
DEFAULTS = Defaults(
    sizes=("1000x5", "10000x5", "30000x5", "5000x50"),
    modes=("iptables", "nftables"),
    repeats=4,
    quick_sizes=("100x3",),
    quick_repeats=1,
)
_INTERVAL = 15.0
"""Seconds between two scrapes of Prometheus'."""
_MOST_READINGS = 8
"""Scrapes, one right after the other, after which a reading that is dear is rationed."""
_PAUSE, _REST = 1.2, 2.5
"""Between two changes: seconds, and how often what the last one took; kproxy spares the processor for as long."""
_AGE = "kproxy_connection_counters_age_seconds"
_COLUMNS = (
    *("services x endpoints", "mode", "first scrape", "one that reads", "one that does not", "one, on average"),
    *("reads every", "/metrics", "a change p50 / max", "with a scrape p50 / max", "ratio", "RSS / peak"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    made = parser("scrape", __doc__, DEFAULTS._replace(modes=tuple(MODES)))
    made.set_defaults(defaults=DEFAULTS)
    options = parse(made, arguments)
    report = Report("scrape", options.output)
    report.table("A scrape (processor time)", *_COLUMNS)
    for size in options.sizes:
        with bench(size) as it:
            for mode in options.modes:
                measure(report, it, mode, options.repeats)
                it.end()


class Scrapes(NamedTuple):
    """Processor time in seconds."""

    reading: float
    other: float
    """That of one that reads nothing; the same where all read."""

    @property
    def is_dear(self) -> bool:
        """Whether readings are rationed."""
        return self.reading > CHEAP_SECONDS

    @property
    def average(self) -> float:
        """Of one of many."""
        return min(self.reading, self.other + SHARE * _INTERVAL) if self.is_dear else self.reading

    @property
    def every(self) -> float:
        """Seconds between two readings."""
        return max(_INTERVAL, self.reading / SHARE) if self.is_dear else _INTERVAL


def measure(report: Report, it: Bench, mode: str, repeats: int) -> None:
    """Measure one mode."""
    it.cold_start(MODES[mode])
    time.sleep(3)
    idle = _idle(it)
    first = _scrape(it, idle)[0]
    scrapes = _scrapes(it, repeats, idle, first)
    alone, beside = _moves(it, repeats)
    report.row(
        str(it.size),
        mode,
        seconds(first, 2),
        seconds(scrapes.reading, 3),
        seconds(scrapes.other, 3),
        seconds(scrapes.average, 3),
        seconds(scrapes.every, 0),
        f"{len(it.kproxy.get('/metrics', METRICS_PORT)[1]) / 1e6:.1f} MB",
        f"{ms(statistics.median(alone))} / {ms(max(alone))}",
        f"{ms(statistics.median(beside))} / {ms(max(beside))}",
        ratio(statistics.median(beside), statistics.median(alone)),
        f"{mib(it.rss_mib())} / {mib(it.rss_mib('VmHWM'))}",
    )


def _scrapes(it: Bench, number: int, idle: float, first: float) -> Scrapes:
    """Scrape so often that some read and ``number`` do not; where the ``first`` was all that is allowed, take that."""
    reading: list[float] = []
    other: list[float] = []
    while len(reading) < _MOST_READINGS and len(other) < number:
        it.ask()
        cpu, read = _scrape(it, idle)
        (reading if read else other).append(cpu)
    dear = statistics.median(reading or [first])
    return Scrapes(dear, statistics.median(other or [dear]))


def _scrape(it: Bench, idle: float) -> tuple[float, bool]:
    """Scrape once; return the processor time of it, and whether it read the counters."""
    began, before = time.monotonic(), _used(it)
    age = it.kproxy.metrics().get(_AGE, 0.0)
    took = time.monotonic() - began
    return max(0.0, _used(it) - before - idle * took), age < took


def _moves(it: Bench, number: int) -> tuple[list[float], list[float]]:
    """Return how long changes took by themselves, and beside a scrape, in turn."""
    found: tuple[list[float], list[float]] = [], []
    last = 0.0
    for turn in range(2 * number):
        time.sleep(_PAUSE + _REST * last)
        # Only fetched: to take the text apart here would keep this process from seeing the first packet.
        scraping = threading.Thread(target=it.kproxy.get, args=("/metrics", METRICS_PORT)) if turn % 2 else None
        if scraping is not None:
            scraping.start()
        last = it.move()
        found[turn % 2].append(last)
        if scraping is not None:
            scraping.join()
    return found


def _idle(it: Bench) -> float:
    """Return the processor time that the daemon takes in a second when nobody asks."""
    before = _used(it)
    time.sleep(3)
    return (_used(it) - before) / 3


def _used(it: Bench) -> float:
    return it.cpu_seconds(children=True)


if __name__ == "__main__":
    main()
