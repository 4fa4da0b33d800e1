"""What goes wrong leaves each table as it was or as it should be, says so in one line, and is made good later."""

import contextlib
import errno
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from kproxy.backends.base import BackendError
from kproxy.backends.iptables.kernel.errors import (
    KernelRefusedError,
    LockTimeoutError,
    NoIptablesError,
    TableBusyError,
    UnencodableRuleError,
)
from kproxy.backends.iptables.kernel.legacy import applier as legacy
from kproxy.backends.iptables.kernel.legacy import libiptc
from kproxy.backends.iptables.kernel.legacy.applier import LegacyApplier
from kproxy.backends.iptables.kernel.legacy.libiptc import LibIPTC, TableHandle
from kproxy.backends.iptables.kernel.legacy.lock import XtablesLock
from kproxy.backends.iptables.kernel.nft.applier import NftApplier
from kproxy.backends.iptables.kernel.variant import Variant
from kproxy.backends.iptables.rules.diff import diff
from kproxy.backends.iptables.rules.ruleset import (
    Chain,
    Jump,
    MasqueradeSource,
    Random,
    Rule,
    RuleSet,
    Table,
    TableName,
)
from kproxy.state.model import IPFamily
from tests.backends.iptables.kernel.legacy.test_lock import held_by_another_process
from tests.kit.iptables.applier import Node, node
from tests.kit.iptables.samples import sample
from tests.kit.iptables.tools import run, saved
from tests.kit.netns import network_namespace

__all__ = ["node"]

pytestmark = pytest.mark.kernel


def with_filter_chain(ruleset: RuleSet, chain: str, rules: Chain) -> RuleSet:
    return RuleSet(filter=Table({**ruleset.filter.chains, chain: rules}, ruleset.filter.hooks), nat=ruleset.nat)


# --- a rule the kernel won't take ------------------------------------------------------------------------------------

OUT_OF_PLACE = (Rule(target=MasqueradeSource()),)  # the target is for nat only
NOWHERE = (Rule(target=Jump("KUBE-SVC-NOT-THERE")),)
IN_CIRCLES = (Rule(target=Jump("KUBE-FORWARD")),)


@pytest.mark.parametrize("rules", [OUT_OF_PLACE, NOWHERE, IN_CIRCLES], ids=["out of place", "nowhere", "in circles"])
@pytest.mark.parametrize("full", [True, False], ids=["reconcile", "apply"])
def test_a_refused_rule_changes_nothing(node: Node, rules: Chain, full: bool) -> None:
    good = sample(node.family, {1: [11], 2: []})
    bad = with_filter_chain(sample(node.family, {1: [11, 12], 3: []}), "KUBE-FORWARD", rules)
    node.applier.reconcile(good)
    with pytest.raises(KernelRefusedError) as caught:
        node.applier.reconcile(bad) if full else node.applier.apply(diff(good, bad))
    assert caught.value.table == TableName.FILTER
    assert str(caught.value).startswith("table filter: ")
    assert "\n" not in str(caught.value)
    assert node.saved() == node.rendered(good)
    better = sample(node.family, {1: [12]})
    assert node.applier.apply(diff(bad, better)).full
    assert node.saved() == node.rendered(better)


def test_the_table_before_a_refused_one_is_as_it_should_be(node: Node) -> None:
    good, better = sample(node.family, {1: [11]}), sample(node.family, {1: [11], 2: []})
    bad = RuleSet(filter=better.filter, nat=Table({**better.nat.chains, "KUBE-SVC-BAD": NOWHERE}, better.nat.hooks))
    node.applier.reconcile(good)
    with pytest.raises(KernelRefusedError) as caught:
        node.applier.apply(diff(good, bad))
    assert caught.value.table == TableName.NAT
    assert node.saved() == node.rendered(RuleSet(filter=better.filter, nat=good.nat))


@pytest.mark.parametrize(
    "rule",
    [Rule(target=Jump("KUBE-SVC-" + 20 * "X")), Rule(target=None, matches=(Random(-1),))],
    ids=["chain name", "probability"],
)
def test_a_rule_that_does_not_fit_is_named(tmp_path: Path, rule: Rule) -> None:
    with network_namespace(tmp_path), contextlib.closing(LegacyApplier(IPFamily.IPV4)) as applier:
        with pytest.raises(UnencodableRuleError) as caught:
            applier.reconcile(with_filter_chain(sample(IPFamily.IPV4, {}), "KUBE-SERVICES", (rule,)))
        assert (caught.value.table, caught.value.chain) == (TableName.FILTER, "KUBE-SERVICES")
        assert str(caught.value).startswith("table filter, chain KUBE-SERVICES: ")


# --- others at the same time -----------------------------------------------------------------------------------------


@pytest.fixture
def legacy_applier(tmp_path: Path) -> Iterator[LegacyApplier]:
    with network_namespace(tmp_path), contextlib.closing(LegacyApplier(IPFamily.IPV4)) as applier:
        yield applier


def barge_in_before_commits(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Let a program that takes no lock add a rule between read and commit, so many times; returns a growing list."""
    done: list[int] = []

    class Disturbed(TableHandle):
        def commit(self) -> None:
            if len(done) < times:
                done.append(len(done))
                monkeypatch.setenv("XTABLES_LOCKFILE", "/dev/null")
                run(IPFamily.IPV4, "legacy", "-t filter -A INPUT -j ACCEPT")
                run(IPFamily.IPV4, "legacy", "-t nat -A INPUT -j ACCEPT")
            super().commit()

    monkeypatch.setattr(legacy, "TableHandle", Disturbed)
    return done


@pytest.mark.parametrize("full", [True, False], ids=["reconcile", "apply"])
def test_a_table_changed_by_others_is_read_again(
    legacy_applier: LegacyApplier, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    before, after = sample(IPFamily.IPV4, {1: [11]}), sample(IPFamily.IPV4, {1: [12]})
    legacy_applier.reconcile(before)
    done = barge_in_before_commits(monkeypatch, 2)
    legacy_applier.reconcile(after) if full else legacy_applier.apply(diff(before, after))
    assert len(done) == 2
    node = Node(Variant.LEGACY, IPFamily.IPV4, legacy_applier)
    assert [line for line in node.saved() if line != "-A INPUT -j ACCEPT"] == node.rendered(after)
    assert node.saved().count("-A INPUT -j ACCEPT") == 4


def test_gives_up_on_a_table_that_others_never_leave_alone(
    legacy_applier: LegacyApplier, monkeypatch: pytest.MonkeyPatch
) -> None:
    barge_in_before_commits(monkeypatch, 1_000)
    with pytest.raises(TableBusyError) as caught:
        legacy_applier.reconcile(sample(IPFamily.IPV4, {1: [11]}))
    assert caught.value.code == errno.EAGAIN
    assert "times in a row" in str(caught.value)


def test_others_who_write_all_the_time_are_served_and_so_are_we(node: Node) -> None:
    stop = threading.Event()
    rounds: list[int] = []

    def write() -> None:
        while not stop.is_set():
            node.run("-t nat -I OUTPUT -j ACCEPT")
            node.run("-t nat -D OUTPUT -j ACCEPT")
            rounds.append(1)

    steps = [
        sample(node.family, {1: [number % 7 + 1], 2: [number % 5 + 1], 3: [][number % 2 :]}) for number in range(30)
    ]
    node.applier.reconcile(steps[0])
    # The thread is made here, so it is in the namespace too.
    neighbour = threading.Thread(target=write)
    neighbour.start()
    try:
        for before, after in itertools.pairwise(steps):
            node.applier.apply(diff(before, after))
    finally:
        stop.set()
        neighbour.join()
    assert rounds
    node.applier.reconcile(steps[-1])
    assert node.saved() == node.rendered(steps[-1])


def test_a_lock_held_for_long_is_waited_for_so_long_only(tmp_path: Path) -> None:
    with network_namespace(tmp_path):
        lock = XtablesLock(timeout=0.05)
        with contextlib.closing(LegacyApplier(IPFamily.IPV4, lock)) as applier:
            ruleset = sample(IPFamily.IPV4, {1: [11]})
            with held_by_another_process(lock.path), pytest.raises(LockTimeoutError, match="has been held by process"):
                applier.reconcile(ruleset)
            assert saved(IPFamily.IPV4, "legacy", TableName.NAT)[-1] == "COMMIT"
            applier.apply(diff(ruleset, ruleset))
            assert applier.reconcile(ruleset).repaired == 0


# --- a machine that lacks something ----------------------------------------------------------------------------------


def in_a_child(what: Callable[[], None]) -> str:
    """Run something in a forked process; returns the error it raised, in its one line."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _answer(what, writing)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    return text


def _answer(what: Callable[[], None], writing: int) -> NoReturn:
    try:
        what()
    except BackendError as err:
        os.write(writing, str(err).encode())
    finally:
        os._exit(0)


@pytest.mark.parametrize("kind", [LegacyApplier, NftApplier])
@pytest.mark.parametrize("family", IPFamily)
def test_without_privilege_it_says_which_is_needed(
    tmp_path: Path, kind: Callable[[IPFamily], LegacyApplier | NftApplier], family: IPFamily
) -> None:
    (tmp_path / "xtables.lock").touch(mode=0o666)

    def as_nobody() -> None:
        os.setgid(65_534)
        os.setuid(65_534)
        kind(family).reconcile(sample(family, {1: [11]}))

    with network_namespace(tmp_path):
        assert "run it as root" in in_a_child(as_nobody)


def test_without_libiptc_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libiptc, "_addresses", libiptc._addresses.__wrapped__)
    for family, module in ((IPFamily.IPV4, "iptc.ip4tc"), (IPFamily.IPV6, "iptc.ip6tc")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(NoIptablesError, match="which the package iptables brings"):
            LibIPTC(family)


def test_without_iptables_nft_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NoIptablesError, match="iptables-nft-save is not installed"):
        NftApplier(IPFamily.IPV4)


def test_handles_are_freed_whatever_happens(legacy_applier: LegacyApplier, monkeypatch: pytest.MonkeyPatch) -> None:
    library: Any = legacy_applier._library
    made, freed = [], []
    init, free = library.init, library.free

    def counted_init(name: bytes) -> int:
        made.append(init(name))
        return int(made[-1])

    def counted_free(handle: int) -> None:
        freed.append(handle)
        free(handle)

    monkeypatch.setattr(library, "init", counted_init)
    monkeypatch.setattr(library, "free", counted_free)
    good = sample(IPFamily.IPV4, {1: [11]})
    legacy_applier.reconcile(good)
    for rules in (OUT_OF_PLACE, NOWHERE):
        with pytest.raises(KernelRefusedError):
            legacy_applier.reconcile(with_filter_chain(good, "KUBE-FORWARD", rules))
    assert len(made) == 4
    assert freed == made


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.EPERM, "run it as root or privileged"),
        (errno.ENOMEM, "raise the node's or the cgroup's limit"),
        (errno.ENOENT, "load it on the node"),
        (errno.ENOPROTOOPT, "load the module or use the nft variant"),
        (errno.EINVAL, ""),
    ],
)
def test_an_errno_comes_with_its_remedy(code: int, remedy: str) -> None:
    error = KernelRefusedError("nat", code, os.strerror(code), "the kernel refused it")
    assert str(error).startswith(f"table nat: the kernel refused it: {os.strerror(code)}")
    assert remedy in str(error)
