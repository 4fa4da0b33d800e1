"""Tests in several processes come out as in one, whatever becomes of a process."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

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


class Starter:
    """Runs pytest in processes of their own, one at a time: forks, as most of a run would go into imports."""

    PROGRAM = """
import contextlib, gc, io, json, os, sys, pytest
with contextlib.redirect_stdout(io.StringIO()):
    pytest.main(["-p", "tests.kit.side_by_side", "--version", "--version"])  # imports all of its plugins
gc.freeze()
for line in sys.stdin:
    folder, arguments = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(folder)
        said = os.open("said", os.O_WRONLY)
        print("began", os.getpid(), flush=True)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.exit(pytest.main(arguments))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

    def __init__(self) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "COLUMNS": "200",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd="/",  # where no conftest.py is
        )

    @contextlib.contextmanager
    def start(self, folder: Path, *arguments: str) -> Iterator["Run"]:
        """Run tests at once in two processes; kill them at the end, where they are still at it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        plugins = ["-p", "tests.kit.side_by_side", "-p", "no:cacheprovider", "--basetemp", str(folder / "temp")]
        given = [*plugins, "--at-once", "2", "--rootdir", str(folder), *arguments]
        os.mkfifo(folder / "said")
        self.process.stdin.write(json.dumps([str(folder), given]).encode() + b"\n")
        self.process.stdin.flush()
        # Until somebody writes, opening a pipe would wait; who has told its number has opened it.
        with os.fdopen(os.open(folder / "said", os.O_RDONLY | os.O_NONBLOCK)) as said:
            began, pid = self.process.stdout.readline().split()
            assert began == b"began"
            run = Run(int(pid), said, self.process.stdout)
            os.set_blocking(said.fileno(), True)
            try:
                yield run
            finally:
                run.end()

    def run(self, folder: Path, *arguments: str) -> tuple[int, str]:
        """Run tests to their end; return the exit code and what was printed."""
        with self.start(folder, *arguments) as run:
            return run.outcome()

    def stop(self) -> None:
        self.process.communicate()


class Run:
    """One that is under way."""

    def __init__(self, pid: int, said: IO[str], ended: IO[bytes]) -> None:
        self.pid = pid
        self._said = said
        self._ended = ended
        self._has_ended = False

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def outcome(self) -> tuple[int, str]:
        """Wait until nobody is left who could print; return the exit code, negative for a signal, and all of it."""
        impatient = threading.Timer(PATIENCE, self.send, [signal.SIGKILL])
        impatient.start()
        said = self._said.read()
        code = int(self._ended.readline())
        impatient.cancel()
        self._has_ended = True
        return code, said

    def end(self) -> None:
        if not self._has_ended:
            self.send(signal.SIGKILL)
            self.outcome()


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    starter = Starter()
    yield starter
    starter.stop()


@contextlib.contextmanager
def two_that_wait(starter: Starter, folder: Path) -> Iterator[Run]:
    """Start a run that is in the midst of two tests, which wait for a file named go."""
    wait = 'def test_waits(house, met): met("{name}", "go")\n'
    write(folder, {"conftest.py": CONFTEST, "test_a.py": wait.format(name="a"), "test_b.py": wait.format(name="b")})
    with starter.start(folder) as run:
        try:
            eventually(lambda: (folder / "a").exists() and (folder / "b").exists())
            yield run
        finally:
            (folder / "go").touch()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, starter: Starter) -> tuple[Path, str]:
    """What was printed of all that can become of tests, and where they ran."""
    folder = tmp_path_factory.mktemp("story")
    write(folder, STORY)
    code, said = starter.run(folder, "-rA", "-W", "error", "--durations", "3", "--junitxml", "story.xml")
    assert code == pytest.ExitCode.TESTS_FAILED, said
    return folder, said


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
def test_exit_code_says_how_it_went(starter: Starter, tmp_path: Path, chosen: str, code: int, summary: str) -> None:
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
    ended, said = starter.run(tmp_path, "-k", chosen)
    assert (ended, summary in said) == (code, True), said
    assert ("OSError('will not go')" in said) == (chosen == "late")


def test_x_ends_all_and_tears_down(starter: Starter, tmp_path: Path) -> None:
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
    code, said = starter.run(tmp_path, "-x")
    assert (code, "= 1 failed in " in said) == (pytest.ExitCode.TESTS_FAILED, True), said
    assert len(list(tmp_path.glob("torn-down-*"))) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_is_asked_to_end_ends_all_and_tears_down(starter: Starter, tmp_path: Path, number: signal.Signals) -> None:
    with two_that_wait(starter, tmp_path) as first:
        first.send(number)
        code, said = first.outcome()
    assert "no tests ran" in said
    assert code == {signal.SIGINT: pytest.ExitCode.INTERRUPTED, signal.SIGTERM: 143}[number]
    assert len(list(tmp_path.glob("torn-down-*"))) == 2


def test_none_outlives_the_first(starter: Starter, tmp_path: Path) -> None:
    with two_that_wait(starter, tmp_path) as first:
        first.send(signal.SIGKILL)
        (tmp_path / "go").touch()
        first.outcome()  # which is had when nobody is left who could print
    assert len(list(tmp_path.glob("torn-down-*"))) == 2
