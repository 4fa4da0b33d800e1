"""The nftables backend as the proxier sees it: plans in, a report out.

It holds the compiled ruleset of one address family, hands the applier the step from what was to what should be, and
finds the service at fault when the kernel refuses a step.
"""

from collections.abc import Mapping, Sequence, Set

from kproxy.backends.base import BackendError, Counts, Refused, SyncReport
from kproxy.backends.culprits import leave_out_culprits
from kproxy.backends.nftables.compile.compiler import Compiler
from kproxy.backends.nftables.counting import Counting
from kproxy.backends.nftables.kernel.applier import Applier, ApplyResult, NftApplier
from kproxy.backends.nftables.kernel.errors import KernelRefusedError, NoNftablesError
from kproxy.backends.nftables.kernel.probe import why_not
from kproxy.backends.nftables.rules import names
from kproxy.backends.nftables.rules.change import Change
from kproxy.backends.nftables.rules.ruleset import Chain, Elements
from kproxy.plan.model import Destination, Plan, ServicePlan
from kproxy.state.model import IPFamily, ServicePortName


class NftablesBackend:
    """Brings one family's plans into the kernel; implements `kproxy.backends.base.Backend`."""

    def __init__(self, family: IPFamily, applier: Applier | None = None, *, count_endpoints: bool = True) -> None:
        """Raises NoNftablesError, which names what is missing, where this machine cannot do it.

        Without ``count_endpoints`` nobody wants to know what each endpoint was given.
        """
        self.family = family
        self._applier = applier or _open(family)
        self._compiler: Compiler | None = None
        self._plan: Plan | None = None
        self._refused: dict[ServicePortName, str] = {}
        self._must_compare = True
        self._counting = Counting(self._applier, count_endpoints=count_endpoints)

    def apply(self, plan: Plan, changed: Set[ServicePortName], *, full: bool) -> SyncReport:
        """See `kproxy.backends.base.Backend.apply`."""
        try:
            with self._counting.steady.written():
                return self._apply(plan, changed, full=full)
        except BackendError:
            raise
        except Exception:
            # Nobody knows how far it got: what has been compiled so far can't be built upon.
            self._compiler, self._must_compare = None, True
            raise

    def _apply(self, plan: Plan, changed: Set[ServicePortName], *, full: bool) -> SyncReport:
        change, suspects = self._compile(plan, changed, full=full)
        full = full or self._must_compare
        self._must_compare = True  # until it has gone well
        try:
            result = self._carry_out(change, full=full)
        except KernelRefusedError as error:
            if not error.may_be_a_services_fault:
                raise
            result = self._leave_out_culprits(plan, sorted(suspects), error)
        self._must_compare = False
        rules = {names.TABLE: _number_of_rules(change.after.elements, change.after.chains)}
        return SyncReport(
            full=result.full,
            rules=rules,
            written=rules if result.full else {names.TABLE: _number_of_rules(change.elements_come, change.chains_come)},
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
        compiler = self._compiler
        return None if compiler is None else self._counting.read(compiler, drops_invalid=self._drops_invalid)

    def cleanup(self) -> None:
        """See `kproxy.backends.base.Backend.cleanup`."""
        self._applier.cleanup()
        self._must_compare = True

    def close(self) -> None:
        """See `kproxy.backends.base.Backend.close`."""
        self._applier.close()

    @property
    def _drops_invalid(self) -> bool:
        return self._plan is not None and self._plan.node.drop_invalid

    # --- compiling -------------------------------------------------------------------------------------------------

    def _compile(self, plan: Plan, changed: Set[ServicePortName], *, full: bool) -> tuple[Change, Set[ServicePortName]]:
        """Return the step to take, and which services have a part in it."""
        for name in [name for name in self._refused if full or name in changed]:
            del self._refused[name]
            changed = changed | {name}
        before, self._plan = self._plan, plan
        if self._compiler is None:
            self._compiler = Compiler(plan.node)
            changed = plan.services.keys()
        if full:
            self._compiler.collect()
        if before is None or before.node == plan.node:
            return self._compiler.update({name: self._wanted(plan, name) for name in changed}), changed
        everything = plan.services.keys() | self._compiler.services.keys()
        return self._compiler.set_node(plan.node, {name: self._wanted(plan, name) for name in everything}), everything

    def _wanted(self, plan: Plan, name: ServicePortName) -> ServicePlan | None:
        return None if name in self._refused else plan.services.get(name)

    # --- carrying out ----------------------------------------------------------------------------------------------

    def _carry_out(self, change: Change, *, full: bool) -> ApplyResult:
        result = self._applier.reconcile(change) if full else self._applier.apply(change)
        if result.loaded:
            self._counting.begun_anew()
        if self._compiler is not None and result.gone:
            self._counting.gone(result.gone, self._compiler.owner, change.own_gone)
        return result

    def _leave_out_culprits(
        self, plan: Plan, suspects: Sequence[ServicePortName], error: KernelRefusedError
    ) -> ApplyResult:
        """Apply without the services that the kernel refuses. See `kproxy.backends.culprits`."""
        compiler = self._compiler
        if compiler is None:
            raise error
        refusals = (KernelRefusedError,)
        culprits, _ = leave_out_culprits(plan, suspects, error, refusals, compiler.update, self._carry_out)
        self._refused |= culprits
        return self._applier.reconcile(Change(after=compiler.ruleset))


def _number_of_rules(elements: Mapping[str, Elements], chains: Mapping[str, Chain]) -> int:
    """Count elements as rules: they are what other engines have rules for."""
    return sum(map(len, elements.values())) + sum(len(chain.rules) for chain in chains.values())


def _open(family: IPFamily) -> Applier:
    reason = why_not(family)
    if reason is not None:
        raise NoNftablesError(reason)
    return NftApplier(family)
