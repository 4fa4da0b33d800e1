"""The composition root: the one place that knows all the parts and wires them up."""

import contextlib
import gc
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec

from kproxy import __version__, logs
from kproxy.api.folder import ManifestSource
from kproxy.api.kinds import Kind
from kproxy.api.manifests import ManifestError
from kproxy.api.sink import Sink, Source
from kproxy.api.transport.access import AccessError, AccessOptions
from kproxy.api.transport.client import ApiClient
from kproxy.api.transport.credentials import Credentials
from kproxy.api.types import Node, ServiceCIDR
from kproxy.api.watch.listwatch import Timing
from kproxy.api.watch.source import ApiSource
from kproxy.backends.base import Backend, BackendError
from kproxy.config import Config, ProxyMode, to_yaml
from kproxy.config.watch import ConfigWatch
from kproxy.conntrack.keeper import Keeper
from kproxy.conntrack.reconciler import Reconciler
from kproxy.daemon import engines
from kproxy.daemon.door import open_door
from kproxy.daemon.inspect import Inspector, Sources
from kproxy.daemon.look import page_sources
from kproxy.daemon.nodeview import NodeViewer
from kproxy.daemon.rates import Rates
from kproxy.daemon.settings import KernelSettings
from kproxy.daemon.signals import Both, Signals
from kproxy.faults.containment import contained, explain, watch_threads
from kproxy.held.flows import flows_to, interface_of
from kproxy.node import interfaces, limits, memory, sysctl
from kproxy.node.door import socket_path
from kproxy.node.facts import node_facts, proxy_settings
from kproxy.plan.settings import NodeFacts
from kproxy.proxier.inbox import Inbox
from kproxy.proxier.loop import Proxier
from kproxy.proxier.pacing import Pacer
from kproxy.report.connections import ConnectionReader
from kproxy.report.conntrack import ConntrackReporter
from kproxy.report.events import EventRecorder
from kproxy.report.health import HealthState
from kproxy.report.healthcheck import HealthCheckServers
from kproxy.report.http import BindError, HttpServers, Routes
from kproxy.report.metrics import ConnectionCounters, Metrics, Store
from kproxy.report.node import NodeReporter
from kproxy.report.page import Answers, page_routes
from kproxy.report.pages import health_routes, metrics_routes
from kproxy.report.reporter import Reporter

log = logs.get("daemon")


def run(config: Config, read_config: Callable[[], Config], signals: Signals) -> int:
    """Run until a signal comes; return the exit code. A configuration that changes on disk is taken up on the way.

    ``signals`` must be handled by now.
    """
    started = time.time()
    memory.use_one_pool()
    watch_threads()
    shortage = limits.raise_open_files()
    while True:
        logs.setup(config.proxy.logging.format, config.proxy.logging.verbosity)
        for warning in config.warnings:
            log.warning(warning)
        if shortage:
            log.routine(shortage)
        if config.options.write_config_to:
            return _write_config(config)
        if config.options.init_only:
            KernelSettings(config.with_mode(engines.choose_mode(config))).make_without_rules()
            return 0
        try:
            new = _serve(config, read_config, signals, started)
        except (AccessError, BackendError, BindError, ManifestError) as error:
            log.error(str(error))
            return 1
        except OSError as error:  # before the loop, which survives it: there is nothing to go on with yet
            log.error("could not start", problem=explain(error))
            return 1
        if new is None or signals.stopping:
            log.info("stopped; the rules stay in force until 'kproxy cleanup' or a restart")
            return 0
        log.info("the configuration has changed; taking it up")
        config = new
        gc.collect()  # all that was there before hangs together in circles, and Python would leave it for hours
        memory.give_back()


def cleanup(config: Config) -> int:
    """Remove all rules, of both variants of iptables unless one is asked for; return the exit code."""
    logs.setup(config.proxy.logging.format, config.proxy.logging.verbosity)
    try:
        keep_guard = KernelSettings(config).put_back(everything=True)
        problems: Sequence[Exception] = engines.cleanup(config, keep_guard=keep_guard)
    except OSError as error:
        problems = [OSError(explain(error))]
    for problem in problems:
        log.error(str(problem))
    if problems:
        return 1
    log.info("removed all rules of kproxy's")
    return 0


def _serve(config: Config, read_config: Callable[[], Config], signals: Signals, started: float) -> Config | None:
    """Work until told to stop (None), or until there is a new configuration."""
    configured, config = config, config.with_mode(engines.choose_mode(config))
    log.info("starting", version=__version__, node=config.node_name, mode=config.mode)
    if problem := sysctl.set_oom_score_adj(config.proxy.oom_score_adj):
        log.routine(problem)
    metrics = Metrics(config.mode, since=started)
    metrics.config_warnings(len(config.warnings))
    inbox = Inbox()
    client = _client(config, metrics)
    events = EventRecorder(None if client is None else client.post, config.node_name)
    source = _source(config, client, inbox)
    with contextlib.ExitStack() as stack:
        source.start()  # first of all: while objects are under way, the rest is made ready
        stack.callback(source.stop)
        stack.enter_context(events.running())
        events.started(__version__)
        backends = engines.open_backends(config)
        settings = KernelSettings(config)
        health = HealthState(
            [backend.family for backend in backends],
            sync_timeout=2 * config.rules.sync_period,
            watch_timeout=2 * config.kproxy.watch_idle_timeout,
        )
        metrics.watch_statuses(lambda: source.statuses)
        health.watch_statuses(lambda: source.statuses)
        page = Answers()
        servers = stack.enter_context(_http(config, health, metrics, events, started, page_routes(page)))
        facts = _facts(config)
        planning = msgspec.structs.replace(proxy_settings(config), count_localhost=True)
        viewer = NodeViewer(facts, planning, from_api=client is not None)
        checks = HealthCheckServers(
            servers,
            health.proxy_healthy,
            failed=events.health_check_failed,
            counted=lambda serving, failed: metrics.health_check_node_ports(serving=serving, failed=failed),
            short=viewer.lacks,
            spare=lambda: limits.open_files().spare,
        )
        keeper = _keeper(config, backends, metrics)
        node = NodeReporter(viewer, metrics, events, gone=settings.retry)
        with contained("look at the node"):
            node.idle()  # what can be seen without the Node object is said before anything else
        reporter = Reporter(
            metrics,
            health,
            checks,
            keeper,
            after_first_sync=lambda: _after_first_sync(config, settings),
            node=node,
        )
        pacer = Pacer(config.kproxy.cpu_share, config.rules.min_sync_period)
        resync = config.kproxy.resync_period
        proxier = Proxier(backends, planning, facts, inbox, pacer, reporter, resync_seconds=resync)
        stack.callback(proxier.close)
        reader = _connections(config, proxier, metrics)
        rules, changes = partial(engines.rules_held, config), partial(engines.changes_due, config)
        rates = Rates(reader.read)
        asked = Sources(
            *(proxier, health, reporter, node, lambda: source.statuses, rates, rules, changes, interface_of, flows_to)
        )
        inspector = Inspector(config, started, asked)
        page.open(page_sources(inspector, proxier, reporter, reader))
        stack.enter_context(open_door(socket_path(config.kproxy.state_directory), inspector.reply))
        watch = ConfigWatch(configured, read_config, proxier.stop)
        with signals.steering(Both(proxier, source)), watch.running(), keeper.running():
            proxier.run()
        reader.read(surely=True)  # and keep, for the next start
        return watch.new


def _keeper(config: Config, backends: Sequence[Backend], metrics: Metrics) -> Keeper:
    reconciler = Reconciler()
    for backend in backends:
        reconciler.remember(backend.family, backend.udp_frontends())
    return Keeper(reconciler, ConntrackReporter(metrics), config.kproxy.cpu_share / 3)


class _Requests:
    """Puts the API client's requests into the metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def finished(self, verb: str, host: str, code: str, seconds: float) -> None:
        """See `kproxy.api.transport.client.Observer`."""
        status = int(code) if code.isdecimal() else None
        self._metrics.request_finished(method=verb, verb=verb, host=host, code=status, seconds=seconds)


def _client(config: Config, metrics: Metrics) -> ApiClient | None:
    """Return the way to the API server, if there is to be one. Raises AccessError where waiting can't help."""
    if config.options.manifests:
        return None
    options = AccessOptions(
        kubeconfig=config.proxy.client_connection.kubeconfig,
        master=config.options.master,
        fallbacks=config.kproxy.api_servers,
    )
    return ApiClient(Credentials(options), _Requests(metrics))


def _source(config: Config, client: ApiClient | None, sink: Sink) -> Source:
    """Return where objects come from. Raises ManifestError where waiting can't help."""
    if client is None:
        return ManifestSource(Path(config.options.manifests), sink, config.node_name)
    # Only mode nftables looks at ServiceCIDRs: it drops what is for addresses that no service has.
    optional = [Kind.SERVICE_CIDR] if config.mode is ProxyMode.NFTABLES else []
    timing = Timing(idle=config.kproxy.watch_idle_timeout)
    return ApiSource(client, sink, config.node_name, optional=optional, timing=timing)


@contextlib.contextmanager
def _http(
    config: Config, health: HealthState, metrics: Metrics, events: EventRecorder, started: float, page: Routes
) -> Iterator[HttpServers]:
    """Serve health and metrics."""
    servers = HttpServers(limits.open_files().most_clients)
    servers.start()
    hard_fail = config.proxy.bind_address_hard_fail
    try:
        failed = events.health_server_failed
        pages = health_routes(health, metrics)
        servers.serve("health", config.healthz_bind, pages, hard_fail=hard_fail, failed=failed)
        pages = metrics_routes(metrics, config, config.mode, started, page)
        servers.serve("metrics", config.metrics_bind, pages, hard_fail=hard_fail)
        yield servers
    finally:
        servers.stop()


def _facts(config: Config) -> Callable[[Node | None, Collection[ServiceCIDR]], NodeFacts]:
    """Return what knows what is so of the node."""
    by_prefix = bool(config.proxy.node_port_addresses) and not config.node_ports_on_primary

    def facts(node: Node | None, service_cidrs: Collection[ServiceCIDR]) -> NodeFacts:
        return node_facts(
            config.node_name,
            node,
            bind_address=config.proxy.bind_address,
            interface_addresses=interfaces.addresses() if by_prefix else None,
            service_cidrs=service_cidrs,
            tcp_be_liberal=sysctl.tcp_be_liberal(),
        )

    return facts


def _connections(config: Config, proxier: Proxier, metrics: Metrics) -> ConnectionReader:
    own = config.kproxy
    counters = ConnectionCounters(own.max_service_series, own.max_endpoint_series if own.endpoint_metrics else 0)
    store = Store(own.state_directory) if own.state_directory else None
    reader = ConnectionReader(proxier, counters, store)
    metrics.connection_counters(reader.read, endpoints=own.endpoint_metrics)
    return reader


def _after_first_sync(config: Config, settings: KernelSettings) -> None:
    """Do what has to wait for the rules: route_localnet lets the network at 127.0.0.1 until a rule keeps it out."""
    settings.make()
    keep_guard = settings.put_back()
    engines.retire_others(config, keep_guard=keep_guard)


def _write_config(config: Config) -> int:
    text = to_yaml(config)
    if config.options.write_config_to == "-":
        sys.stdout.write(text)
        return 0
    try:
        Path(config.options.write_config_to).write_text(text)
    except OSError as error:
        log.error("the configuration can't be written", file=config.options.write_config_to, problem=error.strerror)
        return 1
    return 0
