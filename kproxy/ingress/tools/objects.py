"""Objects in files, planned: what all tools begin with."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from kproxy.api.manifests import Manifest, combine, read_file, read_manifest
from kproxy.api.types import Problem
from kproxy.ingress.api.kinds import IngressKind
from kproxy.ingress.config.settings import Settings
from kproxy.ingress.plan.planner import HttpPlanner, Planned


class Loaded(NamedTuple):
    """What files say, planned, and what of it was left out."""

    planned: Planned
    planner: HttpPlanner
    problems: tuple[Problem, ...]


def load(files: Sequence[str], settings: Settings) -> Loaded:
    """Read and plan files, as from a folder of manifests. Raises ManifestError where one cannot be read."""
    found = combine({path: _read(path) for path in files}, None, IngressKind)
    offline = msgspec.structs.replace(settings.plan, in_cluster=False, without_class=True, gateways_without_class=True)
    planner = HttpPlanner(offline)
    for kind, objects in found.objects.items():
        planner.replace(kind, objects)
    planned = planner.refresh()
    return Loaded(planned, planner, tuple(dict.fromkeys((*found.problems, *planned.problems))))


def _read(path: str) -> Manifest:
    if path == "-":
        return read_manifest(sys.stdin.buffer.read(), "<stdin>", IngressKind)
    return read_file(Path(path), kinds=IngressKind)
