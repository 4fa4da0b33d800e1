"""What the page of the metrics server asks, and whom."""

from kproxy.daemon.inspect import Inspector
from kproxy.explain.view import View
from kproxy.proxier.loop import Proxier
from kproxy.report.connections import ConnectionReader
from kproxy.report.page.answers import Sources
from kproxy.report.reporter import Reporter


def page_sources(inspector: Inspector, proxier: Proxier, reporter: Reporter, reader: ConnectionReader) -> Sources:
    """Return what the page is made of."""

    def views() -> list[View]:
        """Return the plans; the node's addresses, which it takes the kernel to tell, matter to explanations alone."""
        return [
            View(snapshot.plan, snapshot.tracker, snapshot.node, frozenset(), snapshot.losses)
            for snapshot in proxier.snapshots()
        ]

    return Sources(
        views=views,
        status=inspector.condition,
        refused=lambda: reporter.refused,
        changed=lambda: reporter.changed_lately,
        totals=reader.count,
        endpoints=reader.endpoints,
        explain=inspector.explain,
    )
