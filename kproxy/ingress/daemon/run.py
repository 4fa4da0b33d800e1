"""The composition root of ``kproxy ingress``: the one place that knows all its parts and wires them up.

How it ends. At SIGTERM, /readyz says no, HAProxy goes on for the shutdown delay, then finishes what it has begun, for
as long as the shutdown timeout, and both end; a second SIGTERM ends it at once. With --leave-haproxy only kproxy ends,
and HAProxy serves by its last state until the next kproxy takes it over, as it does when kproxy is killed.
"""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from kproxy import __version__, logs
from kproxy.api.folder import ManifestSource
from kproxy.api.manifests import ManifestError
from kproxy.api.sink import Source
from kproxy.api.transport.access import AccessError, AccessOptions
from kproxy.api.transport.client import ApiClient
from kproxy.api.transport.credentials import Credentials
from kproxy.config import ConfigError
from kproxy.config.watch import ConfigWatch
from kproxy.daemon.door import open_door
from kproxy.daemon.signals import Signals
from kproxy.faults.containment import survived, watch_threads
from kproxy.ingress.api.kinds import IngressKind
from kproxy.ingress.api.source import IngressSource
from kproxy.ingress.config.settings import Settings
from kproxy.ingress.daemon.accesslog import access_log
from kproxy.ingress.daemon.loop import Facts, Loop
from kproxy.ingress.daemon.statuses import ObjectReporter, status_writer
from kproxy.ingress.daemon.traffic import TrafficReader
from kproxy.ingress.explain.reply import DOOR, replier
from kproxy.ingress.haproxy.control.files import Generations
from kproxy.ingress.haproxy.control.process import has_exporter
from kproxy.ingress.haproxy.engine import Engine, Totals
from kproxy.ingress.haproxy.errors import EngineError
from kproxy.ingress.plan.model import Plan
from kproxy.ingress.plan.planner import HttpPlanner
from kproxy.ingress.report.exporter import Exporter
from kproxy.ingress.report.health import IngressHealth
from kproxy.ingress.report.metrics import IngressMetrics
from kproxy.ingress.report.page import Answers, Sources, page_routes
from kproxy.ingress.report.pages import health_routes, metrics_routes
from kproxy.ingress.report.reporter import Reporter
from kproxy.ingress.report.traffic import Traffic
from kproxy.ingress.status.writer import StatusWriter
from kproxy.node import interfaces, memory
from kproxy.proxier.inbox import Inbox
from kproxy.proxier.pacing import Pacer
from kproxy.report.events import Event, EventRecorder
from kproxy.report.http import HttpServers, Routes
from kproxy.report.metrics import Lasting
from kproxy.report.ports import BindError

log = logs.get("ingress")
haproxy_log = logs.get("haproxy")

_ENDING_SECONDS = 10.0
"""What the end may take beyond the shutdown delay and timeout."""
_RESTART_SECONDS = 1.0
_CREDIT_SECONDS = 1.0
"""What syncs may have spent beyond their share: a reload, and the changes of endpoints that come right behind it."""


def run(settings: Settings, read: Callable[[], Settings], signals: Signals) -> int:
    """Run until a signal comes; return the exit code. Settings that change on disk are taken up on the way.

    ``signals`` must be handled by now.
    """
    memory.use_one_pool()
    watch_threads()
    counted = Counted(Lasting(), Totals(), Traffic(), 0)
    while True:
        written = settings.written
        logs.setup(written.logging.format, written.logging.verbosity)
        signals.stop_seconds = written.timeouts.shutdown + written.timeouts.shutdown_delay + _ENDING_SECONDS
        try:
            program = _Program(settings, counted)
            new = program.serve(read, signals)
            counted = program.counted
            del program  # before there is another one
        except (AccessError, BindError, ConfigError, EngineError, ManifestError) as error:
            log.error(str(error))
            return 1
        if new is None or signals.stopping:
            log.info("stopped")
            return 0
        log.info("the configuration has changed; taking it up")
        settings = new


class Counted(NamedTuple):
    """What the process has counted so far, whatever settings it had."""

    lasting: Lasting
    engine: Totals
    traffic: Traffic
    failed_writes: int


class _Program:
    """One run with fixed settings."""

    def __init__(self, settings: Settings, counted: Counted) -> None:
        self._settings = settings
        self._written = settings.written
        self._counted = counted
        self._failed_writes = counted.failed_writes
        self._metrics = IngressMetrics(counted.lasting)
        self._inbox = Inbox()
        self._files = Generations(Path(self._written.state_dir))
        self._files.prepare()  # whoever may not write there learns it at once
        engine = msgspec.structs.replace(
            settings.engine, ipv6=_has_ipv6(), exporter=has_exporter(self._written.haproxy)
        )
        self._engine = Engine(engine, program=self._written.haproxy, say=haproxy_log.warning, totals=counted.engine)
        self._client = self._api_client()
        self._source = self._object_source()
        self._health = IngressHealth(self._engine.is_serving, lambda: self._source.statuses)
        self._loop: Loop | None = None
        self._stops = 0

    @property
    def counted(self) -> Counted:
        """What has been counted, for the next."""
        return self._counted._replace(failed_writes=self._failed_writes)

    # --- what signals are for --------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End; asked for a second time, at once. See `kproxy.daemon.signals.Loop`."""
        self._stops += 1
        self._health.stopping()
        if self._loop is not None:
            self._loop.stop()
        if self._stops > 1:
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(self._files.pid_file.read_text()), signal.SIGTERM)

    def resync(self) -> None:
        """Bring everything into force anew, and read it anew: in another thread, as this is a signal's handler."""
        if self._loop is not None:
            self._loop.resync()
        threading.Thread(target=self._source.refresh, name="refresh", daemon=True).start()

    # --- how it goes -----------------------------------------------------------------------------------------------

    def serve(self, read: Callable[[], Settings], signals: Signals) -> Settings | None:
        """Work until told to stop (None), or until there are new settings."""
        log.info("starting", version=__version__, source=self._written.manifests or "API server")
        with contextlib.ExitStack() as stack:
            stack.callback(self._end, signals)
            self._source.start()
            stack.callback(self._source.stop)
            stack.callback(self._metrics.let_go)
            writer = stack.enter_context(self._writing())
            event = stack.enter_context(self._events(writer))
            if self._written.logging.access:
                stack.enter_context(access_log(self._files.log_pipe))
            traffic = TrafficReader(self._engine, lambda: writer, self._counted.traffic, self._failed_writes)
            stack.enter_context(traffic.running())
            self._metrics.read_from(traffic.scrape, lambda: self._source.statuses)
            page = Answers()
            stack.enter_context(self._http(page_routes(page)))
            stack.enter_context(self._watching())
            reporter = self._reporter(writer, event)
            loop = self._loop = self._make_loop(reporter)
            if writer is not None:
                writer.when_denied = loop.resync
            stack.enter_context(open_door(Path(self._written.state_dir) / DOOR, replier(self._planned)))
            page.open(self._page_sources(traffic, reporter))
            watch = ConfigWatch(self._settings, read, loop.stop)
            with signals.steering(self), watch.running():
                loop.run()
                if signals.stopping:
                    self._stand_by(self._written.timeouts.shutdown_delay)
                    self._drain()
            return watch.new

    def _planned(self) -> Plan | None:
        planned = self._loop.planned if self._loop is not None else None
        return planned.plan if planned is not None else None

    def _stand_by(self, seconds: float) -> None:
        """Go on serving for a while, until others know that this replica goes."""
        deadline = time.monotonic() + seconds
        while self._stops < 2 and time.monotonic() < deadline:
            time.sleep(min(0.1, max(0.0, deadline - time.monotonic())))

    def _drain(self) -> None:
        if not self._written.leave_haproxy:
            log.info("HAProxy finishes its requests", seconds=self._written.timeouts.shutdown)
            self._engine.close(stop=True, grace_s=0.0 if self._stops > 1 else self._written.timeouts.shutdown)

    def _end(self, signals: Signals) -> None:
        if not signals.stopping or self._written.leave_haproxy:
            self._engine.close(stop=False)

    # --- the parts -------------------------------------------------------------------------------------------------

    def _reporter(self, writer: StatusWriter | None, event: Callable[[Event], None]) -> Reporter:
        objects = ObjectReporter(self._settings, writer) if writer is not None else None
        return Reporter(
            self._metrics,
            self._health,
            event,
            objects.settled if objects is not None else None,
            (*self._settings.plan.http_binds, *self._settings.plan.https_binds),
        )

    def _make_loop(self, reporter: Reporter) -> Loop:
        return Loop(
            HttpPlanner(self._settings.plan),
            self._engine,
            self._inbox,
            Pacer(self._written.cpu_share, credit=_CREDIT_SECONDS),
            reporter,
            self._source if isinstance(self._source, IngressSource) else None,
            Facts() if self._settings.in_cluster else Facts(lambda: frozenset(interfaces.addresses())),
        )

    def _page_sources(self, traffic: TrafficReader, reporter: Reporter) -> Sources:
        return Sources(
            plan=self._planned,
            problems=lambda: reporter.problems,
            scrape=traffic.scrape,
            health=self._health.healthz,
            ready=self._health.readyz,
            explain=replier(self._planned),
        )

    def _api_client(self) -> ApiClient | None:
        """Return the way to the API server, if there is to be one. Raises AccessError where waiting can't help."""
        written = self._written
        if written.manifests:
            return None
        options = AccessOptions(kubeconfig=written.kubeconfig, master=written.master, fallbacks=written.api_servers)
        return ApiClient(Credentials(options), self._metrics)

    def _object_source(self) -> Source:
        if self._client is None:
            return ManifestSource(Path(self._written.manifests), self._inbox, "", kinds=IngressKind)
        return IngressSource(self._client, self._inbox)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[StatusWriter | None]:
        if self._client is None or not self._written.write_status:
            yield None
            return
        writer = status_writer(self._client, self._settings)
        writer.failures = self._failed_writes
        writer.start()
        try:
            yield writer
        finally:
            writer.stop()
            self._failed_writes = writer.failures

    @contextlib.contextmanager
    def _events(self, writer: StatusWriter | None) -> Iterator[Callable[[Event], None]]:
        """Yield what writes Events, where this replica is the one that writes."""
        if writer is None or self._client is None:
            yield lambda _: None
            return
        controller = self._settings.plan.ingress_controller
        recorder = EventRecorder(self._client.post, socket.gethostname(), controller=controller)
        with recorder.running():
            yield lambda event: recorder.record(event) if writer.writes else None

    @contextlib.contextmanager
    def _http(self, page: Routes) -> Iterator[None]:
        servers = HttpServers()
        servers.start()
        try:
            servers.serve("health", self._settings.healthz, health_routes(self._health, self._metrics))
            exporter = Exporter(self._files.exporter_socket)
            servers.serve("metrics", self._settings.metrics, metrics_routes(self._metrics, exporter, page))
            yield
        finally:
            servers.stop()

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        """Have HAProxy started again whenever it dies, for as long as the block lasts."""
        ending = threading.Event()
        thread = threading.Thread(target=self._watch, args=(ending,), name="haproxy", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ending.set()

    def _watch(self, ending: threading.Event) -> None:
        while not ending.is_set():
            try:
                self._engine.watch()
                return
            except Exception as error:
                survived("haproxy", error, "watching HAProxy failed; beginning again")
                ending.wait(_RESTART_SECONDS)


def _has_ipv6() -> bool:
    """Tell whether this machine can listen by IPv6 at all: some kernels are started without it."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as tried:
            tried.bind(("::", 0))
    except OSError:
        return False
    return True
