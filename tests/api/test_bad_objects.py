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
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kproxy import cli
from kproxy.api.decode import decode_page
from kproxy.api.kinds import Kind
from kproxy.api.manifests import ManifestError
from tests.api.evil import (
    EVIL_NUMBERS,
    EVIL_TEXTS,
    EVIL_VALUES,
    OTHER,
    OTHER_SLICE,
    PARTS,
    SERVICE,
    SLICE,
    Raw,
    Way,
    evil,
    replaced,
)
from tests.api.ways_in import GOOD, WAYS_IN, through_the_api
from tests.kit.semantics import examples

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
