"""Killed at any instant, kproxy leaves each table whole, and the next start repairs the rest."""

import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import Sequence
from typing import NoReturn

import pytest

from kproxy.backends.iptables.kernel.variant import Variant, open_applier
from kproxy.backends.iptables.rules.diff import diff
from kproxy.backends.iptables.rules.ruleset import RuleSet
from kproxy.state.model import IPFamily
from tests.kit.iptables.applier import Node, node
from tests.kit.iptables.samples import sample
from tests.kit.iptables.steps import states

__all__ = ["node"]

pytestmark = pytest.mark.kernel

ROUNDS = {Variant.LEGACY: 100, Variant.NFT: 25}
"""A round of the nft variant takes longer, and each of its commits is the kernel's own."""

LONGEST_LIFE = {Variant.LEGACY: 0.03, Variant.NFT: 0.2}
"""Seconds. Long enough for some dozen steps."""


def sync_for_ever(variant: Variant, family: IPFamily, rulesets: Sequence[RuleSet]) -> NoReturn:
    """Be kproxy on a busy node, in a process group of its own."""
    try:
        os.setpgid(0, 0)
        applier = open_applier(family, variant)
        applier.reconcile(rulesets[0])
        for before, after in itertools.pairwise(itertools.cycle(rulesets)):
            applier.apply(diff(before, after))
    finally:
        os._exit(1)


def live_and_die(variant: Variant, family: IPFamily, rulesets: Sequence[RuleSet], life: float) -> None:
    pid = os.fork()
    if pid == 0:
        sync_for_ever(variant, family, rulesets)
    time.sleep(life)  # not waiting for anything: the instant of death is what is tested
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # iptables-nft-restore, which may outlive it
    assert os.WTERMSIG(status) == signal.SIGKILL  # it had not ended by itself, with an error


def test_killed_a_hundred_times(node: Node) -> None:
    rulesets = [
        sample(node.family, {number: [number, number + 1] for number in range(1, 30)} | {30: []}),
        sample(node.family, {number: [number, number + 2] for number in range(1, 28)} | {28: [], 30: [3], 31: [3]}),
    ]
    allowed = [node.rendered(state) for pair in (rulesets, rulesets[::-1]) for state in states(*pair)]
    assert len(allowed) == 8  # three commits each way, as one service is refused now and another one no more
    node.applier.reconcile(rulesets[0])
    chance = random.Random(4)  # noqa: S311 - no secret
    seen: set[int] = set()
    rounds, longest = ROUNDS[node.variant], LONGEST_LIFE[node.variant]
    while rounds or len(seen) == 1:
        if not rounds:  # on a machine that does other things, none has lived long enough to change anything
            rounds, longest = ROUNDS[node.variant], 2 * longest
            assert longest < 10
        live_and_die(node.variant, node.family, rulesets, chance.uniform(0, longest))
        listing = node.saved()
        assert listing in allowed
        seen.add(allowed.index(listing))
        rounds -= 1
    with contextlib.closing(open_applier(node.family, node.variant)) as successor:
        successor.reconcile(rulesets[0])
        assert node.saved() == node.rendered(rulesets[0])
