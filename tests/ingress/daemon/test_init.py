"""Process 1 of a container: what becomes of the child that does the work, and of all others."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ingress.daemon.kit import REPOSITORY
from tests.kit.waiting import eventually

WORK = """
import os, signal, sys, time
from pathlib import Path
from kproxy.ingress.daemon.init import surviving
folder = Path(sys.argv[1])

def work():
    seen = []
    signal.signal(signal.SIGHUP, lambda *_: (folder / "hup").touch())
    signal.signal(signal.SIGTERM, lambda *_: (folder / "term").touch())
    with (folder / "children").open("a") as out:
        out.write(f"{os.getpid()}\\n")
    while not (folder / "term").exists():
        time.sleep(0.02)
    return 7

sys.exit(surviving(work, first=True))
"""


def children(folder: Path) -> list[int]:
    path = folder / "children"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def parent(tmp_path: Path) -> subprocess.Popen[bytes]:
    with (tmp_path / "log").open("wb") as log:
        started = subprocess.Popen([sys.executable, "-c", WORK, str(tmp_path)], cwd=REPOSITORY, stderr=log)
    eventually(lambda: children(tmp_path))
    return started


def test_a_child_that_is_killed_is_replaced(tmp_path: Path, parent: subprocess.Popen[bytes]) -> None:
    os.kill(children(tmp_path)[0], signal.SIGKILL)
    eventually(lambda: len(children(tmp_path)) == 2)
    assert parent.poll() is None
    assert "ended by SIGKILL; starting it again" in (tmp_path / "log").read_text()
    parent.terminate()
    assert parent.wait(10) == 7


def test_signals_are_passed_on_and_the_exit_code_comes_back(tmp_path: Path, parent: subprocess.Popen[bytes]) -> None:
    parent.send_signal(signal.SIGHUP)
    eventually(lambda: (tmp_path / "hup").exists())
    assert len(children(tmp_path)) == 1
    parent.terminate()
    assert parent.wait(10) == 7
    assert len(children(tmp_path)) == 1
