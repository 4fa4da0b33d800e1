"""Tells the world what becomes of conntrack's entries: in the log and in metrics."""

from kproxy import logs
from kproxy.conntrack.flows import ConntrackError
from kproxy.report.metrics import Metrics
from kproxy.state.model import IPFamily

log = logs.get("conntrack")


class ConntrackReporter:
    """A `kproxy.conntrack.keeper.Observer`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def reconciled(self, family: IPFamily, *, seconds: float, released: int) -> None:
        """See `kproxy.conntrack.keeper.Observer`."""
        self._metrics.conntrack_reconciled(family, seconds=seconds, released=released)
        if released:
            log.routine("released entries that led to the wrong place", family=family, entries=released)

    def failed(self, family: IPFamily, error: Exception) -> None:
        """See `kproxy.conntrack.keeper.Observer`."""
        message = "entries that lead to the wrong place could not be released; trying again"
        if isinstance(error, ConntrackError):
            log.warning(message, family=family, error=error)
        else:
            log.exception(message, error, family=family)  # noqa: LOG004 (the keeper calls from inside one)
