"""The iptables backend as the proxier sees it: plans in, a report out.

It holds the compiled rules of one address family, hands the applier the step from what was to what should be, and finds
the service at fault when the kernel refuses a step, so that one service can never keep all others from being served.
"""

import errno
import logging
from collections.abc import Sequence, Set
from functools import partial

from kproxy.backends.base import BackendError, Counts, Refused, SyncReport
from kproxy.backends.culprits import leave_out_culprits
from kproxy.backends.iptables.compile.compiler import Compiler, choose_layout
from kproxy.backends.iptables.compile.counts import Numbers, Places, localhost_places
from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.kernel.applier import Applier, ApplyResult
from kproxy.backends.iptables.kernel.errors import (
    InterruptedReadingError,
    KernelRefusedError,
    TableBusyError,
    UnencodableRuleError,
)
from kproxy.backends.iptables.rules.diff import RuleSetChange, diff
from kproxy.backends.iptables.rules.ruleset import TableName
from kproxy.backends.steady import Steady
from kproxy.plan.model import Destination, NodePlan, Plan, ServicePlan
from kproxy.state.model import IPFamily, ServicePortName

log = logging.getLogger(__name__)

COUNTS_PATIENCE_SECONDS = 1.0
"""A scrape of the metrics must not wait for as long as others may keep the xtables lock."""
_READINGS = 2
"""How often to read counters at a time: again if a sync came in between."""
_REFUSALS = (KernelRefusedError, UnencodableRuleError)
_NO_SERVICES_FAULT = {
    *(errno.EPERM, errno.EACCES, errno.ENOMEM, errno.ENOPROTOOPT),
    *(errno.EAGAIN, errno.EINTR, errno.EMFILE, errno.ENFILE),
}


class IptablesBackend:
    """Brings one family's plans into the kernel through an applier; implements `kproxy.backends.base.Backend`."""

    def __init__(self, family: IPFamily, applier: Applier, layout: Layout | None = None) -> None:
        """Make a backend. Without ``layout`` the number of endpoints decides, sync by sync."""
        self.family = family
        self._applier = applier
        self._forced_layout = layout
        self._compiler: Compiler | None = None
        self._node: NodePlan | None = None
        self._refused: dict[ServicePortName, str] = {}
        self._must_compare = True
        self._endpoints = 0
        self._endpoints_of: dict[ServicePortName, int] = {}
        self._steady = Steady()
        self._places: tuple[int, Places] | None = None
        """Of the rules of that number."""
        self._told: tuple[Places, Numbers] | None = None
        """What `counts` has told last. As what is below, it is for the thread that counts alone."""

    def apply(self, plan: Plan, changed: Set[ServicePortName], *, full: bool) -> SyncReport:
        """See `kproxy.backends.base.Backend.apply`."""
        try:
            with self._steady.written():
                self._applier.make_way()
                return self._apply(plan, changed, full=full)
        except BackendError:
            raise
        except Exception:
            # Nobody knows how far it got: what has been compiled so far can't be built upon.
            self._compiler, self._must_compare = None, True
            raise

    def _apply(self, plan: Plan, changed: Set[ServicePortName], *, full: bool) -> SyncReport:
        change, suspects = self._compile(plan, changed, retry_refused=full)
        full = full or self._must_compare
        self._must_compare = True  # until it has gone well
        try:
            result = self._carry_out(change, full=full)
        except _REFUSALS as error:
            if not _may_be_a_services_fault(error):
                raise
            result = self._leave_out_culprits(plan, sorted(suspects), error)
        self._must_compare = False
        if result.fell_back:
            log.info("compared all %s rules instead of taking one step: %s", self.family, result.fell_back)
        rules = {str(table): count for table, count in self._applier.rule_counts.items()}
        return SyncReport(
            full=result.full,
            rules=rules,
            written=rules if result.full else _rules_in_step(change),
            repaired=result.repaired,
            refused=[Refused(name, reason) for name, reason in self._refused.items()],
        )

    def drifted(self) -> bool:
        """See `kproxy.backends.base.Backend.drifted`."""
        return self._applier.drifted()

    def udp_frontends(self) -> Set[Destination]:
        """See `kproxy.backends.base.Backend.udp_frontends`."""
        return self._applier.udp_frontends()

    def counts(self) -> Counts | None:
        """See `kproxy.backends.base.Backend.counts`."""
        for _ in range(_READINGS):
            number = self._steady.wait(COUNTS_PATIENCE_SECONDS)
            if number is None:
                return None
            places = self._places_of(number)
            if places is None:
                return None
            try:
                wanted = {table: places.of(table) for table in TableName}
                numbers = self._applier.counted(wanted, number, partial(self._steady.moved, number))
            except InterruptedReadingError:
                continue
            with self._steady.still(number) as still:
                if not still:
                    continue
            before, self._told = self._told, (places, numbers)
            return places.counts(numbers, before)
        return None

    def _places_of(self, number: int) -> Places | None:
        """Return where the rules of that number count."""
        if self._places is not None and self._places[0] == number:
            return self._places[1]
        with self._steady.still(number) as still:
            compiler = self._compiler
            if compiler is None or not still:
                return None
            ruleset = compiler.ruleset
            services, filter_chains = dict(compiler.services), dict(ruleset.filter.chains)
            nat = tuple(localhost_places(ruleset.nat.chains))
        places = Places(services, filter_chains, nat, self._places[1] if self._places is not None else None)
        self._places = number, places
        return places

    def cleanup(self) -> None:
        """See `kproxy.backends.base.Backend.cleanup`."""
        self._applier.cleanup()

    def close(self) -> None:
        """See `kproxy.backends.base.Backend.close`."""
        self._applier.close()

    def _compile(
        self, plan: Plan, changed: Set[ServicePortName], *, retry_refused: bool
    ) -> tuple[RuleSetChange, Set[ServicePortName]]:
        """Return the step to take, and which services have a part in it."""
        for name in [name for name in self._refused if retry_refused or name in changed]:
            del self._refused[name]
            changed = changed | {name}
        layout = self._forced_layout or choose_layout(self._count_endpoints(plan, changed))
        old = self._compiler
        if old is not None and old.layout is layout and self._node == plan.node:
            return old.update({name: self._wanted(plan, name) for name in changed}), changed
        self._compiler = new = Compiler(plan.node, layout)
        self._node = plan.node
        new.update({name: service for name, service in plan.services.items() if name not in self._refused})
        if old is None:
            self._must_compare = True
            return RuleSetChange(after=new.ruleset, filter={}, nat={}), plan.services.keys()
        return diff(old.ruleset, new.ruleset), plan.services.keys()

    def _count_endpoints(self, plan: Plan, changed: Set[ServicePortName]) -> int:
        """Keep count of the plan's endpoints; counting all of them at each change would cost more than the change."""
        for name in changed if self._compiler else plan.services:
            service = plan.services.get(name)
            self._endpoints += (new := len(service.reachable_endpoints) if service else 0)
            self._endpoints -= self._endpoints_of.pop(name, 0)
            if new:
                self._endpoints_of[name] = new
        return self._endpoints

    def _wanted(self, plan: Plan, name: ServicePortName) -> ServicePlan | None:
        return None if name in self._refused else plan.services.get(name)

    def _carry_out(self, change: RuleSetChange, *, full: bool) -> ApplyResult:
        return self._applier.reconcile(change.after) if full else self._applier.apply(change)

    def _leave_out_culprits(self, plan: Plan, suspects: Sequence[ServicePortName], error: BackendError) -> ApplyResult:
        """Apply without the services that the kernel refuses. See `kproxy.backends.culprits`."""
        compiler = self._compiler
        if compiler is None:
            raise error
        culprits, result = leave_out_culprits(plan, suspects, error, _REFUSALS, compiler.update, self._carry_out)
        self._refused |= culprits
        return self._applier.reconcile(compiler.ruleset) if self._refused else result


def _rules_in_step(change: RuleSetChange) -> dict[str, int]:
    return {str(name): sum(len(new or ()) for _, new in change.table(name).values()) for name in TableName}


def _may_be_a_services_fault(error: BackendError) -> bool:
    if isinstance(error, TableBusyError):
        return False
    return not isinstance(error, KernelRefusedError) or error.code not in _NO_SERVICES_FAULT
