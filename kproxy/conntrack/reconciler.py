"""Keeps conntrack's flows in line with the plan: decides when to look, and at which flows.

For each look the kernel walks its whole table, which takes tens of milliseconds on a busy node, and what it tells of
costs a few microseconds a flow. So all is looked at when nothing is certain: at the start, after an error, when the
node's own settings have changed, or when asked to. After that it is enough to look at flows to the frontends of
services that changed, and only if the change can have made one of them wrong; and of connections (of TCP and SCTP) only
at those that nobody has answered.

The comparison needs no memory, with one exception. Nothing in a flow tells that it was sent to a service, once that
service is gone, so the frontends that have gone must be known: those of this process are remembered till their flows
are released, those of the process before it stand in the rules that it left in the kernel (`remember`).
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import AbstractContextManager
from typing import Protocol as Interface

from kproxy.conntrack.expected import Expected, Places, destinations, may_strand
from kproxy.conntrack.flows import Flow
from kproxy.conntrack.kernel import KernelConntrack
from kproxy.conntrack.looks import Look, looks
from kproxy.plan.model import Destination, NodePlan, Plan, ServicePlan
from kproxy.state.model import IPFamily, Protocol, ServicePortName

_ANSWER_SECONDS = 0.01
"""How long an answer may be under way. A connection that is just being answered looks like one that never will be."""


class Table(Interface):
    """One family's conntrack table; see `KernelConntrack`."""

    def flows(self, look: Look) -> Iterator[Flow]:
        """Yield the flows of a look, at least: all of UDP, of other protocols those without an answer."""

    def release(self, flows: Sequence[Flow]) -> int:
        """Delete flows but connections that have an answer by now; return how many there were left to delete."""

    def is_local(self, ip: str) -> bool:
        """Tell whether an address is the node's own."""


OpenTable = Callable[[IPFamily], AbstractContextManager[Table]]


class _Family:
    """What is remembered of one address family between two looks."""

    def __init__(self) -> None:
        self.node: NodePlan | None = None
        """The node's plan at the last look; None while all flows must be looked at."""
        self.services: dict[ServicePortName, ServicePlan] = {}
        self.former: dict[Protocol, set[Destination]] = {protocol: set() for protocol in Protocol}
        """Frontends that went away, whose flows may not have been released yet."""

    def update(self, plan: Plan, names: Iterable[ServicePortName], passed: Places) -> dict[Protocol, set[Destination]]:
        """Take note of services; return where flows may have gone wrong, by protocol."""
        concerned = {protocol: set(places) for protocol, places in passed.items()}
        for protocol, places in passed.items():
            self.former[protocol].update(places)
        for name in names:
            before, now = self.services.pop(name, None), plan.services.get(name)
            if now is not None:
                self.services[name] = now
            had, has = destinations(before), destinations(now)
            self.former[name.protocol] |= had - has
            if may_strand(before, now):
                concerned.setdefault(name.protocol, set()).update(had, has)
        return concerned

    def protocols(self) -> Set[Protocol]:
        """Return the protocols of which there may be flows to look at."""
        return {name.protocol for name in self.services} | {each for each, gone in self.former.items() if gone}


class Reconciler:
    """Releases what is stale. Not thread-safe; acts on the calling thread's network namespace."""

    def __init__(self, open_table: OpenTable = KernelConntrack, wait: Callable[[float], None] = time.sleep) -> None:
        self._open_table = open_table
        self._wait = wait
        self._families: dict[IPFamily, _Family] = {family: _Family() for family in IPFamily}

    def remember(self, family: IPFamily, frontends: Iterable[Destination]) -> None:
        """Take note of UDP frontends that the kernel's rules serve already, before the first sync replaces them.

        They are what kproxy or kube-proxy served before. Those that no service claims any more have gone meanwhile.
        """
        self._families[family].former[Protocol.UDP].update(frontends)

    def reconcile(self, plan: Plan, changed: Set[ServicePortName] | None, passed: Places | None = None) -> int | None:
        """Release the flows of one family that are not as ``plan`` wants them; return how many, None if none mattered.

        Call it when the rules are in the kernel, lest a flow that was released starts anew by the old ones.
        ``changed`` names the services whose plans are new since the last call for this family, or that are gone; of
        others the plan may be silent. None looks at everything, and takes the plan to be complete. To ``passed`` flows
        may have begun by rules that came and went since.

        Raises:
            ConntrackError: conntrack could not be read or changed. Nothing is lost: the next call, whatever it names,
                looks at everything.
        """
        family = self._families[plan.node.family]
        everything = changed is None or family.node != plan.node
        names = {*plan.services, *family.services} if changed is None else changed
        family.node = None  # until all has gone well
        concerned = family.update(plan, names, passed or {})
        matters = family.protocols() if everything else concerned
        released = self._look(plan.node, family, None if everything else concerned) if matters else None
        for gone in family.former.values():
            gone.clear()
        family.node = plan.node
        return released

    def _look(self, node: NodePlan, family: _Family, places: Places | None) -> int:
        """Release what is stale among the flows to some places, None being all; return how many there were."""
        expected = Expected(Plan(node=node, services=family.services), family.former, only=places)
        asked = looks(node.family, dict.fromkeys(family.protocols()) if places is None else places)
        released = 0
        with self._open_table(node.family) as table:
            for look in asked:
                stale = [flow for flow in table.flows(look) if expected.stale(flow, table.is_local)]
                released += self._release(table, stale)
        return released

    def _release(self, table: Table, stale: Sequence[Flow]) -> int:
        """Release flows; wait with those that may be answered by whoever they go to."""
        waiting = [flow for flow in stale if flow.is_connection and flow.translated]
        others = [flow for flow in stale if not (flow.is_connection and flow.translated)]
        released = table.release(others) if others else 0
        if waiting:
            self._wait(_ANSWER_SECONDS)
            released += table.release(waiting)
        return released
