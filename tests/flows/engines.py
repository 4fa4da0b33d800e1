"""The ways of carrying out a Plan that must all pass the table of flows."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import NamedTuple, TypeAlias

from kproxy.backends.iptables.compile.compiler import compile_plan
from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.rules import walk as iptables_walk
from kproxy.backends.nftables.compile.compiler import compile_plan as compile_nftables
from kproxy.backends.nftables.rules import walk as nftables_walk
from kproxy.backends.packet import Branch, Packet, World
from kproxy.plan.model import Plan

Follow: TypeAlias = Callable[[Packet, World], Mapping[Branch, Fraction]]


class Engine(NamedTuple):
    """A backend in one of its layouts."""

    name: str
    mode: str
    """kube-proxy's word for it, which decides where modes differ on purpose."""
    load: Callable[[Plan], Follow]
    """Carries out a plan; returns what follows packets through the result."""

    def __str__(self) -> str:
        return self.name


def _iptables(layout: Layout) -> Callable[[Plan], Follow]:
    def load(plan: Plan) -> Follow:
        ruleset = compile_plan(plan, layout)
        return lambda packet, world: iptables_walk.branches(ruleset, packet, world)

    return load


def _nftables(plan: Plan) -> Follow:
    ruleset = compile_nftables(plan)
    return lambda packet, world: nftables_walk.branches(ruleset, packet, world)


ENGINES = (
    *(Engine(f"iptables-{layout}", "iptables", _iptables(layout)) for layout in Layout),
    Engine("nftables", "nftables", _nftables),
)
