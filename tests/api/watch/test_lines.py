"""Cutting the stream of a watch into lines."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kproxy.api.watch import lines as lines_module
from kproxy.api.watch.lines import split_lines


@settings(deadline=None)  # other tests may be running
@given(st.lists(st.binary(min_size=1).filter(lambda line: b"\n" not in line)), st.lists(st.integers(0, 200)))
def test_lines_are_the_same_however_they_are_cut(lines: list[bytes], cuts: list[int]) -> None:
    data = b"".join(line + b"\n" for line in lines)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[start:end] for start, end in pairwise(places)]
    cut = list(split_lines(chunks))
    assert [line for completed in cut for line in completed] == lines
    assert len(cut) == len(chunks)


def test_rest_without_an_end_is_an_error() -> None:
    lines = split_lines([b"a\nb", b"c"])
    assert [next(lines), next(lines)] == [[b"a"], []]
    with pytest.raises(ValueError, match="ended in the middle of an event"):
        next(lines)


def test_line_without_measure_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "MAX_LINE", 1 << 20)
    with pytest.raises(ValueError, match="more than 1 MB"):
        list(split_lines(b"x" * (1 << 16) for _ in range(1_000)))


def test_empty_lines_are_passed_over() -> None:
    assert list(split_lines([b"\n\na\n\n", b"\n"])) == [[b"a"], []]
