"""What there is of a daemon when it begins to write rules, for those who join it afterwards."""

import threading
from collections.abc import Callable, Collection, Mapping, Set
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from kproxy.api.sink import Source
from kproxy.api.transport.client import ApiClient
from kproxy.api.types import Node, ServiceCIDR
from kproxy.config import Config
from kproxy.daemon.files import Files
from kproxy.daemon.kernelsettings import KernelSettings
from kproxy.plan.model import Destination
from kproxy.plan.settings import NodeFacts, ProxySettings
from kproxy.proxier.loop import Proxier
from kproxy.proxier.observer import Notes
from kproxy.state.model import IPFamily

if TYPE_CHECKING:
    from kproxy.report.metrics import ConnectionCounters, Lasting


class Counter(Protocol):
    """Counts requests; see `kproxy.report.metrics.Metrics`."""

    def request_finished(self, *, method: str, verb: str, host: str, code: int | None, seconds: float) -> None:
        """A request to the API server was answered; ``code`` is None where it was not."""


class Requests:
    """Passes the API client's requests on to the metrics; those that end before there are any, as soon as there are."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._early: list[tuple[str, str, str, float]] = []
        self._counter: Counter | None = None

    def finished(self, verb: str, host: str, code: str, seconds: float) -> None:
        """See `kproxy.api.transport.client.Observer`."""
        with self._lock:
            if self._counter is None:
                self._early.append((verb, host, code, seconds))
                return
        self._count(self._counter, verb, host, code, seconds)

    def pass_on(self, counter: Counter) -> None:
        """Have them counted from now on."""
        with self._lock:
            self._counter, early = counter, self._early
            self._early = []
        for request in early:
            self._count(counter, *request)

    def _count(self, counter: Counter, verb: str, host: str, code: str, seconds: float) -> None:
        status = int(code) if code.isdecimal() else None
        counter.request_finished(method=verb, verb=verb, host=host, code=status, seconds=seconds)


class Life(msgspec.Struct):
    """What goes on for as long as the process lives, whatever configurations it takes up: all that is counted."""

    started: float
    """Unix time."""
    files: Files
    """Those of the program."""
    totals: "Lasting | None" = None
    connections: "ConnectionCounters | None" = None


class Begun(NamedTuple):
    """A daemon that writes rules, and has nobody to tell yet."""

    config: Config
    """With the mode chosen."""
    since: float
    """When this configuration was taken up, in Unix time."""
    life: Life
    client: ApiClient | None
    source: Source
    requests: Requests
    settings: KernelSettings
    facts: Callable[[Node | None, Collection[ServiceCIDR]], NodeFacts]
    planning: ProxySettings
    proxier: Proxier
    notes: Notes
    """What happened so far."""
    udp_frontends: Mapping[IPFamily, Set[Destination]]
    """What led somewhere before the first sync."""
