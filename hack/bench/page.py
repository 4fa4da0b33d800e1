"""What the page of the metrics server costs while somebody looks, and whether syncs notice.

    python -m hack.bench.page
    python -m hack.bench.page --sizes 1000x5 --modes nftables --repeats 20

Needs root, and a browser (hack/setup.sh test). The one who looks asks as the page does: for what is new as often as it
is told to, and for the picture of a Service each time; it takes the answers and does not draw them, so that what is
measured is the daemon. Processor time is the daemon's own, closed the yardstick of open; the first picture is all that
the browser loads for it. *In a browser* it is the time until the first Services are seen there, the daemon's part
included, and the processor time of the page's scripts, layout and drawing. Changes are those of
`hack.bench.programming`: in blocks with the page closed, which are the yardstick, and with it open, in turn.
"""

import contextlib
import http.client
import statistics
import threading
import time
from collections.abc import Iterator, Sequence

import msgspec

from hack.bench import options as common
from hack.bench.cluster import Bench, bench
from hack.bench.options import Size
from hack.bench.report import Figure, Report, ms, ratio, report_of
from hack.bench.report import seconds as as_seconds
from hack.browser import browser_in
from hack.lab.kproxy import METRICS_PORT
from hack.lab.namespaces import Namespace

DEFAULTS = common.Defaults(("1000x5", "10000x5"), ("iptables", "nftables"), 15, ("100x5",), 2)
_FILES = ("/", "/base.css", "/base.js", "/page.css", "/page.js")
_SECONDS = 60.0
_SETTLE_SECONDS = 8.0
_BLOCK = 5
_PAUSE = 1.2


class Overview(msgspec.Struct):
    """What the page goes by, of what it is told."""

    boot: str
    number: int
    interval: float
    counting: float


class Looker:
    """Somebody who has the page open, and a Service in it."""

    def __init__(self, namespace: Namespace, address: str) -> None:
        self._namespace = namespace
        self._address = address
        self._ending = threading.Event()
        self._tags: dict[str, str] = {}
        self.told = Overview("", 0, 2.0, 2.0)

    def first(self) -> tuple[float, int]:
        """Load it; return the seconds until all is there that the first picture takes, and its bytes."""
        began = time.perf_counter()
        with contextlib.closing(self._connect()) as connection:
            size = sum(len(self._get(connection, path)) for path in _FILES)
            size += len(self._look(connection))
        return time.perf_counter() - began, size

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """Look on while the block lasts."""
        self._ending.clear()
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._ending.set()
            thread.join()

    def _run(self) -> None:
        with contextlib.closing(self._connect()) as connection:
            while not self._ending.wait(max(2.0, min(self.told.interval, 15.0))):
                self._look(connection)
                self._get(connection, "/page.json?service=bench%2Fprobe")

    def _look(self, connection: http.client.HTTPConnection) -> bytes:
        since = f"?boot={self.told.boot}&since={self.told.number}" if self.told.boot else ""
        body = self._get(connection, f"/page.json{since}")
        if body:
            self.told = msgspec.json.decode(body, type=Overview)
        return body

    def _connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self._address, METRICS_PORT, timeout=30)
        with self._namespace.entered():
            connection.connect()
        return connection

    def _get(self, connection: http.client.HTTPConnection, path: str) -> bytes:
        page = path.partition("?")[0] + ("?service" if "service=" in path else "")
        connection.request("GET", path, headers={"If-None-Match": self._tags.get(page, "")})
        response = connection.getresponse()
        body = response.read()
        if response.status not in (http.client.OK, http.client.NOT_MODIFIED):
            raise RuntimeError(f"{path}: {response.status} {body!r}")
        self._tags[page] = response.headers["ETag"]
        return body


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    options = common.parse(common.parser("page", __doc__, DEFAULTS), arguments)
    report = report_of(options)
    seen = ("services x endpoints", "mode", "first picture", "its size", "in a browser", "its CPU")
    cpu = ("page closed", "page open", "looks every")
    changes = ("counts every", "change p50, closed", "change p50, open", "ratio", "most, closed", "most, open")
    title = "The page, while somebody looks: CPU in parts of a core, changes from API server to packet"
    report.table(title, *seen, *cpu, *changes)
    for size in options.sizes:
        for mode in options.modes:
            measure(size, mode, options.repeats, 5.0 if options.quick else _SECONDS, report)


def measure(size: Size, mode: str, repeats: int, seconds: float, report: Report) -> None:
    """Print the row of a size and mode; CPU is measured for so many seconds, closed and open each."""
    with bench(size) as it:
        it.cold_start(["--proxy-mode", mode, "--state-directory", str(it.lab.folder / "state")])
        time.sleep(_SETTLE_SECONDS)
        looker = Looker(it.lab.node.namespace, it.lab.node.ip)
        closed = _share(it, seconds)
        first, octets = looker.first()
        shown, work = in_a_browser(it)
        with looker.looking():
            time.sleep(_SETTLE_SECONDS)
            opened = _share(it, seconds)
        told = looker.told
        before, meanwhile = _latencies(it, looker, repeats)
        it.kproxy.stop()
    medians = statistics.median(before), statistics.median(meanwhile)
    report.row(
        str(size),
        mode,
        ms(first),
        Figure(octets / 1024, "KiB"),
        ms(shown),
        ms(work),
        Figure(100 * closed, "%", 2),
        Figure(100 * opened, "%", 2),
        as_seconds(told.interval, 0),
        as_seconds(told.counting, 0),
        ms(medians[0]),
        ms(medians[1]),
        ratio(medians[1], medians[0]),
        ms(max(before)),
        ms(max(meanwhile)),
    )


_TELL_WHEN_SEEN = """
window.seenAfter = new Promise((tell) => new MutationObserver((_, observer) => {
    if (!document.querySelector("#rows [data-id]")) return;
    observer.disconnect();
    requestAnimationFrame(() => requestAnimationFrame(() => tell(performance.now())));
}).observe(document, { childList: true, subtree: true }));
window.tooLate = new Promise((_, fail) => setTimeout(() => fail(new Error("no Services are seen")), 120000));
"""
"""The first Services are there, and the frame that has them in it is over."""


def in_a_browser(it: Bench) -> tuple[float, float]:
    """Open the page; return the seconds until the first Services are seen, and the processor time it took."""
    with browser_in(it.lab.node.namespace) as browser:
        tab = browser.new_page(viewport={"width": 1280, "height": 860})
        tab.add_init_script(_TELL_WHEN_SEEN)
        inspector = tab.context.new_cdp_session(tab)
        inspector.send("Performance.enable", {"timeDomain": "threadTicks"})
        tab.goto(f"http://{it.lab.node.ip}:{METRICS_PORT}/")
        milliseconds = tab.evaluate("() => Promise.race([window.seenAfter, window.tooLate])")
        metrics = {one["name"]: one["value"] for one in inspector.send("Performance.getMetrics")["metrics"]}
        return float(milliseconds) / 1000, float(metrics["TaskDuration"])


def _share(it: Bench, seconds: float) -> float:
    """Return what part of a core kproxy takes in so many seconds."""
    before, began = it.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (it.cpu_seconds() - before) / (time.monotonic() - began)


def _latencies(it: Bench, looker: Looker, repeats: int) -> tuple[list[float], list[float]]:
    """Return how long changes took with the page closed, and with it open, in blocks of some in turn."""
    found: dict[bool, list[float]] = {False: [], True: []}
    while min(map(len, found.values())) < repeats:
        is_open = len(found[True]) < len(found[False])
        with looker.looking() if is_open else contextlib.nullcontext():
            for _ in range(_BLOCK):
                time.sleep(_PAUSE)
                found[is_open].append(it.move())
    return found[False], found[True]


if __name__ == "__main__":
    main()
