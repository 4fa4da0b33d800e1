"""The layouts that rules are compiled in, among them one that makes small clusters look large."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from kproxy.backends.iptables.compile import draw, tree
from kproxy.backends.iptables.compile.compiler import compile_plan
from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.rules.ruleset import RuleSet
from kproxy.plan.model import Plan


class Build(NamedTuple):
    """A layout, and at how many entries its lists and draws are split."""

    name: str
    layout: Layout
    split_at: int

    def __str__(self) -> str:
        return self.name

    @contextmanager
    def in_force(self) -> Iterator[Layout]:
        """Compile like this within the block."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tree, "LEAF", self.split_at)
            patch.setattr(draw, "GROUP", self.split_at)
            yield self.layout

    def compile(self, plan: Plan) -> RuleSet:
        """Compile a plan from scratch."""
        with self.in_force() as layout:
            return compile_plan(plan, layout)


CLASSIC = Build("classic", Layout.CLASSIC, tree.LEAF)
LARGE = Build("large", Layout.LARGE, tree.LEAF)
SPLIT_EARLY = Build("large, split early", Layout.LARGE, 2)
"""With lists and draws split at two entries, so that small clusters have deep trees."""

BUILDS = (CLASSIC, LARGE, SPLIT_EARLY)
