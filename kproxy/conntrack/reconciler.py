"""Keeps conntrack's UDP flows in line with the plan: decides when to look, and at which flows.

Looking at all flows costs a few microseconds each, on a busy node some tenths of a second. So all are looked at when
nothing is certain: at the start, after an error, when the node's own settings have changed, or when asked to. After
that it is enough to look at flows to the frontends of services that changed, which the kernel can pick out.

The comparison needs no memory, with one exception. Nothing in a flow tells that it was sent to a service, once that
service is gone, so the frontends that have gone must be known: those of this process are remembered till their flows
are released, those of the process before it stand in the rules that it left in the kernel (`remember`).
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from contextlib import AbstractContextManager
from typing import Protocol as Interface

from kproxy.conntrack.expected import Expected, udp_destinations
from kproxy.conntrack.flows import Flow
from kproxy.conntrack.kernel import KernelConntrack
from kproxy.plan.model import Destination, NodePlan, Plan
from kproxy.state.model import IPFamily, Protocol, ServicePortName


class Table(Interface):
    """One family's conntrack table; see `KernelConntrack`."""

    def flows(self, destinations: Collection[Destination] | None = None) -> Iterator[Flow]:
        """Yield UDP flows: all, or at least those that were sent to ``destinations``."""

    def release(self, flows: Sequence[Flow]) -> int:
        """Delete flows; return how many of them there were left to delete."""

    def is_local(self, ip: str) -> bool:
        """Tell whether an address is the node's own."""


OpenTable = Callable[[IPFamily], AbstractContextManager[Table]]


class _Family:
    """What is remembered of one address family between two looks."""

    def __init__(self) -> None:
        self.node: NodePlan | None = None
        """The node's plan at the last look; None while all flows must be looked at."""
        self.known: dict[ServicePortName, frozenset[Destination]] = {}
        """Where clients of each UDP service send to."""
        self.former: set[Destination] = set()
        """Frontends that went away, whose flows may not have been released yet."""

    def update(self, plan: Plan, names: Iterable[ServicePortName]) -> set[Destination]:
        """Take note of the frontends of services; return those they have and those they had."""
        concerned: set[Destination] = set()
        for name in names:
            before = self.known.pop(name, frozenset())
            now = udp_destinations(plan.services.get(name))
            if now:
                self.known[name] = now
            self.former |= before - now
            concerned |= before | now
        return concerned


class Reconciler:
    """Releases what is stale. Not thread-safe; acts on the calling thread's network namespace."""

    def __init__(self, open_table: OpenTable = KernelConntrack) -> None:
        self._open_table = open_table
        self._families: dict[IPFamily, _Family] = {family: _Family() for family in IPFamily}

    def remember(self, family: IPFamily, frontends: Iterable[Destination]) -> None:
        """Take note of UDP frontends that the kernel's rules serve already, before the first sync replaces them.

        They are what kproxy or kube-proxy served before. Those that no service claims any more have gone meanwhile.
        """
        self._families[family].former.update(frontends)

    def reconcile(self, plan: Plan, changed: Set[ServicePortName] | None) -> int | None:
        """Release the flows of one family that are not as ``plan`` wants them; return how many, None if none mattered.

        Call it when the rules are in the kernel, lest a flow that was released starts anew by the old ones.
        ``changed`` names the services whose plans are new since the last call for this family, or that are gone; None
        looks at everything.

        Raises:
            ConntrackError: conntrack could not be read or changed. Nothing is lost: the next call, whatever it names,
                looks at everything.
        """
        family = self._families[plan.node.family]
        everything = changed is None or family.node != plan.node
        names = {*plan.services, *family.known} if changed is None or everything else changed
        concerned = family.update(plan, (name for name in names if name.protocol is Protocol.UDP))
        if not concerned and not (everything and family.former):
            family.node = plan.node
            return None
        family.node = None
        expected = Expected(plan, family.former)
        with self._open_table(plan.node.family) as table:
            flows = table.flows(None if everything else concerned)
            stale = [flow for flow in flows if expected.stale(flow, table.is_local)]
            released = table.release(stale) if stale else 0
        family.former.clear()
        family.node = plan.node
        return released
