"""Tests in several processes come out as in one, whatever becomes of a process."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.kit.paths import ROOT
from tests.kit.waiting import PATIENCE, eventually

CONFTEST = """
import os, pathlib, time, pytest

HERE = pathlib.Path(__file__).parent

@pytest.fixture(scope="session")
def house():
    yield os.getpid()
    (HERE / f"torn-down-{os.getpid()}").touch()

@pytest.fixture
def met():
    "Wait until a test of another file does, too: a and b run at once."
    def met(own, other):
        (HERE / own).touch()
        while not (HERE / other).exists():
            time.sleep(0.01)
    return met

def pytest_runtest_protocol(item):
    return True if item.name == "test_of_which_nobody_tells" else None
"""
STORY = {
    "conftest.py": CONFTEST,
    "test_a.py": """
        import os, signal

        def test_meets(house, met, tmp_path):
            met("a", "b")
            (tmp_path / "own").touch()

        def test_is_killed(): os.kill(os.getpid(), signal.SIGKILL)
        def test_after_it(): pass
        def test_exits(): os._exit(0)
        def test_after_that(): pass
        def test_breaks_off(): raise KeyboardInterrupt
        """,
    "test_b.py": """
        import sys, warnings, pytest

        class OwnWarning(UserWarning): pass

        def test_meets(house, met, tmp_path):
            met("b", "a")
            (tmp_path / "own").touch()

        def test_fails():
            print("what b printed")
            one = "1"
            assert one == 2

        def test_warns_where_that_is_an_error(): warnings.warn("beware")

        @pytest.mark.filterwarnings("default")
        def test_warns(): warnings.warn(OwnWarning("watch out"))

        @pytest.mark.skip(reason="tired")
        def test_is_skipped(): pass

        @pytest.mark.xfail(reason="known")
        def test_is_known_to_fail(): assert False
        """,
    "test_c.py": """
        def test_of_which_nobody_tells(): pass

        def test_prints_half_a_character():
            print("what c printed: \\udcff")
            assert False

        def test_is_several(subtests):
            with subtests.test("of them one"):
                assert False
        """,
}


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(textwrap.dedent(text))


def command(folder: Path, *arguments: str) -> list[str]:
    plugins = ["-p", "tests.kit.side_by_side", "-p", "no:cacheprovider", "--basetemp", str(folder / "temp")]
    return [sys.executable, "-m", "pytest", *plugins, "--at-once", "2", "--rootdir", str(folder), *arguments]


def environment() -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "COLUMNS": "200",
    }


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *arguments), cwd=folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE
    )


@contextlib.contextmanager
def two_that_wait(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a run that is in the midst of two tests, which wait for a file named go."""
    wait = 'def test_waits(house, met): met("{name}", "go")\n'
    write(folder, {"conftest.py": CONFTEST, "test_a.py": wait.format(name="a"), "test_b.py": wait.format(name="b")})
    with subprocess.Popen(command(folder), cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            eventually(lambda: (folder / "a").exists() and (folder / "b").exists())
            yield process
        finally:
            process.kill()
            (folder / "go").touch()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What was printed of all that can become of tests, and where they ran."""
    folder = tmp_path_factory.mktemp("story")
    write(folder, STORY)
    done = run(folder, "-rA", "-W", "error", "--durations", "3", "--junitxml", "story.xml")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    return folder, done.stdout


def test_each_test_has_its_outcome_whatever_befell_its_process(story: tuple[Path, str]) -> None:
    said = re.findall(r"^([A-Z]{4,})(?:\[.*?\])? (.*)", story[1], re.MULTILINE)
    end = "the process that ran it has ended: "
    assert sorted(said) == [
        ("FAILED", f"test_a.py::test_breaks_off - {end}KeyboardInterrupt()"),
        ("FAILED", f"test_a.py::test_exits - {end}exit status 0"),
        ("FAILED", f"test_a.py::test_is_killed - {end}signal 9, Killed"),
        ("FAILED", "test_b.py::test_fails - AssertionError: assert '1' == 2"),
        ("FAILED", "test_b.py::test_warns_where_that_is_an_error - UserWarning: beware"),
        ("FAILED", "test_c.py::test_of_which_nobody_tells - no process told how it went"),
        ("FAILED", "test_c.py::test_prints_half_a_character - assert False"),
        ("PASSED", "test_a.py::test_after_it"),
        ("PASSED", "test_a.py::test_after_that"),
        ("PASSED", "test_a.py::test_meets"),
        ("PASSED", "test_b.py::test_meets"),
        ("PASSED", "test_b.py::test_warns"),
        ("PASSED", "test_c.py::test_is_several"),
        ("SKIPPED", "[1] test_b.py:20: tired"),
        ("SUBFAILED", "test_c.py::test_is_several - assert False"),
        ("XFAIL", "test_b.py::test_is_known_to_fail - known"),
    ]


def test_all_is_told_in_one_report(story: tuple[Path, str]) -> None:
    folder, said = story
    assert re.search(r"= 8 failed, 6 passed, 1 skipped, 1 xfailed, 1 warning in ", said)
    assert "OwnWarning: watch out" in said
    assert "slowest 3 durations" in said
    assert len(list(ET.parse(folder / "story.xml").iter("testcase"))) == 15  # noqa: S314


def test_what_was_printed_stands_by_the_test_that_did(story: tuple[Path, str]) -> None:
    sections = re.split(r"^_+ (\w+) _+$", story[1], flags=re.MULTILINE)
    told = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert [name for name, text in told.items() if "what b printed" in text] == ["test_fails"]
    assert [name for name, text in told.items() if "what c printed" in text] == ["test_prints_half_a_character"]
    assert "raise KeyboardInterrupt" in told["test_breaks_off"]


def test_processes_share_no_folder_and_tear_down_their_own(story: tuple[Path, str]) -> None:
    folder, _ = story
    assert len({path.parent.parent for path in folder.glob("temp/*/*/own")}) == 2
    # Of the two that set up what belongs to a session, one was killed.
    assert len(list(folder.glob("torn-down-*"))) == 1


@pytest.mark.parametrize(
    ("chosen", "code", "summary"),
    [
        pytest.param("sound", pytest.ExitCode.OK, "2 passed, 1 deselected in", id="all is well"),
        pytest.param("late", pytest.ExitCode.TESTS_FAILED, "1 passed, 2 deselected, 1 error in", id="a late failure"),
        pytest.param("none", pytest.ExitCode.NO_TESTS_COLLECTED, "3 deselected in", id="no test"),
    ],
)
def test_exit_code_says_how_it_went(tmp_path: Path, chosen: str, code: int, summary: str) -> None:
    late = """
        import pytest

        @pytest.fixture(scope="session")
        def tired():
            yield
            raise OSError("will not go")

        def test_late(tired): pass
        """
    sound = "def test_sound(): pass\n"
    write(tmp_path, {"test_a.py": sound, "test_b.py": sound, "test_c.py": late})
    done = run(tmp_path, "-k", chosen)
    assert (done.returncode, summary in done.stdout) == (code, True), done.stdout
    assert ("OSError('will not go')" in done.stdout) == (chosen == "late")


def test_x_ends_all_and_tears_down(tmp_path: Path) -> None:
    failing = """
        def test_fails(met):
            met("a", "b")
            assert False

        def test_after_it(): pass
        """
    write(
        tmp_path,
        {"conftest.py": CONFTEST, "test_a.py": failing, "test_b.py": 'def test_waits(house, met): met("b", "go")\n'},
    )
    done = run(tmp_path, "-x")
    assert (done.returncode, "= 1 failed in " in done.stdout) == (pytest.ExitCode.TESTS_FAILED, True), done.stdout
    assert len(list(tmp_path.glob("torn-down-*"))) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_is_asked_to_end_ends_all_and_tears_down(tmp_path: Path, number: signal.Signals) -> None:
    with two_that_wait(tmp_path) as first:
        first.send_signal(number)
        said, _ = first.communicate(timeout=PATIENCE)
    assert "no tests ran" in said
    assert first.returncode == {signal.SIGINT: pytest.ExitCode.INTERRUPTED, signal.SIGTERM: 143}[number]
    assert len(list(tmp_path.glob("torn-down-*"))) == 2


def test_none_outlives_the_first(tmp_path: Path) -> None:
    with two_that_wait(tmp_path) as first:
        first.kill()
        (tmp_path / "go").touch()
        first.communicate(timeout=PATIENCE)  # which ends when nobody is left who could print
    assert len(list(tmp_path.glob("torn-down-*"))) == 2
