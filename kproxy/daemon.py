"""The composition root: the one place that knows all the parts, wires them up, and handles signals."""

import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from kproxy import __version__, interfaces, logs, sysctl
from kproxy.api.access import AccessError, AccessOptions
from kproxy.api.client import ApiClient
from kproxy.api.credentials import Credentials
from kproxy.api.folder import ManifestSource
from kproxy.api.listwatch import Timing
from kproxy.api.manifests import ManifestError
from kproxy.api.sink import Sink, Source
from kproxy.api.source import ApiSource
from kproxy.api.types import Node
from kproxy.backends.base import Backend, BackendError
from kproxy.backends.iptables.backend import IptablesBackend
from kproxy.backends.iptables.legacy import LegacyApplier
from kproxy.backends.iptables.lists import Layout
from kproxy.config import Config
from kproxy.facts import node_facts, proxy_settings
from kproxy.inbox import Inbox
from kproxy.metrics import Metrics
from kproxy.pacing import Pacer
from kproxy.plan.settings import NodeFacts
from kproxy.proxier import Proxier
from kproxy.reporter import Reporter
from kproxy.state.model import IPFamily

log = logs.get("daemon")


def run(config: Config) -> int:
    """Run until a signal comes; return the exit code."""
    logs.setup(config.proxy.logging.format, config.proxy.logging.verbosity)
    log.info("starting", version=__version__, node=config.node_name)
    for warning in config.warnings:
        log.warning(warning)
    try:
        backends = _backends(config)
        metrics = Metrics(config.mode)
        inbox = Inbox()
        source = _source(config, inbox, metrics)
        proxier = _proxier(config, backends, inbox, Reporter(metrics))
        _set_sysctls(config)
        source.start()
    except (AccessError, BackendError, ManifestError) as error:
        log.error(str(error))
        return 1
    _stop_on_signals(proxier)
    try:
        proxier.run()
    finally:
        source.stop()
    log.info("stopped; the rules stay in force until 'kproxy cleanup' or a restart")
    return 0


def cleanup(config: Config) -> int:
    """Remove all rules; return the exit code."""
    logs.setup(config.proxy.logging.format, config.proxy.logging.verbosity)
    try:
        for backend in _backends(config):
            backend.cleanup()
    except BackendError as error:
        log.error(str(error))
        return 1
    log.info("removed all rules of kproxy's")
    return 0


def _backends(config: Config) -> Sequence[Backend]:
    layout = None if config.kproxy.layout == "auto" else Layout(config.kproxy.layout)
    return [IptablesBackend(family, LegacyApplier(family), layout) for family in IPFamily]


class _Requests:
    """Puts the API client's requests into the metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def finished(self, verb: str, host: str, code: str, seconds: float) -> None:
        """See `kproxy.api.client.Observer`."""
        status = int(code) if code.isdecimal() else None
        self._metrics.request_finished(method=verb, verb=verb, host=host, code=status, seconds=seconds)


def _source(config: Config, sink: Sink, metrics: Metrics) -> Source:
    """Return where objects come from. Raises ManifestError or AccessError where waiting can't help."""
    if config.options.manifests:
        return ManifestSource(Path(config.options.manifests), sink, config.node_name)
    options = AccessOptions(
        kubeconfig=config.proxy.client_connection.kubeconfig,
        master=config.options.master,
        fallbacks=config.kproxy.api_servers,
    )
    client = ApiClient(Credentials(options), _Requests(metrics))
    return ApiSource(client, sink, config.node_name, timing=Timing(idle=config.kproxy.watch_idle_timeout))


def _proxier(config: Config, backends: Sequence[Backend], inbox: Inbox, reporter: Reporter) -> Proxier:
    settings = proxy_settings(config)
    by_prefix = bool(config.proxy.node_port_addresses) and not config.node_ports_on_primary

    def facts(node: Node | None) -> NodeFacts:
        return node_facts(
            config.node_name,
            node,
            interface_addresses=interfaces.addresses() if by_prefix else None,
            tcp_be_liberal=sysctl.tcp_be_liberal(),
        )

    pacer = Pacer(config.kproxy.cpu_share, config.rules.min_sync_period)
    resync = config.kproxy.resync_period
    return Proxier(backends, settings, facts, inbox, pacer, reporter, resync_seconds=resync)


def _set_sysctls(config: Config) -> None:
    for outcome in sysctl.apply(sysctl.wanted(config, sysctl.online_cores())):
        if outcome.problem:
            log.warning(outcome.problem)
        elif outcome.written:
            log.info("set a sysctl", name=outcome.setting.name, before=outcome.found, now=outcome.setting.value)


def _stop_on_signals(proxier: Proxier) -> None:
    def stop(number: int, _frame: FrameType | None) -> None:
        log.info("stopping", signal=signal.Signals(number).name)
        proxier.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
