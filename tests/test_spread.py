"""Files are dealt out whole, each once, and evenly by the time they take."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.kit.paths import ROOT
from tests.kit.spread import LONG, expected, needs_kernel, shares


@given(seconds=st.dictionaries(st.text(), st.floats(0, 100)), number=st.integers(1, 9))
def test_every_file_is_in_one_share_and_none_has_more_than_one_file_over_the_least(
    seconds: dict[str, float], number: int
) -> None:
    dealt = shares(seconds, number)
    assert len(dealt) == number
    assert sorted(file for share in dealt for file in share) == sorted(seconds)
    loads = [sum(seconds[file] for file in share) for share in dealt]
    assert max(loads) - min(loads) <= max(seconds.values(), default=0) + 1e-9


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
