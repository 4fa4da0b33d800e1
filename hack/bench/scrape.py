"""What a scrape of /metrics costs the daemon, and what it costs a change that comes at the same moment.

    python -m hack.bench.scrape                                     the sizes of the docs
    python -m hack.bench.scrape --sizes 5000x50 --modes nftables --repeats 8

Needs root: it builds a lab of network namespaces. All of the daemon's processor time counts, less what it takes when
nobody asks; that of iptables-nft-save, which it runs, too. There are four figures:

* the first scrape, which reads every counter there is, and finds out where they stand;
* one of many, 15 seconds apart as Prometheus asks, with traffic to the probe in between. Where readings are dear, what
  is saved up for them is used up before, so that the figure is that of a scrape without one; those that read come to
  three thousandths of a core in the long run, 45 ms for 15 seconds;
* how soon a change takes effect by itself, which is the yardstick, and with a scrape that began as the change was made;
* how old the figures were that were shown, at most.
"""

import statistics
import threading
import time
from collections.abc import Sequence

from hack.bench.cluster import Bench, bench
from hack.bench.options import Defaults, Size, parse, parser
from hack.bench.report import Report, mib, ms, ratio, seconds

MODES = {
    "iptables": ["--proxy-mode", "iptables", "--iptables-variant", "legacy"],
    "iptables-nft": ["--proxy-mode", "iptables", "--iptables-variant", "nft"],
    "nftables": ["--proxy-mode", "nftables"],
}
DEFAULTS = Defaults(
    sizes=("1000x5", "10000x5", "30000x5", "5000x50"),
    modes=("iptables", "nftables"),
    repeats=8,
    quick_sizes=("100x3",),
)
_INTERVAL = 15.0
"""Seconds between two scrapes."""
_UNTIL_RATIONED = 6
"""Scrapes, one right after the other, after which a reading that is dear is rationed."""
_FRESH_SECONDS = 0.1
_PAUSE = 1.2
"""Seconds between two changes."""
_AGE = "kproxy_connection_counters_age_seconds"
_COLUMNS = (
    *("services x endpoints", "mode", "first scrape, CPU", "a scrape, CPU", "/metrics", "age at most"),
    *("a change p50 / max", "with a scrape p50 / max", "ratio", "RSS / peak"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    made = parser("scrape", __doc__, DEFAULTS._replace(modes=tuple(MODES)))
    made.set_defaults(defaults=DEFAULTS)
    options = parse(made, arguments)
    report = Report("scrape", options.output)
    report.table("A scrape", *_COLUMNS)
    for size in options.sizes:
        for mode in options.modes:
            measure(report, size, mode, options.repeats, 1.0 if options.quick else _INTERVAL)


def measure(report: Report, size: Size, mode: str, repeats: int, interval: float) -> None:
    """Measure one size in one mode."""
    with bench(size) as it:
        it.cold_start(MODES[mode])
        time.sleep(3)
        idle = _idle(it)
        before = _used(it)
        it.kproxy.metrics()
        first = _used(it) - before
        cpu, age = _scrapes(it, max(1, repeats // 2), interval, idle)
        alone, beside = _moves(it, repeats, scrape=False), _moves(it, repeats, scrape=True)
        report.row(
            str(size),
            mode,
            seconds(first, 2),
            seconds(cpu, 3),
            f"{len(it.kproxy.get('/metrics', 10249)[1]) / 1e6:.1f} MB",
            seconds(age, 0),
            f"{ms(statistics.median(alone))} / {ms(max(alone))}",
            f"{ms(statistics.median(beside))} / {ms(max(beside))}",
            ratio(statistics.median(beside), statistics.median(alone)),
            f"{mib(it.rss_mib())} / {mib(it.rss_mib('VmHWM'))}",
        )
        it.kproxy.stop()


def _scrapes(it: Bench, number: int, interval: float, idle: float) -> tuple[float, float]:
    """Return the processor time of one scrape, and how old figures were at most."""
    for _ in range(_UNTIL_RATIONED):
        if it.kproxy.metrics().get(_AGE, 0.0) > _FRESH_SECONDS:
            break
    began, before, age = time.monotonic(), _used(it), 0.0
    for _ in range(number):
        time.sleep(interval)
        it.ask()
        age = max(age, it.kproxy.metrics().get(_AGE, 0.0))
    return max(0.0, _used(it) - before - idle * (time.monotonic() - began)) / number, age


def _moves(it: Bench, number: int, *, scrape: bool) -> list[float]:
    found = []
    for _ in range(number):
        time.sleep(_PAUSE)
        scraping = threading.Thread(target=it.kproxy.metrics)
        if scrape:
            scraping.start()
        found.append(it.move())
        if scrape:
            scraping.join()
    return found


def _idle(it: Bench) -> float:
    """Return the processor time that the daemon takes in a second when nobody asks."""
    before = _used(it)
    time.sleep(4)
    return (_used(it) - before) / 4


def _used(it: Bench) -> float:
    return it.cpu_seconds(children=True)


if __name__ == "__main__":
    main()
