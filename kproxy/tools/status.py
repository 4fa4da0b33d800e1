"""``kproxy status``: one screen that says how a kproxy does, the one on this node or another's."""

import sys
import time
from collections.abc import Callable, Iterator

import msgspec

from kproxy.config import Config
from kproxy.config.schema import HEALTHZ_PORT, METRICS_PORT
from kproxy.explain.protocol import StatusQuestion
from kproxy.faults.output import put_out
from kproxy.report.status import FamilyState, ServiceRate, Status, WatchState
from kproxy.tools.ask import ask_daemon
from kproxy.tools.screen import as_json, faint, harmless, one_line, paint, strong, table

OK, UNWELL = 0, 1
_CLEAR = "\x1b[H\x1b[2J"


def reader(config: Config, node: str = "") -> Callable[[], Status]:
    """Return what asks for a status: the daemon on this node, or another node. It raises NoAnswerError."""
    if not node:
        return lambda: msgspec.json.decode(ask_daemon(config, StatusQuestion()), type=Status)
    from kproxy.tools.scrape import Node, Scraper

    health, metrics = config.healthz_bind, config.metrics_bind
    ports = (health.port if health else HEALTHZ_PORT, metrics.port if metrics else METRICS_PORT)
    return Scraper(Node(node.strip("[]"), *ports)).status


def show(read: Callable[[], Status], *, json: bool, watch_seconds: float | None) -> int:
    """Print a status, again and again with ``watch_seconds``; return 0 where all is well and 1 where not."""
    while True:
        status = read()
        text = as_json(status) if json else as_text(status)
        if watch_seconds is None:
            put_out(text)
            return OK if status.healthy and status.ready else UNWELL
        put_out(text if json or not sys.stdout.isatty() else _CLEAR + text)
        time.sleep(watch_seconds)


def as_text(status: Status) -> str:
    """Return a status for people."""
    return "\n".join(_lines(harmless(status))) + "\n"


def _lines(status: Status) -> Iterator[str]:
    mode = f", mode {status.mode}" if status.mode else ""
    name = f"kproxy {status.version}" if status.version else "kproxy"
    yield f"{strong(name)} on {one_line(status.node)}: {_verdict(status)}{mode}"
    if status.since is not None and status.uptime_seconds is not None:
        yield f"running since {status.since} ({duration(status.uptime_seconds)})"
    yield from (paint(f"  not known of {one_line(what)}", "yellow") for what in status.untold)
    yield from (paint(f"  {one_line(reason)}", "red") for reason in status.reasons)
    yield from (paint(f"  {one_line(problem)}", "yellow") for problem in status.problems)
    yield ""
    if status.families:
        rows = [_family(family) for family in status.families]
        heads = ("FAMILY", "SERVICE PORTS", "ENDPOINTS", "RULES", "LAST SYNC", "TOOK", "")
        yield table(rows, heads, right=(1, 2, 3))
        yield ""
    if status.watches:
        yield table([_watch(watch) for watch in status.watches], ("WATCH", "LIST", "LAST SIGN OF LIFE", "PROBLEM"))
        yield ""
    for title, problems in (("Refused by the kernel", status.refused), ("Losing an address", status.conflicts)):
        if problems:
            yield strong(title)
            yield table([[problem.service, one_line(problem.reason)] for problem in problems[:10]])
            yield ""
    if status.mode is None:
        return  # without metrics, there are no rates
    yield from _rates("Busiest Services", status.busiest, "CONNECTIONS/S")
    yield from _rates("Services whose clients are refused or dropped", status.turned_away, "PACKETS/S")


def _verdict(status: Status) -> str:
    if status.healthy is None:
        return paint("not known to be well", "yellow", bold=True)
    if status.healthy and status.ready:
        return paint("well", "green", bold=True)
    return paint("not well", "red", bold=True)


def _family(family: FamilyState) -> list[str]:
    took = "-" if family.sync_seconds is None else f"{1000 * family.sync_seconds:.1f} ms"
    numbers = ["-" if number is None else str(number) for number in (family.services, family.endpoints, family.rules)]
    pending = paint("changes wait", "yellow") if family.pending else ""
    return [family.family, *numbers, family.last_sync or "never", took, pending]


def _watch(watch: WatchState) -> list[str]:
    complete = "complete" if watch.synced else paint("waiting", "yellow")
    problem = paint(one_line(watch.error), "red") if watch.error else ""
    return [one_line(watch.kind), complete, f"{duration(watch.age_seconds)} ago", problem]


def _rates(title: str, rates: tuple[ServiceRate, ...], unit: str) -> Iterator[str]:
    yield strong(title)
    if not rates:
        yield faint("  none")
    else:
        rows = [[rate.service, rate.protocol.upper(), f"{rate.per_second:.1f}", str(rate.total)] for rate in rates]
        yield table(rows, ("SERVICE", "", unit, "IN ALL"), right=(2, 3))
    yield ""


def duration(seconds: float) -> str:
    """Write a length of time as people say it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 100:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"
