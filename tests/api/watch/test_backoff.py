"""The small parts of the reflector: cutting lines, waiting, comparing resource versions."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kproxy.api.watch import lines as lines_module
from kproxy.api.watch.backoff import Backoff
from kproxy.api.watch.lines import split_lines
from kproxy.api.watch.versions import is_older


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


def test_backoff_doubles_up_to_its_limit() -> None:
    backoff = Backoff(0.8, 30, rand=lambda: 0.0)
    assert [backoff.next() for _ in range(8)] == [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]
    backoff.reset()
    assert backoff.next() == 0.8


def test_backoff_stays_finite() -> None:
    backoff = Backoff(rand=lambda: 1.0)
    backoff.failures = 10**9
    assert backoff.next() == 60


@pytest.mark.parametrize(("asked", "delay"), [(0.1, 0.8), (5.0, 5.0), (10**6, 120.0)])
def test_backoff_waits_as_long_as_asked_within_reason(asked: float, delay: float) -> None:
    assert Backoff(0.8, rand=lambda: 0.0).next(asked) == delay


@settings(deadline=None)  # other tests may be running
@given(st.floats(0, 1, exclude_max=True), st.floats(0, 100))
def test_backoff_is_spread_but_never_shorter_than_asked(share: float, asked: float) -> None:
    assert asked <= Backoff(rand=lambda: share).next(asked) <= max(1.6, asked + 0.8)


@pytest.mark.parametrize(
    ("version", "than", "older"),
    [
        ("9", "10", True),
        ("10", "9", False),
        ("10", "10", False),
        ("", "10", False),
        ("10", "", False),
        ("a9", "b1", False),
        ("٣", "9", False),
        ("-1", "5", False),
        ("1" * 5000, "5", False),
    ],
)
def test_versions(version: str, than: str, older: bool) -> None:
    assert is_older(version, than) is older
