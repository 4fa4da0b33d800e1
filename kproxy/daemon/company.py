"""Everybody in whose company the loop works: metrics, health, Events, conntrack, and those who answer questions.

They join when the rules are in force, and hear then what has happened so far.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from kproxy import __version__, logs
from kproxy.config import Config
from kproxy.conntrack.keeper import Keeper
from kproxy.conntrack.reconciler import Reconciler
from kproxy.daemon import engines
from kproxy.daemon.door import open_door
from kproxy.daemon.early import Begun
from kproxy.daemon.files import ChangedError
from kproxy.daemon.kernelsettings import KernelSettings
from kproxy.daemon.later import Once, later
from kproxy.daemon.nodeview import NodeViewer
from kproxy.daemon.rates import Rates
from kproxy.faults.containment import contained
from kproxy.node import limits
from kproxy.node.door import socket_path
from kproxy.plan.model import Destination
from kproxy.report.connections import ConnectionReader
from kproxy.report.conntrack import ConntrackReporter
from kproxy.report.events import EventRecorder
from kproxy.report.health import HealthState
from kproxy.report.healthcheck import HealthCheckServers
from kproxy.report.http import HttpServers, Routes
from kproxy.report.metrics import ConnectionCounters, Lasting, Metrics, Store
from kproxy.report.node import NodeReporter
from kproxy.report.page.files import page_routes
from kproxy.report.pages import health_routes, metrics_routes
from kproxy.report.ports import Ports
from kproxy.report.reporter import Reporter
from kproxy.state.model import IPFamily

if TYPE_CHECKING:
    from kproxy.daemon import inspect, pagesources
    from kproxy.held import flows
    from kproxy.report.page import answers
else:
    inspect, pagesources = later("kproxy.daemon.inspect"), later("kproxy.daemon.pagesources")
    flows, answers = later("kproxy.held.flows"), later("kproxy.report.page.answers")


log = logs.get("engines")


@contextlib.contextmanager
def joined(begun: Begun, ports: Ports) -> Iterator[None]:
    """Have them all be there while the block runs; some ports are open already. Raises BindError."""
    config, proxier, source = begun.config, begun.proxier, begun.source
    totals = begun.life.totals = begun.life.totals or Lasting()
    metrics = Metrics(config.mode, since=begun.since, lasting=totals)
    metrics.config_warnings(len(config.warnings))
    metrics.watch_statuses(lambda: source.statuses)
    begun.requests.pass_on(metrics)
    events = EventRecorder(None if begun.client is None else begun.client.post, config.node_name)
    health = HealthState(
        list(begun.udp_frontends),
        sync_timeout=2 * config.rules.sync_period,
        watch_timeout=2 * config.kproxy.watch_idle_timeout,
    )
    health.watch_statuses(lambda: source.statuses)
    viewer = NodeViewer(begun.facts, begun.planning, from_api=begun.client is not None)
    node = NodeReporter(viewer, metrics, events, gone=begun.settings.retry)
    keeper = _keeper(config, begun.udp_frontends, metrics)
    with contextlib.ExitStack() as stack:
        stack.callback(metrics.let_go)
        stack.enter_context(events.running())
        events.started(__version__)
        with contained("look at the node"):
            node.idle()  # what can be seen without the Node object is said before anything else
        servers = stack.enter_context(_servers(ports))
        checks = HealthCheckServers(
            servers,
            health.proxy_healthy,
            failed=events.health_check_failed,
            counted=lambda serving, failed: metrics.health_check_node_ports(serving=serving, failed=failed),
            short=viewer.lacks,
            spare=lambda: limits.open_files().spare,
        )
        first = partial(_after_first_sync, config, begun.settings)
        reporter = Reporter(metrics, health, checks, keeper, after_first_sync=first, node=node)
        reader = _connections(begun, metrics)
        stack.callback(reader.read, surely=True)  # and keep, for the next start
        questions = _Questions(begun, health, reporter, node, reader)
        pages = metrics_routes(metrics, config, config.mode, begun.life.started, page_routes(questions.page))
        _serve(servers, config, events, health_routes(health, metrics), pages)
        stack.enter_context(open_door(socket_path(config.kproxy.state_directory), questions.reply))
        stack.enter_context(keeper.running())
        begun.notes.pass_on(reporter)
        proxier.tell(reporter)
        yield


class _Questions:
    """Whoever asks, by the socket or the page: what answers is loaded with the first question."""

    def __init__(
        self, begun: Begun, health: HealthState, reporter: Reporter, node: NodeReporter, reader: ConnectionReader
    ) -> None:
        self._begun = begun
        self._health = health
        self._reporter = reporter
        self._node = node
        self._reader = reader
        self._inspector = Once(self._make_inspector)
        self.page = Once(self._make_page)
        """What answers the page."""

    def reply(self, line: bytes) -> bytes:
        """Answer a question from the socket."""
        try:
            return self._inspector().reply(line)
        except ChangedError as error:  # with a `kproxy.explain.protocol.Reply`, which is not to be loaded any more
            return msgspec.json.encode({"error": str(error)})

    def _make_inspector(self) -> "inspect.Inspector":
        config, source = self._begun.config, self._begun.source
        sources = inspect.Sources(
            proxier=self._begun.proxier,
            health=self._health,
            reporter=self._reporter,
            node=self._node,
            watches=lambda: source.statuses,
            rates=Rates(self._reader.read),
            rules=partial(engines.rules_held, config),
            changes=partial(engines.changes_due, config),
            interface_of=flows.interface_of,
            flows=flows.flows_to,
        )
        return inspect.Inspector(config, self._begun.life.started, sources)

    def _make_page(self) -> "answers.Answers":
        page = answers.Answers()
        page.open(pagesources.page_sources(self._inspector(), self._begun.proxier, self._reporter, self._reader))
        return page


def _keeper(config: Config, before: Mapping[IPFamily, Collection[Destination]], metrics: Metrics) -> Keeper:
    reconciler = Reconciler()
    for family, frontends in before.items():
        reconciler.remember(family, frontends)
    return Keeper(reconciler, ConntrackReporter(metrics), config.kproxy.cpu_share / 3)


@contextlib.contextmanager
def _servers(ports: Ports) -> Iterator[HttpServers]:
    servers = HttpServers(limits.open_files().most_clients, ports)
    servers.start()
    try:
        yield servers
    finally:
        servers.stop()


def _serve(servers: HttpServers, config: Config, events: EventRecorder, health: Routes, metrics: Routes) -> None:
    """Serve health and metrics. Raises BindError."""
    hard_fail = config.proxy.bind_address_hard_fail
    servers.serve("health", config.healthz_bind, health, hard_fail=hard_fail, failed=events.health_server_failed)
    servers.serve("metrics", config.metrics_bind, metrics, hard_fail=hard_fail)


def _connections(begun: Begun, metrics: Metrics) -> ConnectionReader:
    own = begun.config.kproxy
    counters = begun.life.connections = begun.life.connections or ConnectionCounters()
    counters.go_on(own.max_service_series, own.max_endpoint_series if own.endpoint_metrics else 0)
    store = Store(own.state_directory) if own.state_directory else None
    reader = ConnectionReader(begun.proxier, counters, store)
    metrics.connection_counters(reader.read, endpoints=own.endpoint_metrics)
    return reader


def _after_first_sync(config: Config, settings: KernelSettings) -> None:
    """Do what has to wait for the rules: route_localnet lets the network at 127.0.0.1 until a rule keeps it out."""
    for warning in engines.left_behind(config):
        log.warning(warning)
    settings.make()
    keep_guard = settings.put_back()
    engines.retire_others(config, keep_guard=keep_guard)
