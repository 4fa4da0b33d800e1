"""In which order files of tests are run, by how long each took when it was last run: the longest first.

Then all processes of several end together, see side_by_side.py.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from tests.kit.paths import ROOT

SECONDS = {False: "kproxy/seconds", True: "kproxy/seconds-without-kernel"}
"""In pytest's cache: how long each file took when all tests were last run, and when those without a kernel were."""

LONG = {
    "tests/report/page/test_browser.py": 22.0,
    "tests/api/watch/test_reflector_faults.py": 25.0,
    "tests/api/watch/test_time_runs_backwards.py": 13.0,
    "tests/api/watch/test_reflector.py": 6.0,
    "tests/apiserver/test_faults.py": 6.0,
    "tests/flows/test_flows.py": 7.0,
    "tests/flows/test_properties.py": 5.0,
    "tests/deploy/test_scripts.py": 4.0,
    "tests/explain/test_decision.py": 4.0,
    "tests/explain/test_answer.py": 4.0,
    "tests/explain/test_recordings.py": 4.0,
    "tests/api/test_bad_objects.py": 4.0,
    "tests/api/transport/test_way_connected.py": 4.0,
    "tests/bench/test_all.py": 2.5,
    "tests/report/metrics/test_registry.py": 2.5,
    "tests/backends/nftables/test_properties.py": 2.5,
}
"""Seconds of some that need no kernel, for a checkout in which nothing has been run yet."""
_BYTES_A_SECOND = 20_000
"""As a guess for all others; some seconds are for the rest of a file."""
_APART = 12
"""Files: several processes run as many in a minute."""


def needs_kernel(file: Path) -> bool:
    """Tell whether all tests of a file do."""
    return "\npytestmark = pytest.mark.kernel\n" in file.read_text()


def spaced(files: Sequence[str], few: Collection[str]) -> list[str]:
    """Put the first of some few files first, and the others among the rest, as far apart as one of them takes."""
    order = [file for file in files if file not in few]
    for number, file in enumerate(one for one in files if one in few):
        order.insert(number * _APART, file)
    return order


def expected(files: Iterable[Path], known: Mapping[str, float]) -> dict[str, float]:
    """Return how many seconds each file will take."""
    names = {str(file.relative_to(ROOT)): file.stat().st_size for file in files}
    guesses = {name: LONG.get(name, size / _BYTES_A_SECOND) for name, size in names.items()}
    return {name: known.get(name, guess) for name, guess in guesses.items()}
