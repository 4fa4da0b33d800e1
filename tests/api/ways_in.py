"""The ways objects come in by, API server, watch and files, each through to the rules that come of them."""

import json
from collections.abc import Mapping
from typing import NamedTuple

import yaml

from kproxy.api.decode import decode_event, decode_page
from kproxy.api.kinds import Kind, ObjectKind
from kproxy.api.manifests import combine, read_manifest
from kproxy.api.types import ApiObject, ObjectKey, Problem
from kproxy.api.wire import Added
from kproxy.config import parse_config
from kproxy.node.facts import node_facts, proxy_settings
from kproxy.state.model import IPFamily
from kproxy.tools.render import plan_objects, render_plan
from tests.api.evil import OTHER, OTHER_SLICE, SERVICE, SLICE, Raw

SETTINGS = proxy_settings(
    parse_config(
        "{apiVersion: kubeproxy.config.k8s.io/v1alpha1, kind: KubeProxyConfiguration, clusterCIDR: 10.244.0.0/16}"
    )
)
NODE = node_facts("node-a", None, node_ips=["10.0.0.1", "fd00:a::1"])


class Result(NamedTuple):
    """What came out: IPv4 rules, IPv6 rules, and problems."""

    text: str
    text6: str
    problems: tuple[Problem, ...]


def carried_out(objects: Mapping[ObjectKind, Mapping[ObjectKey, ApiObject]], problems: tuple[Problem, ...]) -> Result:
    texts = []
    for family in IPFamily:
        plan, skipped = plan_objects(objects, family, SETTINGS, NODE)
        texts.append(render_plan(plan))
        problems += skipped
    return Result(texts[0], texts[1], tuple(dict.fromkeys(problems)))


def through_the_api(*raws: Raw) -> Result:
    objects: dict[ObjectKind, dict[ObjectKey, ApiObject]] = {}
    problems: tuple[Problem, ...] = ()
    for kind in (Kind.SERVICE, Kind.ENDPOINT_SLICE):
        items = [raw for raw in raws if raw["kind"] == kind]
        page = decode_page(kind, json.dumps({"metadata": {}, "items": items}).encode())
        objects[kind] = {obj.metadata.key: obj for obj in page.objects}
        problems += page.problems
    return carried_out(objects, problems)


def through_a_watch(*raws: Raw) -> Result:
    objects: dict[ObjectKind, dict[ObjectKey, ApiObject]] = {Kind.SERVICE: {}, Kind.ENDPOINT_SLICE: {}}
    problems: tuple[Problem, ...] = ()
    for raw in raws:
        kind = Kind.SERVICE if raw["kind"] == "Service" else Kind.ENDPOINT_SLICE
        event, said = decode_event(kind, json.dumps({"type": "ADDED", "object": raw}).encode())
        problems += said
        if isinstance(event, Added):
            objects[kind][event.object.metadata.key] = event.object
    return carried_out(objects, problems)


def through_json_files(*raws: Raw) -> Result:
    manifests = {f"{index}.json": read_manifest(json.dumps(raw).encode(), "x.json") for index, raw in enumerate(raws)}
    combined = combine(manifests, "node-a")
    return carried_out(combined.objects, combined.problems)


def as_yaml(raw: Raw) -> bytes:
    try:
        return yaml.dump(raw, Dumper=yaml.CSafeDumper, allow_unicode=False, encoding="utf-8")
    except UnicodeEncodeError:  # half a character: libyaml, which is ten times as fast, will not have it
        return yaml.safe_dump(raw, allow_unicode=False).encode("utf-8", "surrogatepass")


def through_yaml_files(*raws: Raw) -> Result:
    manifests = {}
    for index, raw in enumerate(raws):
        manifests[f"{index}.yaml"] = read_manifest(as_yaml(raw), f"{index}.yaml")
    combined = combine(manifests, "node-a")
    return carried_out(combined.objects, combined.problems)


WAYS_IN = [through_the_api, through_a_watch, through_json_files, through_yaml_files]
GOOD = through_the_api(SERVICE, SLICE, OTHER, OTHER_SLICE)
