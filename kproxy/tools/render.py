"""Objects in, rules out, with no kernel and no API server: what ``kproxy render`` does.

It is also the shortest way to see the whole middle of kproxy at work: tracker, planner and compiler, one after another.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from kproxy.api.kinds import Kind, ObjectKind
from kproxy.api.manifests import Manifest, combine, read_file, read_manifest
from kproxy.api.types import ApiObject, EndpointSlice, Node, ObjectKey, Problem, Service, ServiceCIDR
from kproxy.backends.iptables.compile import compiler as iptables
from kproxy.backends.iptables.compile.lists import Layout
from kproxy.backends.iptables.rules.render import render_ruleset
from kproxy.backends.nftables.compile import compiler as nftables
from kproxy.backends.nftables.rules.render import Renderer
from kproxy.config import Config, ProxyMode
from kproxy.node.facts import node_facts, proxy_settings
from kproxy.plan.model import Plan
from kproxy.plan.planner import Planner
from kproxy.plan.settings import NodeFacts, ProxySettings
from kproxy.state.model import IPFamily
from kproxy.state.tracker import Tracker

Objects = Mapping[ObjectKind, Mapping[ObjectKey, ApiObject]]


def plan_objects(
    objects: Objects, family: IPFamily, settings: ProxySettings, node: NodeFacts
) -> tuple[Plan, tuple[Problem, ...]]:
    """Plan a fixed set of objects in one family; return the plan and what was skipped."""
    tracker = Tracker(family, node.name)
    problems: list[Problem] = []
    for service in objects.get(Kind.SERVICE, {}).values():
        if isinstance(service, Service):
            problems += tracker.update_service(service).problems
    for endpoint_slice in objects.get(Kind.ENDPOINT_SLICE, {}).values():
        if isinstance(endpoint_slice, EndpointSlice):
            problems += tracker.update_slice(endpoint_slice).problems
    planner = Planner(settings, node, tracker)
    planner.update(tracker.pending)
    return planner.plan, tuple(problems)


def find_node(objects: Objects, name: str) -> Node | None:
    """Return the Node called ``name`` among ``objects``."""
    node = objects.get(Kind.NODE, {}).get(ObjectKey("", name))
    return node if isinstance(node, Node) else None


def render_plan(plan: Plan, layout: Layout | None = None) -> str:
    """Return a plan's rules in mode iptables, as iptables-save text."""
    return render_ruleset(iptables.compile_plan(plan, layout), plan.node.family)


def render_plan_for_nft(plan: Plan) -> str:
    """Return a plan's rules in mode nftables, as ``nft -f`` reads them."""
    return Renderer(plan.node.family).ruleset(nftables.compile_plan(plan))


class RenderRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What ``kproxy render`` is asked for beyond the configuration."""

    files: tuple[str, ...]
    """Paths; ``-`` stands for standard input."""
    families: tuple[IPFamily, ...]
    headings: bool = False
    """Whether a line that names the family goes before its tables."""
    node_ips: tuple[str, ...] = ()
    interface_addresses: tuple[str, ...] | None = None


def render_files(request: RenderRequest, config: Config) -> tuple[str, tuple[Problem, ...]]:
    """Return the rules for the objects in files, and what of the objects was skipped.

    Raises:
        ManifestError: where a file cannot be read.
    """
    manifests = {path: _read(path) for path in request.files}
    name = config.proxy.hostname_override or _only_node(manifests)
    objects, problems = combine(manifests, name)
    settings = proxy_settings(config)
    node = node_facts(
        name,
        find_node(objects, name),
        node_ips=request.node_ips,
        interface_addresses=request.interface_addresses,
        service_cidrs=[obj for obj in objects[Kind.SERVICE_CIDR].values() if isinstance(obj, ServiceCIDR)],
        tcp_be_liberal=config.proxy.conntrack.tcp_be_liberal,
    )
    layout = None if config.kproxy.layout == "auto" else Layout(config.kproxy.layout)
    parts = []
    for family in request.families:
        plan, skipped = plan_objects(objects, family, settings, node)
        problems += skipped
        if request.headings:
            parts.append(f"# {family}\n")
        # Mode auto would depend on the machine at hand; what it is here is said by the default, iptables.
        in_nft = config.mode is ProxyMode.NFTABLES
        parts.append(render_plan_for_nft(plan) if in_nft else render_plan(plan, layout))
    return "".join(parts), tuple(sorted(set(problems)))


def _read(path: str) -> Manifest:
    return read_manifest(sys.stdin.buffer.read(), "<stdin>") if path == "-" else read_file(Path(path))


def _only_node(manifests: Mapping[str, Manifest]) -> str:
    """Return the name of the node to render for where none is given: the one there is, if there is one only.

    The name of the machine at hand would make the output depend on where it is made.
    """
    names = {obj.metadata.name for manifest in manifests.values() for obj in manifest.objects if isinstance(obj, Node)}
    return names.pop() if len(names) == 1 else ""
