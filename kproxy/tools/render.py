"""Objects in, rules out, with no kernel and no API server: what ``kproxy render`` does.

With `objects` it shows the whole middle of kproxy at work: tracker, planner and compiler, one after another.
"""

import msgspec

from kproxy.api.types import Problem
from kproxy.backends.iptables.compile import compiler as iptables
from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.rules.render import render_ruleset
from kproxy.backends.nftables.compile import compiler as nftables
from kproxy.backends.nftables.rules.render import Renderer
from kproxy.config import Config, ProxyMode
from kproxy.plan.model import Plan
from kproxy.state.model import IPFamily
from kproxy.tools.objects import Objects, Sources, find_node, load, plan_objects, views

__all__ = [
    "Objects",
    "RenderRequest",
    "find_node",
    "plan_objects",
    "render_files",
    "render_plan",
    "render_plan_for_nft",
]


def render_plan(plan: Plan, layout: Layout | None = None) -> str:
    """Return a plan's rules in mode iptables, as iptables-save text."""
    return render_ruleset(iptables.compile_plan(plan, layout), plan.node.family)


def render_plan_for_nft(plan: Plan) -> str:
    """Return a plan's rules in mode nftables, as ``nft -f`` reads them."""
    return Renderer(plan.node.family).ruleset(nftables.compile_plan(plan))


class RenderRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What ``kproxy render`` is asked for beyond the configuration."""

    sources: Sources
    families: tuple[IPFamily, ...]
    headings: bool = False
    """Whether a line that names the family goes before its tables."""


def render_files(request: RenderRequest, config: Config) -> tuple[str, tuple[Problem, ...]]:
    """Return the rules for the objects in files, and what of the objects was skipped.

    Raises:
        ManifestError: where a file cannot be read.
    """
    # Mode auto would depend on the machine at hand; what it is here is said by the default, iptables.
    in_nft = config.mode is ProxyMode.NFTABLES
    found, problems = views(load(request.sources, config), "nftables" if in_nft else "iptables", request.families)
    layout = None if config.kproxy.layout == "auto" else Layout(config.kproxy.layout)
    parts = []
    for view in found:
        if request.headings:
            parts.append(f"# {view.family}\n")
        parts.append(render_plan_for_nft(view.plan) if in_nft else render_plan(view.plan, layout))
    return "".join(parts), problems
