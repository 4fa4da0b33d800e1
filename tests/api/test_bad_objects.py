"""Bad objects, through each of the three ways in: nothing is raised, nothing is injected, nothing else suffers.

One part of an object after the other is replaced by something evil. Then the part must be named in a problem (if it can
be told to be bad at all), the rest of the object must stay in force, and the rules of all others must be the same line
by line.
"""

import copy
import functools
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kproxy import cli
from kproxy.api.decode import decode_event, decode_page
from kproxy.api.kinds import Kind, ObjectKind
from kproxy.api.manifests import ManifestError, combine, read_manifest
from kproxy.api.types import ApiObject, ObjectKey, Problem
from kproxy.api.wire import Added
from kproxy.config import parse_config
from kproxy.node.facts import node_facts, proxy_settings
from kproxy.state.model import IPFamily
from kproxy.tools.render import plan_objects, render_plan
from tests.kit.semantics import examples

Raw: TypeAlias = dict[str, Any]
Way: TypeAlias = tuple[str | int, ...]

SETTINGS = proxy_settings(
    parse_config(
        "{apiVersion: kubeproxy.config.k8s.io/v1alpha1, kind: KubeProxyConfiguration, clusterCIDR: 10.244.0.0/16}"
    )
)
NODE = node_facts("node-a", None, node_ips=["10.0.0.1", "fd00:a::1"])

SERVICE: Raw = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {
        "name": "web",
        "namespace": "shop",
        "uid": "4d3c",
        "resourceVersion": "7",
        "labels": {"app": "web", "service.kubernetes.io/headless": ""},
        "annotations": {"note": "hello"},
    },
    "spec": {
        "type": "LoadBalancer",
        "clusterIP": "10.96.0.10",
        "clusterIPs": ["10.96.0.10", "fd00:10:96::10"],
        "ports": [
            {"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080},
            {"name": "admin", "port": 9000, "protocol": "TCP", "nodePort": 30090},
        ],
        "externalIPs": ["198.51.100.1", "198.51.100.2"],
        "loadBalancerSourceRanges": ["192.0.2.0/24", "10.0.0.0/8"],
        "internalTrafficPolicy": "Cluster",
        "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 32000,
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
    },
    "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1", "ipMode": "VIP"}, {"ip": "203.0.113.2"}]}},
}
SLICE: Raw = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "endpoints": [
        {
            "addresses": ["10.244.0.11"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "node-a",
            "hints": {"forZones": [{"name": "zone-a"}], "forNodes": [{"name": "node-a"}]},
        },
        {"addresses": ["10.244.0.12"], "nodeName": "node-a"},
    ],
    "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "admin", "port": 9090, "protocol": "TCP"}],
}
OTHER: Raw = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "other", "namespace": "shop"},
    "spec": {"type": "NodePort", "clusterIP": "10.96.0.99", "ports": [{"port": 443, "nodePort": 30443}]},
}
OTHER_SLICE: Raw = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "other-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "other"}},
    "addressType": "IPv4",
    "endpoints": [{"addresses": ["10.244.0.99"], "nodeName": "node-a"}],
    "ports": [{"name": "", "port": 8443}],
}

EVIL_TEXTS = [
    "",
    " ",
    "a b",
    "UPPER",
    "x\n-A KUBE-SERVICES -j ACCEPT",
    "x\r\nCOMMIT\n*nat\n",
    'x" -j ACCEPT -m comment --comment "',
    "x' -j DROP",
    "x\\",
    "-j",
    "--to-destination",
    "x;reboot",
    "$(reboot)",
    "\0",
    "\x1b[2J\x1b]0;owned\x07",
    "\u202e\u2028\u2029\x85",
    "é",
    "\ud800",
    "1.2.3.4\n",
    "1.2.3.4 -j ACCEPT",
    "1.2.3.4/32/8",
    "0.0.0.0",
    "::",
    "::1",
    "127.0.0.1",
    "fe80::1%eth0",
    "ff02::1",
    "224.0.0.1",
    "169.254.169.254",
    "999.999.999.999",
    "0" * 10_000 + "10.0.0.1",
    "x" * 100_000,
    "None",
    "Local\n",
]
EVIL_NUMBERS = [-1, 0, 65_536, 2**31, 2**63, 2**64, -(2**63), 10**400, 1.5, 1e308]
EVIL_VALUES: list[Any] = [*EVIL_TEXTS, *EVIL_NUMBERS, None, True, [], {}, [None], {"x": "\n"}, [[[[]]]]]

evil = st.sampled_from(EVIL_VALUES) | st.text(max_size=20) | st.integers()


def ways(value: object, so_far: Way = ()) -> Iterator[Way]:
    if so_far:
        yield so_far
    pairs: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from ways(inner, (*so_far, key))


PARTS = [(whole, way) for whole in (SERVICE, SLICE) for way in ways(whole) if way[0] not in ("apiVersion", "kind")]


def replaced(whole: Raw, way: Way, value: object) -> Raw:
    result = copy.deepcopy(whole)
    parent: Any = result
    for step in way[:-1]:
        parent = parent[step]
    parent[way[-1]] = value
    return result


# --- the three ways in ---------------------------------------------------------------------------------------------


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

# --- what must hold of the rules' text -----------------------------------------------------------------------------

_OPTION = {
    "-s": r"[0-9a-f.:]+/\d+",
    "-d": r"[0-9a-f.:]+/\d+",
    "-p": r"tcp|udp|sctp",
    "-m": r"comment|tcp|udp|sctp|conntrack|addrtype|mark|statistic|recent",
    "--comment": r"[A-Za-z0-9 ./:;>\[\]-]{1,255}",
    "--dport": r"\d+(:\d+)?",
    "--ctstate": r"[A-Z,]+",
    "--dst-type": "LOCAL",
    "--src-type": "LOCAL",
    "--mark": r"0x[0-9a-f]+/0x[0-9a-f]+",
    "--set-xmark": r"0x[0-9a-f]+/0x[0-9a-f]+",
    "--mode": "random",
    "--probability": r"0\.\d+",
    "--name": r"KUBE-SEP-[A-Z2-7]{16}",
    "--seconds": r"\d+",
    "--mask": r"[0-9a-f.:]+",
    "--reject-with": r"icmp6?-port-unreachable",
    "--to-destination": r"[0-9a-f.:\[\]]+:\d+",
    "-j": r"ACCEPT|DROP|RETURN|REJECT|MARK|MASQUERADE|DNAT|KUBE-[A-Z0-9-]+",
}
_BARE = {"--random-fully", "--reap", "--rcheck", "--set", "--rsource"}
_FRAME = re.compile(r"\*(nat|filter)|COMMIT|:[A-Z0-9-]{1,28} (ACCEPT|-) \[0:0\]")


@functools.cache
def is_sound(line: str) -> bool:
    """Tell whether a line is one that kproxy means to write, whole, with no option it does not know."""
    if not line.startswith("-A "):
        return _FRAME.fullmatch(line) is not None
    words = iter(shlex.split(line)[2:])
    return all(
        word == "!" or word in _BARE or re.fullmatch(_OPTION.get(word, ""), next(words, "")) is not None
        for word in words
    )


def assert_sound(text: str) -> None:
    assert text.isascii()
    assert [line for line in text.splitlines() if not is_sound(line)] == []
    assert [line for line in text.splitlines() if line[0] in "*C"] == ["*filter", "COMMIT", "*nat", "COMMIT"]


def lines_about(text: str, what: str) -> list[str]:
    """Return the rules that tell by their comment what they are about."""
    return [line for line in text.splitlines() if re.search(rf"{what}\b", line)]


def must_be_told(way: Way, value: object) -> bool:
    """Tell whether a value is bad for certain where it is put."""
    place = tuple("*" if isinstance(step, int) else step for step in way)
    numbers = {("spec", "ports", "*", "port"), ("spec", "ports", "*", "nodePort"), ("ports", "*", "port")}
    texts = {
        ("metadata", "name"),
        ("spec", "ports", "*", "protocol"),
        ("spec", "clusterIPs", "*"),
        ("spec", "externalIPs", "*"),
        ("spec", "loadBalancerSourceRanges", "*"),
        ("spec", "type"),
        ("spec", "internalTrafficPolicy"),
        ("spec", "externalTrafficPolicy"),
        ("spec", "sessionAffinity"),
        ("status", "loadBalancer", "ingress", "*", "ipMode"),
        ("endpoints", "*", "addresses", "*"),
        ("ports", "*", "protocol"),
        ("addressType",),
    }
    if place in numbers:
        return value in EVIL_NUMBERS and value != 0 and value is not True
    return (
        place in texts
        and isinstance(value, str)
        and bool(re.search(r"[\s\"'$;]", value))
        and place != ("metadata", "name")
    )


@pytest.mark.parametrize("way_in", WAYS_IN)
@examples(80)
@given(part=st.sampled_from(PARTS), value=evil)
def test_one_evil_part(way_in: Any, part: tuple[Raw, Way], value: object) -> None:
    whole, way = part
    bad = replaced(whole, way, value)
    rest = [one for one in (SERVICE, SLICE) if one is not whole]
    refusal = None
    try:
        result = way_in(OTHER, bad, *rest, OTHER_SLICE)
    except ManifestError as error:
        refusal = error
    if refusal is not None:
        # A file is taken whole or not at all: what YAML or JSON cannot even read has one line to itself.
        assert str(refusal).isprintable()
        return
    assert_sound(result.text)
    assert_sound(result.text6)
    assert all(str(problem).isprintable() for problem in result.problems)
    assert all(len(str(problem)) < 1100 for problem in result.problems)
    assert lines_about(result.text, "shop/other") == lines_about(GOOD.text, "shop/other")
    if must_be_told(way, value):
        told = ".".join(str(step) for step in way if isinstance(step, str))
        assert any(told.startswith(re.sub(r"\[\d+\]", "", problem.field)[:10]) for problem in result.problems)


@pytest.mark.parametrize("value", EVIL_VALUES, ids=lambda value: ascii(value)[:30])
def test_the_other_port_of_the_same_service_stays_in_force(value: object) -> None:
    for key in ("name", "port", "protocol", "nodePort"):
        result = through_the_api(replaced(SERVICE, ("spec", "ports", 0, key), value), SLICE, OTHER, OTHER_SLICE)
        if (key, value) != ("name", "admin"):
            assert lines_about(result.text, "shop/web:admin") == lines_about(GOOD.text, "shop/web:admin")


@pytest.mark.parametrize("value", EVIL_VALUES, ids=lambda value: ascii(value)[:30])
def test_the_other_endpoint_of_the_same_slice_stays_in_force(value: object) -> None:
    for way in (("endpoints", 0, "addresses", 0), ("endpoints", 0, "addresses"), ("endpoints", 0)):
        result = through_the_api(SERVICE, replaced(SLICE, way, value), OTHER, OTHER_SLICE)
        assert "-j DNAT --to-destination 10.244.0.12:8080" in result.text


@pytest.mark.parametrize("value", EVIL_VALUES, ids=lambda value: ascii(value)[:30])
def test_the_other_external_ip_stays_in_force(value: object) -> None:
    result = through_the_api(replaced(SERVICE, ("spec", "externalIPs", 0), value), SLICE)
    assert "-d 198.51.100.2/32" in result.text


def test_labels_and_annotations_may_be_anything() -> None:
    bad = copy.deepcopy(SERVICE)
    bad["metadata"]["annotations"] = {"a": "x" * 2_000_000, "b": 7, "c": None, "d": {"e": []}, "\n": "\0"}
    bad["metadata"]["labels"] = {"app": 7, "\x1b": ["x"], "": None}
    for way_in in WAYS_IN:
        result = way_in(bad, SLICE, OTHER, OTHER_SLICE)
        assert (result.text, result.text6) == (GOOD.text, GOOD.text6)
        assert result.problems == ()


def test_every_port_may_be_bad() -> None:
    ports = [{"name": text, "port": 1000 + index} for index, text in enumerate(EVIL_TEXTS)]
    ports += [{"name": f"p{index}", "port": 80, "protocol": text} for index, text in enumerate(EVIL_TEXTS)]
    ports += [{"name": f"n{index}", "port": number} for index, number in enumerate(EVIL_NUMBERS)]
    good = {"name": "good", "port": 443}
    result = through_the_api(replaced(SERVICE, ("spec", "ports"), [*ports, good]), SLICE)
    assert_sound(result.text)
    named = {re.sub(r"\].*", "", problem.field).removeprefix("spec.ports[") for problem in result.problems}
    # One has no name, and one protocol isn't given: those two are in order.
    assert len(named) == len(ports) - 2
    assert lines_about(result.text, "shop/web:good")


def test_an_object_that_is_no_object() -> None:
    data = json.dumps({"metadata": {}, "items": [OTHER, 7, None, "x", [], {}, {"metadata": {"name": 5}}, SERVICE]})
    page = decode_page(Kind.SERVICE, data.encode())
    assert [obj.metadata.name for obj in page.objects] == ["other", "web"]
    assert len(page.problems) == 6
    assert all(str(problem).isprintable() for problem in page.problems)


@pytest.mark.parametrize("text", EVIL_TEXTS, ids=lambda value: ascii(value)[:30])
def test_render_survives_evil_names(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = [
        replaced(SERVICE, way, text) for way in (("metadata", "name"), ("metadata", "namespace"), ("spec", "clusterIP"))
    ]
    for index, raw in enumerate([OTHER, OTHER_SLICE, SLICE, *bad]):
        (tmp_path / f"{index}.json").write_text(json.dumps(raw))
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    code = cli.main(["render", "--hostname-override", "node-a", "-f", *files])
    out, err = capsys.readouterr()
    if text == "\ud800":  # not even JSON, so the whole file is refused
        assert (code, out, err.count("\n")) == (2, "", 1)
    else:
        assert code == 0
        assert_sound(out)
        assert lines_about(out, "shop/other")
    assert all(line.startswith("kproxy: ") and line.isprintable() for line in err.splitlines())
