"""Any text in any place of any object, read in either way: the configuration has the sections that were planned.

The objects go the whole way, from JSON as the API server sends it and from YAML as people write it, through the plan to
the files of HAProxy. A value that makes no sense drops a part of one object at most, and nothing raises.
"""

import copy
import json
import random
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from kproxy.api.decode import decode_object
from kproxy.api.manifests import combine, read_manifest
from kproxy.api.types import ObjectKey
from kproxy.ingress.api.kinds import IngressKind
from kproxy.ingress.haproxy.engine import render
from kproxy.ingress.haproxy.settings import EngineSettings
from kproxy.ingress.plan.planner import HttpPlanner
from kproxy.ingress.plan.settings import PlanSettings
from kproxy.ingress.status.doors import DoorSettings, doors, superfluous
from kproxy.ingress.status.reports import Applied, patches
from tests.ingress.kit import secret
from tests.kit.examples import scaled
from tests.kit.netns import need
from tests.kit.yaml_text import all_from_yaml, from_yaml

OBJECTS: list[dict[str, Any]] = [
    *all_from_yaml(Path(__file__).with_name("hostile_objects.yaml").read_text()),
    from_yaml(secret("tls")),
]
SPECIAL = tuple("\n\r\t\0\x1b'\"\\$%#{}[]()<>|&;,:=!*?^~`@+-/._\x7fä\u2028")
TEXTS = (
    *SPECIAL,
    "",
    " ",
    "a b",
    "-f /etc/passwd",
    "if TRUE",
    '" if TRUE "',
    "${HOME}",
    "%[env(HOME)]",
    "\\n",
    "\nglobal\n",
    "x\nbackend stolen\n  server s 192.0.2.66:80\n",
    "\r\nfrontend stolen\r\n  bind :81\r\n",
    "# b1",
    "<<\n@1 0",
    "a; show env",
    "str(a),lua.x",
    "/a//b/../c",
    "*.*.example.com",
    "::1",
    "(a+)+",
    "[[:alpha:]]",
    "\\1(?<n>a)",
    "a" * 5000,
    "b1",
    "e404",
    "null",
    "-1",
)
SECTION = re.compile(r"global|defaults|frontend f\d+-[0-9a-f]{6}|backend (?:e404|e500|latency|b\d+)")
Place = tuple[Any, ...]


def places(value: Any, above: Place = ()) -> Iterator[Place]:
    """Yield the way to everything that is written in an object: values, and the names of fields and labels."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield (*above, ("name", name))
            yield from places(below, (*above, name))
    elif isinstance(value, list):
        for number, below in enumerate(value):
            yield from places(below, (*above, number))
    else:
        yield above


def changed(obj: dict[str, Any], place: Place, text: str) -> dict[str, Any]:
    made = copy.deepcopy(obj)
    at: Any = made
    for step in place[:-1]:
        at = at[step]
    if isinstance(place[-1], tuple):
        at[text] = at.pop(place[-1][1])
    else:
        at[place[-1]] = text
    return made


def from_server(objects: list[dict[str, Any]], settings: PlanSettings) -> HttpPlanner:
    made = HttpPlanner(settings)
    for raw in objects:
        kind = next((kind for kind in IngressKind if kind.value == raw.get("kind")), None)
        decoded = decode_object(kind, msgspec.json.encode(raw)).object if kind is not None else None
        if kind is not None and decoded is not None:
            made.update(kind, decoded)
    return made


def from_manifests(objects: list[dict[str, Any]], settings: PlanSettings) -> HttpPlanner:
    made = HttpPlanner(settings)
    with_kinds = [raw for raw in objects if isinstance(raw.get("kind"), str) and raw["kind"]]
    text = yaml.dump_all(with_kinds, Dumper=yaml.CSafeDumper, allow_unicode=False)  # ten times as fast as Python's own
    manifest = read_manifest(text.encode(), "test.yaml", IngressKind)
    for kind, found in combine({"test.yaml": manifest}, None, IngressKind).objects.items():
        made.replace(kind, found)
    return made


def sections(files: Mapping[str, str]) -> list[str]:
    return [line for line in files["haproxy.cfg"].splitlines() if line and not line.startswith("    ")]


def check(made: HttpPlanner, settings: PlanSettings) -> dict[str, str]:
    """Plan, render and report; nothing of it raises, and nothing but what was planned is written."""
    planned = made.refresh()
    files = render(planned.plan)
    for name, text in files.items():
        assert re.fullmatch(r"[\n -~]*", text), name
        if name.startswith("maps/"):
            assert all(line.count(" ") <= 1 and not line.startswith("#") for line in text.splitlines()), name
    found = sections(files)
    assert all(map(SECTION.fullmatch, found)), found
    assert len(set(found)) == len(found)
    assert len([line for line in found if line.startswith("frontend")]) == len(planned.plan.frontends)
    list(patches(made.world, planned, settings, Applied(ingress_addresses=("192.0.2.1",)), "2026-01-01T00:00:00Z"))
    list(superfluous(made.world, planned))
    if settings.in_cluster:
        for door in doors(made.world, planned, DoorSettings(engine=ObjectKey("default", "web"))):
            assert re.fullmatch(r"[-A-Za-z0-9/.]+", door.path)
    return files


CASES = [(number, place) for number, obj in enumerate(OBJECTS) for place in places(obj)]


@pytest.mark.parametrize("in_cluster", [True, False], ids=["behind Services", "at its own ports"])
@pytest.mark.parametrize("read", [from_server, from_manifests])
@pytest.mark.parametrize("kind", sorted({obj["kind"] for obj in OBJECTS}))
def test_no_text_anywhere_becomes_configuration(kind: str, read: Any, in_cluster: bool) -> None:
    settings = PlanSettings(in_cluster=in_cluster, without_class=True, gateways_without_class=True)
    chance = random.Random(f"{kind}{read.__name__}{in_cluster}")  # noqa: S311
    mine = [case for case in CASES if OBJECTS[case[0]]["kind"] == kind]
    for number, place in chance.sample(mine, min(len(mine), scaled(10))):
        hostile = changed(OBJECTS[number], place, chance.choice(TEXTS))
        check(read([*OBJECTS[:number], hostile, *OBJECTS[number + 1 :]], settings), settings)


@pytest.mark.kernel
@pytest.mark.parametrize("seed", range(4))
def test_haproxy_reads_what_was_planned(seed: int, tmp_path: Path) -> None:
    """Many objects at once, each with one hostile text in it; all hold hosts and names of their own."""
    need("haproxy")
    chance = random.Random(seed)  # noqa: S311
    objects = list(OBJECTS)
    for copied in range(120):
        number, place = chance.choice(CASES)
        if OBJECTS[number]["kind"] in ("Ingress", "Gateway", "HTTPRoute"):
            own = json.dumps(OBJECTS[number]).replace("example.com", f"c{copied}.example.com")
            hostile = changed(json.loads(own), place, chance.choice(TEXTS))
            if isinstance(hostile.get("metadata"), dict) and place[:1] != ("metadata",):
                hostile["metadata"]["name"] = f"copy-{copied}"
            objects.append(hostile)
    settings = PlanSettings(in_cluster=True, without_class=True)
    made = from_server(objects, settings)
    check(made, settings)
    assert len(made.refresh().plan.rules) > 100  # most of an object holds, whatever one of its texts is
    for path, text in render(made.refresh().plan, EngineSettings(state_dir=str(tmp_path))).items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    command = ["haproxy", "-c", "-f", str(tmp_path / "haproxy.cfg")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
