"""The nftables backend as a whole, over an applier that stands in for the kernel."""

import errno
import os
from collections.abc import Callable, Mapping, Sequence, Set
from unittest.mock import Mock

import pytest

from kproxy.backends.nftables.backend import NftablesBackend
from kproxy.backends.nftables.compile.compiler import Compiler, compile_plan
from kproxy.backends.nftables.kernel.applier import ApplyResult, Counted
from kproxy.backends.nftables.kernel.errors import KernelRefusedError
from kproxy.backends.nftables.rules.change import Change
from kproxy.backends.nftables.rules.ruleset import Found, Key, RuleSet, SetSpec
from kproxy.faults.bisect import find_culprits
from kproxy.plan.model import Destination, ServicePlan
from kproxy.report.metrics import ConnectionCounters, Reading
from kproxy.state.model import IPFamily, Protocol, ServicePortName
from tests.kit.nft import carry_out, copy, plan_of, pods, service

WEB = service("web", 10, pods(1, 2))


class FakeKernel:
    """An applier that holds a ruleset; ``refuses`` says what it won't take."""

    def __init__(self) -> None:
        self.held: RuleSet | None = None
        self.refuses: Callable[[RuleSet], str] = lambda _: ""
        self.calls: list[str] = []
        self.gone: list[tuple[str, Found]] = []
        self.now = Counted((), {})

    def reconcile(self, change: Change) -> ApplyResult:
        self.calls.append("reconcile")
        self._take(copy(change.after))
        return ApplyResult(full=True, gone=self.gone)

    def apply(self, change: Change) -> ApplyResult:
        self.calls.append("apply")
        assert self.held is not None
        self._take(carry_out(self.held, change))
        return ApplyResult(full=False, gone=self.gone)

    def _take(self, ruleset: RuleSet) -> None:
        refusal = self.refuses(ruleset)
        if refusal:
            raise KernelRefusedError(refusal)
        self.held = ruleset

    def drifted(self) -> bool:
        return False

    def counted(self, sets: Mapping[str, SetSpec]) -> Counted:
        assert self.held is not None
        assert sets.items() <= self.held.sets.items()
        return Counted([one for one in self.now.elements if one[0] in sets], self.now.counters)

    def packets(self, elements: Sequence[tuple[str, Key]], sets: Mapping[str, SetSpec]) -> Sequence[int]:
        assert {name for name, _ in elements} <= sets.keys()
        now = {(name, found.key): found.packets for name, found in self.now.elements}
        return [now.get(element, 0) for element in elements]

    def udp_frontends(self) -> Set[Destination]:
        return frozenset()

    def cleanup(self) -> None:
        self.held = None

    def close(self) -> None:
        pass


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel()


@pytest.fixture
def backend(kernel: FakeKernel) -> NftablesBackend:
    return NftablesBackend(IPFamily.IPV4, kernel)


def error(code: int) -> str:
    return f"Error: Could not process rule: {os.strerror(code)}\n"


def holding(ip: str, code: int = errno.EINVAL) -> Callable[[RuleSet], str]:
    """Refuse rulesets with this ClusterIP."""
    return lambda ruleset: error(code) if (ip,) in ruleset.elements.get("cluster-ips", {}) else ""


def apply(backend: NftablesBackend, *services: ServicePlan, full: bool = False) -> set[str]:
    """Apply; return the names of services that were left out."""
    plan = plan_of(*services)
    return {refused.name.name for refused in backend.apply(plan, plan.services.keys(), full=full).refused}


def test_after_a_failure_the_next_step_compares_in_full(backend: NftablesBackend, kernel: FakeKernel) -> None:
    apply(backend, WEB)
    kernel.refuses = lambda _: error(errno.ENOMEM)
    more = service("more", 11, pods(3))
    with pytest.raises(KernelRefusedError, match="memory"):
        apply(backend, WEB, more)
    assert kernel.calls == ["reconcile", "apply"], "lack of memory is no service's fault"
    kernel.refuses = lambda _: ""
    apply(backend, WEB, more)
    assert kernel.calls[2:] == ["reconcile"]
    assert kernel.held == compile_plan(plan_of(WEB, more))


def test_after_a_fault_of_its_own_it_compiles_anew(
    backend: NftablesBackend, kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell how much of the change is in what had been compiled by then."""
    apply(backend, WEB)
    plan = plan_of(WEB, service("more", 11, pods(3)))
    with monkeypatch.context() as patch:
        patch.setattr(Compiler, "update", Mock(side_effect=KeyError))
        with pytest.raises(KeyError):
            backend.apply(plan, plan.services.keys(), full=False)
    backend.apply(plan, frozenset(), full=False)
    assert kernel.calls == ["reconcile", "reconcile"]
    assert kernel.held == compile_plan(plan)


def test_what_is_no_services_fault_is_raised(backend: NftablesBackend, kernel: FakeKernel) -> None:
    kernel.refuses = lambda _: error(errno.EINVAL)
    with pytest.raises(KernelRefusedError):
        apply(backend, WEB)
    kernel.refuses = lambda _: ""
    assert apply(backend, WEB) == set()
    assert kernel.held == compile_plan(plan_of(WEB))


def test_culprits_are_left_out_until_they_change_or_all_is_compared(
    backend: NftablesBackend, kernel: FakeKernel
) -> None:
    bad, good = service("bad", 66, pods(3)), [service(f"s{n}", n, pods(4)) for n in range(20)]
    kernel.refuses = holding("10.96.0.66")
    assert apply(backend, WEB, bad, *good) == {"bad"}
    assert kernel.held == compile_plan(plan_of(WEB, *good))
    kernel.calls.clear()
    more = service("more", 90, pods(5))
    plan = plan_of(WEB, bad, more, *good)
    assert [r.name.name for r in backend.apply(plan, {more.name}, full=False).refused] == ["bad"]
    assert kernel.calls == ["apply"], "a culprit that did not change was tried again"
    kernel.refuses = lambda _: ""
    assert backend.apply(plan, set(), full=True).refused == []
    assert kernel.held == compile_plan(plan)


def test_counts_of_what_went_are_told_beside_those_of_what_is_there(
    backend: NftablesBackend, kernel: FakeKernel
) -> None:
    way = "tcp/cluster-2/off-cluster"

    def front(packets: int) -> tuple[str, Found]:
        return way, Found(("10.96.0.10", 80), None, packets)

    def found(number: int, host: int, packets: int) -> tuple[str, Found]:
        return "tcp/cluster-endpoints", Found(("10.96.0.10", 80, number), (f"10.244.0.{host}", 8080), packets)

    totals = ConnectionCounters()
    apply(backend, WEB)
    kernel.gone = [found(1, 2, 7)]
    apply(backend, service("web", 10, pods(1, 9)))
    kernel.now = Counted([front(12), found(0, 1, 3), found(1, 9, 2), (way, Found(("10.9.9.9", 1), None, 5))], {})
    for _ in range(2):
        counts = backend.counts()
        assert counts is not None
        totals.fold(Reading(backend.family, counts))
        assert totals.services == {WEB.name: 12}
        assert totals.endpoints == {
            (WEB.name, "10.244.0.1:8080"): 3, (WEB.name, "10.244.0.2:8080"): 7, (WEB.name, "10.244.0.9:8080"): 2,
        }  # fmt: skip


# --- halving -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("culprits", [(), (0,), (7,), (15,), (3, 4), tuple(range(16))])
def test_halving_finds_every_culprit_in_few_tries(culprits: tuple[int, ...]) -> None:
    names = [ServicePortName("shop", f"s{n:02}", "", Protocol.TCP) for n in range(16)]
    bad = {names[n] for n in culprits}
    added: list[ServicePortName] = []
    tries = []

    def add(group: object) -> None:
        assert isinstance(group, list)
        tries.append(group)
        if bad.intersection(group):
            raise KernelRefusedError("Error: no")
        added.extend(group)

    assert find_culprits(names, add, (KernelRefusedError,)).keys() == bad
    assert sorted(added) == [name for name in names if name not in bad]
    assert len(tries) <= 1 + 8 * len(culprits)
