"""The iptables backend as a whole, over an applier that stands in for the kernel."""

import errno
from collections.abc import Callable
from unittest.mock import Mock

import pytest

from kproxy.backends.base import BackendError
from kproxy.backends.iptables.compile.compiler import Compiler, compile_plan
from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.kernel.errors import KernelRefusedError, UnencodableRuleError
from kproxy.backends.iptables.rules.names import cluster_chain
from kproxy.backends.iptables.rules.ruleset import (
    RuleSet,
    TableName,
)
from kproxy.state.model import ServicePortName
from tests.backends.iptables.kit import Node


def refusing(*names: ServicePortName, code: int = errno.EINVAL) -> Callable[[RuleSet], BackendError | None]:
    chains = {cluster_chain(name) for name in names}

    def refuses(ruleset: RuleSet) -> BackendError | None:
        if chains & ruleset.nat.chains.keys():
            return KernelRefusedError("nat", code, "Invalid argument", "committing it")
        return None

    return refuses


def test_the_first_sync_compares_and_later_ones_step() -> None:
    node = Node()
    node.serve(1, "10.244.0.1")
    node.sync()
    node.serve(2, "10.244.0.2")
    node.sync()
    assert node.kernel.calls == ["reconcile", "apply"]
    assert node.kernel.held == node.expected()


def test_the_report_tells_what_is_in_force_and_what_this_sync_saw_to() -> None:
    node = Node()
    node.serve(1, "10.244.0.1")
    node.planner.update(set(node.tracker.pending))
    first = node.backend.apply(node.planner.plan, node.planner.plan.services.keys(), full=False)
    assert first.written == first.rules
    name = node.serve(2)
    step = node.backend.apply(node.planner.plan, node.planner.update({name}), full=False)
    assert (step.written, step.rules["filter"]) == ({"filter": 1, "nat": 0}, first.rules["filter"] + 1)


def test_after_a_failure_it_compares() -> None:
    node = Node()
    node.serve(1, "10.244.0.1")
    node.sync()
    node.kernel.refuses = lambda _: BackendError("out of memory")
    node.serve(2, "10.244.0.2")
    with pytest.raises(BackendError, match="out of memory"):
        node.sync()
    node.kernel.refuses = lambda _: None
    node.sync()
    assert node.kernel.calls[-1] == "reconcile"
    assert node.kernel.held == node.expected()


def test_after_a_fault_of_its_own_it_compiles_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can tell how much of the change is in what had been compiled by then."""
    node = Node()
    node.serve(1, "10.244.0.1")
    node.sync()
    node.serve(2, "10.244.0.2")
    with monkeypatch.context() as patch:
        patch.setattr(Compiler, "update", Mock(side_effect=KeyError))
        with pytest.raises(KeyError):
            node.sync()
    node.sync()
    assert node.kernel.calls == ["reconcile", "reconcile"]
    assert node.kernel.held == node.expected()


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("bad", [(7,), (1, 2), (1, 20), (3, 9, 10, 19)])
def test_services_the_kernel_refuses_are_left_out_and_all_others_served(layout: Layout, bad: tuple[int, ...]) -> None:
    node = Node(layout)
    names = {number: node.serve(number, "10.244.0.1", "10.244.1.2") for number in range(1, 21)}
    culprits = [names[number] for number in bad]
    node.kernel.refuses = refusing(*culprits)
    assert node.sync() == {name.name for name in culprits}
    assert node.kernel.held == node.expected(*culprits)


def test_the_search_takes_few_tries() -> None:
    node = Node()
    names = [node.serve(number, "10.244.0.1") for number in range(1, 129)]
    node.kernel.refuses = refusing(names[77])
    node.sync()
    assert len(node.kernel.calls) < 20


def test_a_refused_service_is_tried_again_when_it_changes() -> None:
    node = Node()
    node.serve(1, "10.244.0.1")
    bad = node.serve(2, "10.244.0.2")
    node.kernel.refuses = refusing(bad)
    assert node.sync() == {bad.name}
    node.serve(3, "10.244.0.3")
    assert node.sync() == {bad.name}
    assert node.kernel.held == node.expected(bad)
    node.kernel.refuses = lambda _: None
    node.serve(2, "10.244.0.2", "10.244.1.2")
    assert node.sync() == set()
    assert node.kernel.held == node.expected()


def test_a_refused_service_is_tried_again_at_a_full_sync() -> None:
    node = Node()
    bad = node.serve(1, "10.244.0.1")
    node.kernel.refuses = refusing(bad)
    assert node.sync() == {bad.name}
    node.kernel.refuses = lambda _: None
    assert node.sync(full=True) == set()
    assert node.kernel.held == node.expected()


def test_a_rule_that_cannot_be_encoded_is_its_services_fault() -> None:
    node = Node()
    bad = node.serve(1, "10.244.0.1")
    node.serve(2, "10.244.0.2")

    def refuses(ruleset: RuleSet) -> BackendError | None:
        if cluster_chain(bad) in ruleset.nat.chains:
            return UnencodableRuleError(TableName.NAT, cluster_chain(bad), "comment too long")
        return None

    node.kernel.refuses = refuses
    assert node.sync() == {bad.name}


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.EPERM, errno.ENOPROTOOPT])
def test_what_is_no_services_fault_is_blamed_on_none(code: int) -> None:
    node = Node()
    name = node.serve(1, "10.244.0.1")
    node.kernel.refuses = refusing(name, code=code)
    with pytest.raises(KernelRefusedError):
        node.sync()
    assert node.kernel.calls == ["reconcile"]


def test_where_everything_is_refused_the_error_stands() -> None:
    node = Node()
    node.serve(1, "10.244.0.1")
    node.kernel.refuses = lambda _: KernelRefusedError("nat", errno.ENOENT, "No such file", "committing it")
    with pytest.raises(KernelRefusedError, match="a kernel module is missing"):
        node.sync()


def test_the_layout_follows_the_number_of_endpoints() -> None:
    node = Node(layout=None)
    first = node.serve(1, "10.244.1.1")
    node.sync()
    assert node.kernel.held == compile_plan(node.planner.plan, Layout.CLASSIC)
    for number in range(2, 103):
        node.serve(number, *(f"10.244.{number}.{host}" for host in range(1, 11)))
    node.sync()
    assert node.kernel.held == compile_plan(node.planner.plan, Layout.LARGE)
    assert node.kernel.calls == ["reconcile", "apply"]
    for number in range(2, 103):
        node.serve(number)
    node.sync()
    assert node.kernel.held == compile_plan(node.planner.plan, Layout.CLASSIC)
    assert cluster_chain(first) in node.kernel.held.nat.chains
