"""The composition root: what is needed before the first sync, wired up in the order in which it is needed.

Objects are asked for before anything heavy is imported, let alone made. While they are under way the engine is loaded,
and then come the rules. Everybody else joins when those are in force, see `kproxy.daemon.company`.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kproxy import __version__, logs
from kproxy.api.kinds import Kind
from kproxy.api.manifests import ManifestError
from kproxy.api.sink import Source, WholeSink
from kproxy.api.transport.access import AccessError, AccessOptions
from kproxy.api.transport.client import ApiClient
from kproxy.api.transport.credentials import Credentials
from kproxy.api.types import Node, ServiceCIDR
from kproxy.api.watch.listwatch import Timing
from kproxy.api.watch.source import ApiSource
from kproxy.backends.base import BackendError
from kproxy.config import Config, ProxyMode, to_yaml
from kproxy.config.watch import ConfigWatch
from kproxy.daemon import engines
from kproxy.daemon.early import Begun, Life, Requests
from kproxy.daemon.files import Files
from kproxy.daemon.kernelsettings import KernelSettings
from kproxy.daemon.later import before_loading, later
from kproxy.daemon.signals import Both, Signals
from kproxy.faults.containment import explain, watch_threads
from kproxy.faults.output import put_out
from kproxy.node import interfaces, limits, memory, sysctl
from kproxy.node.facts import node_facts, proxy_settings
from kproxy.plan.settings import NodeFacts
from kproxy.proxier.inbox import Inbox
from kproxy.proxier.loop import Proxier
from kproxy.proxier.observer import Notes
from kproxy.proxier.pacing import Pacer
from kproxy.report.ports import BindError, Ports

if TYPE_CHECKING:
    from kproxy.api import folder
    from kproxy.daemon import company
else:
    folder = later("kproxy.api.folder")
    company = later("kproxy.daemon.company")

log = logs.get("daemon")

_PATIENCE_SECONDS = 1.0
"""So long a first sync may take before all else is made that does not need it: health is to be told of meanwhile."""
_SWITCH_SECONDS = 0.001
"""How long a thread may run before it lets others: a sync takes some milliseconds, and a scrape shall not take it more
each time that it comes back from the kernel. Python's own 5 ms are for programs that have no such hurry."""


def run(config: Config, read_config: Callable[[], Config], signals: Signals) -> int:
    """Run until a signal comes; return the exit code. A configuration that changes on disk is taken up on the way.

    ``signals`` must be handled by now.
    """
    life = Life(started=time.time(), files=Files(Path(logs.__file__).parent))
    before_loading(life.files.check)
    memory.use_one_pool()
    sys.setswitchinterval(_SWITCH_SECONDS)
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
            new = _serve(config, read_config, signals, life)
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
        engines.forget_all()
        memory.let_go()


def cleanup(config: Config) -> int:
    """Remove all rules, of both variants of iptables unless one is asked for; return the exit code."""
    logs.setup(config.proxy.logging.format, config.proxy.logging.verbosity)
    problems = remove_all(config)
    for problem in problems:
        log.error(str(problem))
    if problems:
        return 1
    log.info("removed all rules of kproxy's")
    return 0


def remove_all(config: Config) -> Sequence[Exception]:
    """Put back the kernel's settings and remove all rules; return what went wrong."""
    try:
        keep_guard = KernelSettings(config).put_back(everything=True)
        return engines.cleanup(config, keep_guard=keep_guard)
    except OSError as error:
        return [OSError(explain(error))]


def _serve(config: Config, read_config: Callable[[], Config], signals: Signals, life: Life) -> Config | None:
    """Work until told to stop (None), or until there is a new configuration."""
    memory.begin()
    configured, config = config, config.with_mode(engines.choose_mode(config))
    log.info("starting", version=__version__, node=config.node_name, mode=config.mode)
    inbox, requests = Inbox(), Requests()
    client = _client(config, requests)
    source = _source(config, client, inbox)
    with contextlib.ExitStack() as stack:
        source.start()
        stack.callback(source.stop)
        life.files.remember()
        if problem := sysctl.set_oom_score_adj(config.proxy.oom_score_adj):
            log.routine(problem)
        ports = Ports()
        stack.callback(ports.close)
        opened = ports.open([config.healthz_bind, config.metrics_bind])
        begun = _begin(config, inbox, client, source, requests, life)
        proxier = begun.proxier
        stack.callback(proxier.close)
        with signals.steering(Both(proxier, source)):
            if opened or not config.proxy.bind_address_hard_fail:
                proxier.begin(_PATIENCE_SECONDS)
            if signals.stopping:
                return None
            stack.enter_context(company.joined(begun, ports))
            memory.settle()
            watch = ConfigWatch(configured, read_config, proxier.stop, hindrance=life.files.problem)
            with watch.running():
                proxier.run()
        return watch.new


def _begin(
    config: Config, inbox: Inbox, client: ApiClient | None, source: Source, requests: Requests, life: Life
) -> Begun:
    """Make the engine and the loop. Raises BackendError."""
    since = time.time()
    backends = engines.open_backends(config)
    settings = KernelSettings(config)
    facts, planning = _facts(config), msgspec.structs.replace(proxy_settings(config), count_localhost=True)
    pacer, notes = Pacer(config.kproxy.cpu_share, config.rules.min_sync_period), Notes()
    resync = config.kproxy.resync_period
    proxier = Proxier(backends, planning, facts, inbox, pacer, notes, resync_seconds=resync)
    udp = {backend.family: backend.udp_frontends() for backend in backends}
    return Begun(config, since, life, client, source, requests, settings, facts, planning, proxier, notes, udp)


def _client(config: Config, requests: Requests) -> ApiClient | None:
    """Return the way to the API server, if there is to be one. Raises AccessError where waiting can't help."""
    if config.options.manifests:
        return None
    options = AccessOptions(
        kubeconfig=config.proxy.client_connection.kubeconfig,
        master=config.options.master,
        fallbacks=config.kproxy.api_servers,
    )
    return ApiClient(Credentials(options), requests)


def _source(config: Config, client: ApiClient | None, sink: WholeSink) -> Source:
    """Return where objects come from. Raises ManifestError where waiting can't help."""
    if client is None:
        return folder.ManifestSource(Path(config.options.manifests), sink, config.node_name)
    # Only mode nftables looks at ServiceCIDRs: it drops what is for addresses that no service has.
    optional = [Kind.SERVICE_CIDR] if config.mode is ProxyMode.NFTABLES else []
    idle = config.kproxy.watch_idle_timeout
    timing = Timing(idle=idle, list_idle=min(idle, Timing().list_idle))
    return ApiSource(client, sink, config.node_name, optional=optional, timing=timing)


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


def _write_config(config: Config) -> int:
    text = to_yaml(config)
    if config.options.write_config_to == "-":
        put_out(text)
        return 0
    try:
        Path(config.options.write_config_to).write_text(text)
    except OSError as error:
        log.error("the configuration can't be written", file=config.options.write_config_to, problem=error.strerror)
        return 1
    return 0
