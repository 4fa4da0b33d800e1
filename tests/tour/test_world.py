"""The world of a chapter ends with it, however it ends, and nothing of it was ever outside."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.lab import LabError, until
from hack.lab.processes import REPOSITORY
from hack.tour import world
from tests.tour.kit import tour

pytestmark = pytest.mark.kernel


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(name="staying")
def tour_that_stays() -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "hack.tour", "pod", "--stay"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    # Somebody who runs the tests beside something else has a shell that has them, and all they start, ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, text=True, cwd=REPOSITORY, **pipes) as process:  # type: ignore[call-overload]
        signal.signal(signal.SIGINT, before)
        yield process
        process.kill()


def first_process(staying: "subprocess.Popen[str]") -> int:
    """Read on until the chapter stands, and return its world's first process."""
    assert staying.stdout is not None
    for line in staying.stdout:
        if found := re.search(r"nsenter --target (\d+) --all", line):
            return int(found[1])
    raise AssertionError("the chapter does not stand")


def members(pid: int) -> list[int]:
    """All processes in the same process tree's namespace."""
    mine = Path(f"/proc/{pid}/ns/pid").stat().st_ino
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "ns/pid").stat().st_ino == mine:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_a_chapter_that_stays_can_be_entered_from_another_terminal(staying: "subprocess.Popen[str]") -> None:
    pid = first_process(staying)
    command = ["nsenter", "--target", str(pid), "--all", "ip", "netns", "exec", "item", "ip", "-brief", "address"]
    seen = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "10.244.0.3/24" in seen
    assert staying.stdin is not None
    staying.stdin.close()
    assert staying.wait(20) == 0
    until(lambda: not is_running(pid), 5, "the world to end")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_however_it_ends_all_ends_with_it(staying: "subprocess.Popen[str]", number: int) -> None:
    everybody = members(first_process(staying))
    assert len(everybody) > 1  # the chapter, a pause process, and soon a shell
    staying.send_signal(number)
    staying.wait(20)
    until(lambda: not any(map(is_running, everybody)), 5, "all of the world to end")


def test_without_root_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LabError, match=r"needs root: sudo hack/tour\.sh"):
        world.enter("hack.tour.play", ["wires"])


def test_tours_side_by_side_do_not_meet() -> None:
    command = [sys.executable, "-m", "hack.tour", "docker0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY) as other:
        assert tour("docker0").returncode == 0
        other.communicate()
    assert other.returncode == 0
