"""Decoding survives anything: whatever one field holds, nothing is raised and all else comes through unchanged."""

import copy
import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from kproxy.api import tolerant
from kproxy.api.decode import convert_object, decode_event, decode_object, decode_page
from kproxy.api.kinds import Kind
from kproxy.api.wire import Added

Path: TypeAlias = tuple[str | int, ...]

SERVICE: dict[str, Any] = {
    "metadata": {
        "name": "web",
        "namespace": "shop",
        "uid": "u",
        "resourceVersion": "4",
        "labels": {"service.kubernetes.io/service-proxy-name": "p", "service.kubernetes.io/headless": "", "app": "x"},
        "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"},
    },
    "spec": {
        "type": "LoadBalancer",
        "clusterIP": "10.0.0.1",
        "clusterIPs": ["10.0.0.1", "fd00::1"],
        "ports": [
            {"name": "a", "port": 80, "protocol": "TCP", "nodePort": 30080},
            {"name": "b", "port": 53, "protocol": "UDP"},
        ],
        "externalIPs": ["192.0.2.1", "192.0.2.2"],
        "loadBalancerSourceRanges": ["0.0.0.0/0"],
        "internalTrafficPolicy": "Local",
        "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 30081,
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
    },
    "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.3", "ipMode": "VIP"}, {"hostname": "x"}]}},
}
SLICE: dict[str, Any] = {
    "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "endpoints": [
        {
            "addresses": ["10.1.0.1"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "n1",
            "hints": {"forZones": [{"name": "z1"}, {"name": "z2"}], "forNodes": [{"name": "n1"}]},
        },
        {"addresses": ["10.1.0.2"], "conditions": {"ready": False}},
    ],
    "ports": [{"name": "a", "port": 8080, "protocol": "TCP"}, {"name": "b", "port": 53, "protocol": "UDP"}],
}
NODE: dict[str, Any] = {
    "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z1"}},
    "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"], "taints": [{"key": "k", "effect": "NoSchedule"}]},
    "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
}
EXAMPLES = [(Kind.SERVICE, SERVICE), (Kind.ENDPOINT_SLICE, SLICE), (Kind.NODE, NODE)]

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud800") | st.just(10**30)
keys = st.text() | st.sampled_from(["name", "port", "ports", "ip", "addresses", "metadata", "spec"])
any_json = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=12)


def paths(value: object, prefix: Path = ()) -> Iterator[Path]:
    yield prefix
    pairs: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from paths(inner, (*prefix, key))


CASES = [(kind, example, path) for kind, example in EXAMPLES for path in paths(example) if path]


def replaced(example: dict[str, Any], path: Path, value: object) -> dict[str, Any]:
    result = copy.deepcopy(example)
    parent: Any = result
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = value
    return result


def assert_equal_but_at(path: Sequence[str | int], before: Any, after: Any) -> None:
    """Check that nothing differs between two decoded values but what lies at ``path``, which may be gone."""
    if not path:
        return
    step, rest = path[0], path[1:]
    if isinstance(step, str):
        others = (before.keys() | after.keys()) - {step}
        assert {key: before.get(key) for key in others} == {key: after.get(key) for key in others}
        if step in before and step in after:
            assert_equal_but_at(rest, before[step], after[step])
    elif len(after) == len(before):
        assert before[:step] + before[step + 1 :] == after[:step] + after[step + 1 :]
        assert_equal_but_at(rest, before[step], after[step])
    else:
        assert before[:step] + before[step + 1 :] == after


@settings(deadline=None)  # other tests may be running
@given(st.sampled_from(CASES), any_json)
def test_one_odd_value_touches_nothing_else(case: tuple[Kind, dict[str, Any], Path], value: object) -> None:
    kind, example, path = case
    whole = decode_object(kind, json.dumps(example).encode())
    decoded = decode_object(kind, json.dumps(replaced(example, path, value)).encode())
    assert whole.problems == ()
    if decoded.object is None:
        assert path[0] == "metadata"
        assert decoded.problems
    else:
        assert_equal_but_at(path, msgspec.to_builtins(whole.object), msgspec.to_builtins(decoded.object))
    assert all(str(problem).isprintable() for problem in decoded.problems)


@settings(deadline=None)  # other tests may be running
@given(st.sampled_from(CASES), any_json)
def test_one_odd_object_touches_no_other(case: tuple[Kind, dict[str, Any], Path], value: object) -> None:
    kind, example, path = case
    odd = replaced(example, path, value)
    page = decode_page(kind, json.dumps({"metadata": {}, "items": [example, odd, example]}).encode())
    whole = decode_object(kind, json.dumps(example).encode()).object
    assert page.objects[0] == page.objects[-1] == whole
    middle = decode_object(kind, json.dumps(odd).encode())
    assert page.objects[1:-1] == ((middle.object,) if middle.object else ())
    assert page.problems == middle.problems


@settings(deadline=None)  # other tests may be running
@given(st.sampled_from(CASES), any_json)
def test_every_way_in_gives_the_same(case: tuple[Kind, dict[str, Any], Path], value: object) -> None:
    kind, example, path = case
    odd = replaced(example, path, value)
    decoded = decode_object(kind, json.dumps(odd).encode())
    event = decode_event(kind, json.dumps({"type": "ADDED", "object": odd}).encode())
    assert event == (Added(decoded.object) if decoded.object else None, decoded.problems)
    if "\\ud800" not in json.dumps(odd):
        assert convert_object(kind, odd) == decoded


@settings(deadline=None)  # other tests may be running
@given(st.sampled_from(list(Kind)), any_json)
def test_anything_at_all(kind: Kind, value: object) -> None:
    decoded = decode_object(kind, json.dumps(value).encode())
    assert decoded.object is not None or decoded.problems


@settings(deadline=None)  # other tests may be running
@given(st.sampled_from(CASES), any_json)
def test_the_tolerant_walk_agrees_with_msgspec(case: tuple[Kind, dict[str, Any], Path], value: object) -> None:
    kind, example, path = case
    text = json.dumps(replaced(example, path, value))
    try:
        strict = msgspec.json.decode(text, type=kind.struct)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return
    flaws: list[tolerant.Flaw] = []
    assert tolerant.convert(json.loads(text), kind.struct, flaws) == strict
    assert flaws == []
