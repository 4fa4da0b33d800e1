"""Asks HAProxy for its figures, every few seconds and whenever somebody wants the metrics."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from kproxy import logs
from kproxy.faults.containment import contained
from kproxy.ingress.haproxy.engine import Engine
from kproxy.ingress.haproxy.errors import EngineError
from kproxy.ingress.report.metrics import Scraped
from kproxy.ingress.report.traffic import Clients, Traffic, parse_info, parse_latency, parse_stats, with_latency
from kproxy.ingress.status.writer import StatusWriter

log = logs.get("traffic")

READ_SECONDS = 5.0
_PATIENCE_SECONDS = 1.0
"""How long to wait at the end for a reading that is under way."""


class TrafficReader:
    """Keeps the totals of requests. May be asked from any thread."""

    def __init__(
        self,
        engine: Engine,
        writer: Callable[[], StatusWriter | None] = lambda: None,
        traffic: Traffic | None = None,
        failed_writes: int = 0,
    ) -> None:
        """Go on from ``traffic``. Without a writer, there have been so many failed writes."""
        self._engine = engine
        self._writer = writer
        self._traffic = Traffic() if traffic is None else traffic
        self._failed_writes = failed_writes
        self._lock = threading.Lock()
        self._frontends: list[Clients] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Read for as long as the block lasts."""
        self._thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            self._thread.join(_PATIENCE_SECONDS)

    def scrape(self) -> Scraped:
        """Return everything as of now, or as of the last time that HAProxy answered."""
        with self._lock:
            serving = self._read()
            ways = {way: total.reading for way, total in self._traffic.totals.items()}
            frontends = list(self._frontends) if serving else []
        writer = self._writer()
        configuration = self._engine.configuration()
        return Scraped(
            ways=ways,
            frontends=frontends,
            serving=serving,
            totals=self._engine.totals,
            writes=writer is not None and writer.writes,
            failed_writes=writer.failures if writer is not None else self._failed_writes,
            slots=configuration.slots if configuration is not None else {},
        )

    def _run(self) -> None:
        while not self._stopping.wait(READ_SECONDS):
            with contained("traffic"), self._lock:
                self._read()

    def _read(self) -> bool:
        """Read once; tell whether HAProxy answered."""
        configuration = self._engine.configuration()
        try:
            before = self._worker()
            readings, frontends = parse_stats(self._engine.ask("show stat -1 3 -1"))
            latency = parse_latency(self._engine.ask("show table latency")) if self._engine.settings.histogram else {}
            worker = self._worker()
        except EngineError:
            return False
        except (ValueError, KeyError) as error:
            log.warning("HAProxy's figures make no sense", error=error)
            return True
        if configuration is not None and worker == before:  # else it was reloaded on the way
            self._traffic.take(worker, with_latency(readings, latency), configuration.slots, time.monotonic())
        self._frontends = frontends
        return True

    def _worker(self) -> tuple[str, str]:
        told = parse_info(self._engine.ask("show info"))
        return told.get("Pid", ""), told.get("Start_time_sec", "")
