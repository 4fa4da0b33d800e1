"""What the guide shows is what it ran, and a ✓ stands only where something holds."""

import os
import re
from pathlib import Path

import pytest

from hack.lab import LabError
from hack.tour.guide import Guide, Ran

COLUMNS = 80


@pytest.fixture(name="guide")
def guide_of_a_chapter(tmp_path: Path) -> Guide:
    guide = Guide(7, tmp_path, os.environ)
    guide.step("A step", "The reason for it.")
    return guide


def test_what_is_shown_is_what_was_run(guide: Guide, capsys: pytest.CaptureFixture[str]) -> None:
    command = "printf '%s\\n' one \\\n    two; echo three >&2"
    assert guide.run(command) == "one\ntwo\nthree\n"
    shown = capsys.readouterr().out
    assert "    # printf '%s\\n' one \\\n          two; echo three >&2\n      one\n      two\n      three\n" in shown
    assert guide.told[-1].shown == [Ran(command, "one\ntwo\nthree", 0)]


def test_a_claim_that_does_not_hold_is_no_claim(guide: Guide, capsys: pytest.CaptureFixture[str]) -> None:
    guide.claim("one is one", 1, 1)
    guide.claim("one is two", 1, 2)
    assert guide.close() == 1
    shown = capsys.readouterr().out
    assert "✓ one is one" in shown
    assert "✗ one is two" in shown
    assert "expected: 2\n      seen:     1\n" in shown
    assert guide.told[-1].shown == ["✓ one is one", "✗ one is two"]


@pytest.mark.parametrize(("command", "expect"), [("false", 0), ("exit 3", 4), ("true", 1)])
def test_an_unexpected_exit_code_ends_the_chapter(guide: Guide, command: str, expect: int) -> None:
    with pytest.raises(LabError, match=rf"^{command}: exit code \d, expected {expect}"):
        guide.run(command, expect=expect)


def test_a_look_is_not_shown(guide: Guide, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert guide.look("echo hidden") == "hidden\n"
    with pytest.raises(LabError, match="exit code 1: no"):
        guide.look("echo no; false")
    assert capsys.readouterr().out == ""


def test_a_program_is_known_by_its_variable_and_read_by_its_log(guide: Guide) -> None:
    program = guide.start("sh -c 'trap \"echo bye; exit 5\" TERM; echo up; while :; do sleep .02; done'", "PROGRAM")
    guide.wait(lambda: "up" in program.log(), "the program")
    assert guide.run("echo $PROGRAM").strip() == str(program.pid)
    assert program.stop() == 5
    assert program.log() == "up\nbye\n"


@pytest.mark.parametrize("output", ["x" * 300, "word " * 60, "a\tb\t" * 30, "--to-destination " * 9])
def test_long_lines_are_folded(guide: Guide, capsys: pytest.CaptureFixture[str], output: str) -> None:
    (guide.folder / "long").write_text(output)
    guide.run("cat long")
    guide.claim("a claim that is " + "very " * 30 + "long", 1, 1)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= COLUMNS
    assert re.sub(r"\s", "", output) in re.sub(r"\s", "", shown)


def test_no_colour_where_nobody_watches(guide: Guide, capsys: pytest.CaptureFixture[str]) -> None:
    guide.run("true")
    assert "\x1b" not in capsys.readouterr().out
