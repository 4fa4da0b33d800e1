"""YAML is read in a quick way where that is possible, which says the same as PyYAML's own."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kproxy.api import yamlreader
from kproxy.api.yamlreader import read_documents

TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))
ODD = st.sampled_from(["yes", "1:2:3", "0x1F", "~", "", "2026-01-01", "<<", "ü"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


def read(data: bytes) -> list[tuple[int, object]]:
    return list(read_documents(data))


def read_whole(data: bytes) -> list[tuple[int, object]]:
    """Read it by PyYAML's constructor alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yamlreader, "_built", lambda loader, node: loader.construct_document(node))
        return read(data)


@pytest.mark.parametrize(
    "data",
    [
        b"a: &x {b: 1}\nc: *x\n",
        b"base: &base {a: 1, b: 2}\nmore: {<<: *base, b: 3}\n",
        b"{<<: {a: 1}, b: 2}",
        b"{<<: [{a: 1}, {a: 2}]}",
        b"{1: one, true: yes, ~: none, 0x10: sixteen, 1.5: half}",
        b"a: !!str 1\nb: !!int '2'\nc: !!float 3\nd: !!binary aGVsbG8=\ne: !!null ''\nf: ! 7\n",
        b"a: '1'\nb: \"yes\"\nc: |\n  12\nd: >-\n  off\n",
        b"--- 1\n--- [~, on, Off, 010, 1_000, .5, 1e3, -0b1]\n--- {}\n--- []\n---\n",
        b"a: !!seq [1]\nb: !!map {c: d}\n",
    ],
)
def test_both_ways_agree(data: bytes) -> None:
    found = read(data)
    assert found == read_whole(data)
    assert repr(found) == repr(read_whole(data))  # 1 is equal to True


@given(VALUES)
def test_json_is_yaml_by_either_way(value: object) -> None:
    data = json.dumps(value, ensure_ascii=False).encode()
    found = read(data)
    assert repr(found) == repr(read_whole(data))
    assert found == [(1, value)]


def test_a_node_that_contains_itself_is_read() -> None:
    ((_, found),) = read(b"&a [*a]")
    assert isinstance(found, list)
    assert found[0] is found


def test_one_document_with_an_anchor_leaves_the_next_ones_right() -> None:
    assert read(b"a: &x [1]\nb: *x\n---\n{<<: {c: 1}}\n") == [(1, {"a": [1], "b": [1]}), (4, {"c": 1})]
