"""Files are run in the order of how long they take, as it is known or guessed."""

import itertools
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.kit.paths import ROOT
from tests.kit.spread import LONG, expected, needs_kernel, spaced


def test_what_is_known_counts_more_than_what_is_guessed() -> None:
    file = Path(__file__)
    name = str(file.relative_to(ROOT))
    assert expected([file], {name: 7.0}) == {name: 7.0}
    assert 0 < expected([file], {})[name] < 1


def test_files_said_to_take_long_are_there_and_need_no_kernel() -> None:
    assert not any(needs_kernel(ROOT / name) for name in LONG)


def test_a_file_that_needs_the_kernel_is_known_by_its_mark() -> None:
    assert needs_kernel(ROOT / "tests/packets/test_affinity.py")
    assert not needs_kernel(Path(__file__))


@given(number=st.integers(0, 60), few=st.sets(st.integers(0, 60)))
def test_files_that_wait_for_one_another_are_apart_and_no_file_is_lost(number: int, few: set[int]) -> None:
    files = [str(one) for one in range(number)]
    apart = {str(one) for one in few} & set(files)
    order = spaced(files, apart)
    assert sorted(order) == sorted(files)
    assert [file for file in order if file not in apart] == [file for file in files if file not in apart]
    places = [place for place, file in enumerate(order) if file in apart]
    left = number - len(apart)
    assert all(later - earlier >= 12 or later >= left for earlier, later in itertools.pairwise(places))
    assert places[:1] in ([], [0])
