"""Objects in files, planned: what all tools begin with that need no daemon.

It is also the shortest way to see the first half of kproxy at work: tracker and planner, one after another.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from kproxy.api.folder import SUFFIXES
from kproxy.api.kinds import Kind, ObjectKind
from kproxy.api.manifests import Manifest, ManifestError, combine, read_file, read_manifest
from kproxy.api.types import ApiObject, EndpointSlice, Node, ObjectKey, Problem, Service, ServiceCIDR
from kproxy.config import Config
from kproxy.explain.view import View
from kproxy.node.facts import node_facts, problems_of, proxy_settings
from kproxy.plan.model import Plan
from kproxy.plan.planner import Planner
from kproxy.plan.settings import NodeFacts, ProxySettings
from kproxy.state.model import IPFamily
from kproxy.state.tracker import Tracker

Objects = Mapping[ObjectKind, Mapping[ObjectKey, ApiObject]]


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """Where objects come from, and what is said of the node beside them."""

    files: tuple[str, ...]
    """Paths; ``-`` stands for standard input."""
    node_ips: tuple[str, ...] = ()
    interface_addresses: tuple[str, ...] | None = None


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """Objects from files, and the node they are looked at from."""

    objects: Objects
    settings: ProxySettings
    node: NodeFacts
    problems: tuple[Problem, ...]


def load(sources: Sources, config: Config) -> Loaded:
    """Read files.

    Raises:
        ManifestError: where a file cannot be read.
    """
    manifests = {path: _read(path) for file in sources.files for path in _files(file)}
    name = config.proxy.hostname_override or _only_node(manifests)
    objects, problems = combine(manifests, name)
    _add_unproxied(objects[Kind.SERVICE], manifests.values())
    node = node_facts(
        name,
        find_node(objects, name),
        node_ips=sources.node_ips,
        bind_address=config.proxy.bind_address,
        interface_addresses=sources.interface_addresses,
        service_cidrs=[obj for obj in objects[Kind.SERVICE_CIDR].values() if isinstance(obj, ServiceCIDR)],
        tcp_be_liberal=config.proxy.conntrack.tcp_be_liberal,
    )
    seen = find_node(objects, name)
    problems = (*problems, *(problems_of(seen) if seen else ()))
    return Loaded(objects=objects, settings=proxy_settings(config), node=node, problems=problems)


def as_daemon(loaded: Loaded) -> Loaded:
    """Return the same, planned as the daemon does: its rules count what others' need not."""
    return msgspec.structs.replace(loaded, settings=msgspec.structs.replace(loaded.settings, count_localhost=True))


def plan_objects(
    objects: Objects, family: IPFamily, settings: ProxySettings, node: NodeFacts
) -> tuple[Plan, tuple[Problem, ...]]:
    """Plan a fixed set of objects in one family; return the plan and what was skipped."""
    view, problems = view_objects(objects, family, settings, node)
    return view.plan, problems


def view_objects(
    objects: Objects, family: IPFamily, settings: ProxySettings, node: NodeFacts, mode: str = "iptables"
) -> tuple[View, tuple[Problem, ...]]:
    """Plan a fixed set of objects in one family; return the plan with what it was made of, and what was skipped."""
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
    problems += (loss.problem for loss in planner.losses)
    addresses = frozenset((*node.interface_addresses, *node.ips.values()))
    return View(planner.plan, tracker, node, addresses, planner.losses, mode), tuple(problems)


def views(loaded: Loaded, mode: str, families: Iterable[IPFamily] = IPFamily) -> tuple[list[View], tuple[Problem, ...]]:
    """Plan what was loaded in some families; return the views and all problems, sorted."""
    problems = list(loaded.problems)
    found = []
    for family in families:
        view, skipped = view_objects(loaded.objects, family, loaded.settings, loaded.node, mode)
        found.append(view)
        problems += skipped
    return found, tuple(sorted(set(problems)))


def find_node(objects: Objects, name: str) -> Node | None:
    """Return the Node called ``name`` among ``objects``."""
    node = objects.get(Kind.NODE, {}).get(ObjectKey("", name))
    return node if isinstance(node, Node) else None


def _add_unproxied(services: dict[ObjectKey, ApiObject], manifests: Iterable[Manifest]) -> None:
    """Add the Services that an API server would not have told of, for whoever asks about one; they do nothing else."""
    for manifest in manifests:
        for obj in manifest.objects:
            if isinstance(obj, Service):
                services.setdefault(obj.metadata.key, obj)


def _files(path: str) -> list[str]:
    """Return the files that are meant: of a folder those right in it that look like manifests, as with --manifests.

    Raises ManifestError.
    """
    folder = Path(path)
    if path == "-" or not folder.is_dir():
        return [path]
    try:
        found = sorted(str(file) for file in folder.iterdir() if file.suffix in SUFFIXES and file.name[0] != ".")
    except OSError as error:
        raise ManifestError(path, None, f"cannot be read: {error.strerror}") from None
    if not found:
        raise ManifestError(path, None, f"no manifests in this folder ({', '.join(SUFFIXES)})")
    return found


def _read(path: str) -> Manifest:
    return read_manifest(sys.stdin.buffer.read(), "<stdin>") if path == "-" else read_file(Path(path))


def _only_node(manifests: Mapping[str, Manifest]) -> str:
    """Return the name of the node to look from where none is given: the one there is, if there is one only.

    The name of the machine at hand would make the output depend on where it is made.
    """
    names = {obj.metadata.name for manifest in manifests.values() for obj in manifest.objects if isinstance(obj, Node)}
    return names.pop() if len(names) == 1 else ""
